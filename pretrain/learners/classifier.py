"""The classifier: layers under a softmax output, trained by cross-entropy. Fine-tuning is this objective.

::

    logits = h_L W + b,   L = - log softmax(logits)[y]

Initial hidden weights are U(-1/sqrt(n_in), 1/sqrt(n_in)), the recipe of 2009 (Larochelle et al.); a stack of
pretrained layers takes their place through `pretrain.stack.fine_tune`. The output layer starts at zero: every class
equally likely.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from pretrain.checks import check_sizes
from pretrain.layers import ACTIVATIONS, Dense, uniform
from pretrain.network import Network
from pretrain.types import Batch, Metrics


def output_layer(key: Array, n_in: int, n_classes: int, scale: float | Array) -> Dense:
    """A new linear layer of logits: uniform weights, zero biases."""
    return Dense(uniform(key, n_in, n_classes, scale), jnp.zeros((n_classes,)), "linear")


@struct.dataclass
class Classifier:
    """A feed-forward classifier.

    Attributes:
        n_classes: labels are ``0 .. n_classes - 1``.
        n_hidden: units of each hidden layer, from the bottom up; () is softmax regression.
        activation: of the hidden layers, a key of `pretrain.layers.ACTIVATIONS`.
        initial_scale: initial hidden weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
        output_scale: the same of the output layer; 0 starts it at zero.
    """

    n_classes: int = struct.field(pytree_node=False)
    n_hidden: tuple[int, ...] = struct.field(pytree_node=False, default=())
    activation: str = struct.field(pytree_node=False, default="sigmoid")
    initial_scale: float | Array = 1.0
    output_scale: float | Array = 0.0

    unit_inputs = False
    needs_labels = True

    def __post_init__(self) -> None:
        if not isinstance(self.n_hidden, tuple):
            raise ValueError(f"n_hidden must be a tuple of layer sizes; got {self.n_hidden!r}: write (units,)")
        check_sizes(n_classes=self.n_classes, **{f"n_hidden[{i}]": n for i, n in enumerate(self.n_hidden)})
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")

    def init(self, key: Array, data: Batch) -> tuple[Network, Any]:
        """A network of random layers."""
        keys = jax.random.split(key, len(self.n_hidden) + 1)
        sizes = (data.x.shape[-1], *self.n_hidden)
        hidden = tuple(
            Dense(uniform(k, n_in, n_out, self.initial_scale), jnp.zeros((n_out,)), self.activation)
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=False)
        )
        output = output_layer(keys[-1], sizes[-1], self.n_classes, self.output_scale)
        return Network((*hidden, output), head=True), ()

    def gradient(self, params: Network, state: Any, batch: Batch, key: Array) -> tuple[Network, Any, Metrics]:
        """The gradient of the mean cross-entropy; reports ``loss`` in nats and ``error`` in percent."""

        def objective(params: Network) -> tuple[Array, Metrics]:
            measures = self.evaluate(params, batch, key)
            return measures["loss"], measures

        grads, measures = jax.grad(objective, has_aux=True)(params)
        return grads, state, measures

    def evaluate(self, params: Network, batch: Batch, key: Array) -> Metrics:
        """``error``: misclassified rows in percent, NaN where the loss is; ``loss``: mean cross-entropy in nats."""
        assert batch.y is not None
        logits = params(batch.x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean()
        error = 100.0 * (logits.argmax(axis=-1) != batch.y).mean()
        return {"error": jnp.where(jnp.isfinite(loss), error, jnp.nan), "loss": loss}

    def layer(self, params: Network) -> Network:
        """The whole network."""
        return params


@struct.dataclass
class SupervisedGreedy(Classifier):
    """Supervised pretraining of one layer: the hidden layer of a one-hidden-layer classifier, whose output is thrown
    away.

    Reference: Bengio, Lamblin, Popovici & Larochelle, *Greedy layer-wise training of deep networks*, NIPS 2006.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.n_hidden) != 1:
            raise ValueError(
                f"supervised pretraining trains one hidden layer; got n_hidden={self.n_hidden}: give (units,)"
            )

    def layer(self, params: Network) -> Dense:  # type: ignore[override]
        """The hidden layer."""
        return params.layers[0]  # type: ignore[return-value]
