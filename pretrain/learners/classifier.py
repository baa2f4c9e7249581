"""The classifier: layers under a softmax output, trained by cross-entropy. Fine-tuning is this objective.

::

    logits = h_L W + b,   L = - log softmax(logits)[y]

Initial hidden weights are U(-1/sqrt(n_in), 1/sqrt(n_in)), the recipe of 2009 (Larochelle et al.), or Glorot's or He's;
a stack of pretrained layers takes their place through `pretrain.tuning.fine_tune`. The output layer starts at zero:
every class equally likely.

Dropout (Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, JMLR 15:1929-1958, 2014) zeroes each unit with
probability p while training, and divides those that are kept by 1 - p, so that a preactivation above keeps its mean; at
evaluation nothing is dropped or scaled. The paper does not divide, and multiplies the weights above by 1 - p at
evaluation: it is the same network, its weights in other units.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.draws import unit_uniform
from pretrain.layers import ACTIVATIONS, INITIALIZATIONS, Dense, check_initialization, uniform
from pretrain.network import Network
from pretrain.types import Batch, Inputs, Metrics, Needs

Initialization = Literal["uniform", "glorot", "he"]


def output_layer(key: Array, n_in: int, n_classes: int, scale: float | Array) -> Dense:
    """A new linear layer of logits: uniform weights, zero biases."""
    return Dense(uniform(key, n_in, n_classes, scale), jnp.zeros((n_classes,)), "linear")


def classification(logits: Array, labels: Array | None) -> Metrics:
    """``error`` in percent, NaN where the loss is, and ``loss``, the mean cross-entropy in nats."""
    assert labels is not None
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    error = 100.0 * (logits.argmax(axis=-1) != labels).mean()
    return {"error": jnp.where(jnp.isfinite(loss), error, jnp.nan), "loss": loss}


def drop(x: Array, key: Array, rate: float | Array) -> Array:
    """Zeroes each value with probability ``rate`` and divides the others by ``1 - rate``: the mean stays."""
    return x * (unit_uniform(key, x.shape) >= rate) / (1.0 - rate)


def _check_dropout(**rates: Any) -> None:
    for name, rate in rates.items():
        if isinstance(rate, int | float) and not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} is the probability of dropping a unit, from 0 to below 1; got {rate}")


@struct.dataclass
class Classifier:
    """A feed-forward classifier.

    Attributes:
        n_classes: labels are ``0 .. n_classes - 1``.
        n_hidden: units of each hidden layer, from the bottom up; () is softmax regression.
        activation: of the hidden layers, a key of `pretrain.layers.ACTIVATIONS`.
        initial_scale: factor on the initial hidden weights.
        output_scale: initial output weights are U(-output_scale/sqrt(n_in), output_scale/sqrt(n_in)); 0 starts at zero.
        initialization: of the hidden weights, a key of `pretrain.layers.INITIALIZATIONS`: ``uniform`` for
            U(-1/sqrt(n_in), 1/sqrt(n_in)), ``glorot`` for tanh and sigmoid units, ``he`` for rectified linear ones.
        dropout: probability of dropping each hidden unit while training; None is no dropout. Layers that stay fixed
            drop none: what they hand on beside their input would be dropped twice.
        input_dropout: the same of each value that the lowest trained layer sees: of an input, or, above layers that
            stay fixed, of one of their codes.
    """

    n_classes: int = struct.field(pytree_node=False)
    n_hidden: tuple[int, ...] = struct.field(pytree_node=False, default=())
    activation: str = struct.field(pytree_node=False, default="sigmoid")
    initial_scale: float | Array = 1.0
    output_scale: float | Array = 0.0
    initialization: Initialization = struct.field(pytree_node=False, default="uniform")
    dropout: float | Array | None = None
    input_dropout: float | Array | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.n_hidden, tuple):
            raise ValueError(f"n_hidden must be a tuple of layer sizes; got {self.n_hidden!r}: write (units,)")
        check_sizes(n_classes=self.n_classes, **{f"n_hidden[{i}]": n for i, n in enumerate(self.n_hidden)})
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        check_initialization(self.initialization)
        _check_dropout(dropout=self.dropout, input_dropout=self.input_dropout)

    @property
    def inputs(self) -> Inputs:
        return "real"

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("labels",)

    def init(self, key: Array, data: Batch) -> tuple[Network, Any]:
        """A network of random layers."""
        keys = jax.random.split(key, len(self.n_hidden) + 1)
        sizes, draw = (data.x.shape[-1], *self.n_hidden), INITIALIZATIONS[self.initialization]
        hidden = tuple(
            Dense(draw(k, n_in, n_out, self.initial_scale), jnp.zeros((n_out,)), self.activation)
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=False)
        )
        output = output_layer(keys[-1], sizes[-1], self.n_classes, self.output_scale)
        return Network((*hidden, output), head=True), ()

    def _training_logits(self, params: Network, x: Array, key: Array) -> Array:
        """``[batch, n_classes]`` logits with inputs and hidden units dropped."""
        if self.input_dropout is not None:
            x = drop(x, jax.random.fold_in(key, 0), self.input_dropout)
        for index, layer in enumerate(params.layers[:-1]):
            x = layer(x)
            if self.dropout is not None and not getattr(layer, "fixed", False):
                x = drop(x, jax.random.fold_in(key, index + 1), self.dropout)
        return params.layers[-1](x)

    def measures(self, logits: Array, labels: Array | None) -> Metrics:
        """``error`` in percent and the ``loss`` that is descended, from logits ``[rows, n_classes]``.

        Raises:
            ValueError: if the network has another number of outputs.
        """
        if logits.shape[-1] != self.n_classes:
            raise ValueError(
                f"the network has {logits.shape[-1]} outputs, but n_classes={self.n_classes}: they must agree"
            )
        return classification(logits, labels)

    def gradient(self, params: Network, state: Any, batch: Batch, key: Array) -> tuple[Network, Any, Metrics]:
        """The gradient of the mean cross-entropy, under dropout; reports ``loss`` in nats and ``error`` in percent."""

        def objective(params: Network) -> tuple[Array, Metrics]:
            measures = self.measures(self._training_logits(params, batch.x, key), batch.y)
            return measures["loss"], measures

        grads, measures = jax.grad(objective, has_aux=True)(params)
        return grads, state, measures

    def evaluate(self, params: Network, batch: Batch, key: Array) -> Metrics:
        """``error``: misclassified rows in percent, NaN where the loss is; ``loss``: mean cross-entropy in nats."""
        return self.measures(params(batch.x), batch.y)

    def layer(self, params: Network) -> Network:
        """The whole network."""
        return params


@struct.dataclass
class SquaredErrorClassifier(Classifier):
    """A classifier that descends the squared error of its softmax outputs, ``|softmax(logits) - onehot(y)|^2/classes``.

    For comparison: where an output is wrong and saturated this loss is flat, and the cross-entropy is steep (Glorot &
    Bengio, AISTATS 2010).
    """

    def measures(self, logits: Array, labels: Array | None) -> Metrics:
        """``error`` in percent and ``loss``, the mean squared error of an output."""
        measures = super().measures(logits, labels)
        targets = jax.nn.one_hot(labels, self.n_classes)
        return measures | {"loss": jnp.square(jax.nn.softmax(logits) - targets).mean()}


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
