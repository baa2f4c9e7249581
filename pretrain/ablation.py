"""What of a pretrained stack a network starts from: its lower layers alone, or only how its weights are distributed.

Two controls that tell where pretraining's advantage comes from. If it were a better scale of the weights, weights drawn
from the distribution of the pretrained ones would do as well; if it were the upper layers, a stack whose upper layers
are random would do as badly as none.

Reference: Erhan, Bengio, Courville, Manzagol, Vincent & Bengio, *Why does unsupervised pre-training help deep
learning?*, JMLR 11:625-660 (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain.layers import INITIALIZATIONS, Dense, check_initialization
from pretrain.stack import Pretrained
from pretrain.types import Layer


def keep_lowest(
    layers: Sequence[Layer] | Pretrained, n: int, keys: Array, *, initialization: str = "uniform", scale: float = 1.0
) -> tuple[Layer, ...]:
    """The layers, of which all but the ``n`` lowest start anew, as those of a network without pretraining do.

    Args:
        layers: from the bottom up, with a member axis, or the stack; those above ``n`` must be `Dense`.
        n: how many keep what they learned.
        keys: ``[members]`` random keys.
        initialization: of the new weights, a key of `pretrain.layers.INITIALIZATIONS`; their biases are 0.
        scale: of the new weights.

    Raises:
        ValueError: if ``n`` is no number of layers, a layer above is not `Dense`, or there is no such initialization.
    """
    layers = layers.layers if isinstance(layers, Pretrained) else layers
    if not 0 <= n <= len(layers):
        raise ValueError(f"n must lie in 0..{len(layers)}, the number of layers; got {n}")
    check_initialization(initialization)
    draw = INITIALIZATIONS[initialization]

    def anew(layer: Dense, key: Array) -> Dense:
        weights = draw(key, layer.n_in, layer.n_out, scale)
        return layer.replace(weights=weights, bias=jnp.zeros_like(layer.bias))  # type: ignore[attr-defined]

    return tuple(layer if index < n else _mapped(anew, layer, keys, index) for index, layer in enumerate(layers))


def shuffle(layers: Sequence[Layer] | Pretrained, keys: Array) -> tuple[Layer, ...]:
    """The layers with the weights of each in random order, and its biases too: only their distribution is kept.

    Args:
        layers: from the bottom up, `Dense`, with a member axis, or the stack.
        keys: ``[members]`` random keys.

    Raises:
        ValueError: if a layer is not `Dense`.
    """
    layers = layers.layers if isinstance(layers, Pretrained) else layers

    def shuffled(layer: Dense, key: Array) -> Dense:
        first, second = jax.random.split(key)
        weights = jax.random.permutation(first, layer.weights.ravel()).reshape(layer.weights.shape)
        return layer.replace(weights=weights, bias=jax.random.permutation(second, layer.bias))  # type: ignore[attr-defined]

    return tuple(_mapped(shuffled, layer, keys, index) for index, layer in enumerate(layers))


def _mapped(function: Any, layer: Layer, keys: Array, index: int) -> Layer:
    """A function of one member's layer and key, over the members."""
    if not isinstance(layer, Dense):
        raise ValueError(f"layer {index + 1} is a {type(layer).__name__}: only Dense layers can start anew")
    return jax.vmap(lambda layer, key: function(layer, jax.random.fold_in(key, index)))(layer, keys)
