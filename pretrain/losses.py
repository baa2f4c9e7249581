"""Reconstruction losses shared by the autoencoders."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import optax
from jax import Array

Loss = Literal["cross_entropy", "squared_error"]


def reconstruction_loss(loss: Loss, target: Array, preactivation: Array) -> Array:
    """The loss of a decoder's ``preactivation`` ``[..., features]`` against ``target``, summed over features:
    ``[...]``.

    ``cross_entropy`` is in nats and goes with a sigmoid output; ``squared_error`` goes with a linear one.
    """
    if loss == "cross_entropy":
        return optax.sigmoid_binary_cross_entropy(preactivation, target).sum(axis=-1)
    return jnp.square(target - preactivation).sum(axis=-1)


def check_loss(loss: str) -> None:
    """Raises: ValueError: if ``loss`` is not one of `Loss`."""
    if loss not in ("cross_entropy", "squared_error"):
        raise ValueError(f"loss must be 'cross_entropy' or 'squared_error'; got {loss!r}")
