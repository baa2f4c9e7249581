"""Layers: callable pytrees, passed up from one learner to the next.

A layer owns its arrays as leaves and its choices (the activation) as static fields, so that it can be differentiated,
vmapped over members, saved and restored like any other pytree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from pretrain.types import Batch, Layer


def linear(x: Array) -> Array:
    """The identity: logits, and real-valued reconstructions."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "linear": linear,
}
"""The activations a layer may name. Names, not functions, are stored, so that a saved network can be checked."""


@struct.dataclass
class Dense:
    """An affine map and an activation: ``activation(x @ weights + bias)``.

    Attributes:
        weights: ``[n_in, n_out]``.
        bias: ``[n_out]``.
        activation: a key of `ACTIVATIONS`.
    """

    weights: Array
    bias: Array
    activation: str = struct.field(pytree_node=False, default="sigmoid")

    def preactivation(self, x: Array) -> Array:
        """Maps ``[..., n_in]`` to ``[..., n_out]``, before the activation."""
        return x @ self.weights + self.bias

    def __call__(self, x: Array) -> Array:
        return ACTIVATIONS[self.activation](self.preactivation(x))


def uniform(key: Array, n_in: int, n_out: int, scale: Array | float = 1.0) -> Array:
    """Weights ``[n_in, n_out]`` drawn from U(-scale/sqrt(n_in), scale/sqrt(n_in)), the initialisation of 2009."""
    return jax.random.uniform(key, (n_in, n_out), minval=-1.0, maxval=1.0) * scale / jnp.sqrt(n_in)


def logit_mean(x: Array) -> Array:
    """The logit of each feature's mean over rows ``[rows, features]`` in [0, 1]: the bias of a unit that predicts it.

    Means are kept within [1/(rows + 1), rows/(rows + 1)]: a pixel that is never on gets a finite bias.
    """
    rows = x.shape[0]
    mean = jnp.clip(x.mean(axis=0), 1.0 / (rows + 1), rows / (rows + 1))
    return jnp.log(mean) - jnp.log1p(-mean)


def compose(layers: Sequence[Layer], x: Array) -> Array:
    """Applies the layers from the bottom up: ``[..., n_in]`` to ``[..., n_out]``."""
    for layer in layers:
        x = layer(x)
    return x


def through(layers: Sequence[Layer], batch: Batch) -> Batch:
    """The batch as the next layer sees it: ``x`` and ``pair`` mapped, labels kept."""
    if not layers:
        return batch
    pair = None if batch.pair is None else compose(layers, batch.pair)
    return batch._replace(x=compose(layers, batch.x), pair=pair)
