"""The perceptron of 1957, for several classes: it learns from its mistakes alone.

::

    predicted = argmax_k (x W + b)_k
    if predicted != y:   W_y += rate x,  W_predicted -= rate x,  and the biases likewise

There is no loss and no gradient of one; the update is that of Rosenblatt's rule with one output unit a class (Kesler's
construction, in Nilsson, *Learning machines*, 1965), its mean over the minibatch where that has more than one row.

Reference: Rosenblatt, *The perceptron: a probabilistic model for information storage and organization in the brain*,
Psychological Review 65:386-408 (1958).
"""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from pretrain import struct
from pretrain.learners.classifier import Classifier, classification
from pretrain.network import Network
from pretrain.types import Batch, Metrics


@struct.dataclass
class Perceptron(Classifier):
    """A layer of threshold units, one a class; takes a plain `Sgd`, at any rate, for its weights start at zero.

    Raises:
        ValueError: if it is given hidden layers or dropout, which the rule cannot train.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_hidden or self.dropout is not None or self.input_dropout is not None:
            raise ValueError("a perceptron has no hidden layers and no dropout: leave them out, or use Classifier")

    def gradient(self, params: Network, state: Any, batch: Batch, key: Array) -> tuple[Network, Any, Metrics]:
        """Less the mean update of the rows, so that descending it is the rule."""
        logits = params(batch.x)
        predicted = jax.nn.one_hot(logits.argmax(axis=-1), self.n_classes)
        wrong = (predicted - jax.nn.one_hot(batch.y, self.n_classes)) / len(batch.x)  # zero where it is right
        (layer,) = params.layers
        grads = layer.replace(weights=batch.x.T @ wrong, bias=wrong.sum(axis=0))  # type: ignore[attr-defined]
        return params.replace(layers=(grads,)), state, classification(logits, batch.y)  # type: ignore[attr-defined]
