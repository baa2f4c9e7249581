"""Kernels: inner products in a feature space, of rows with landmarks.

::

    rbf         k(x, l) = exp(-gamma |x - l|^2)
    polynomial  k(x, l) = (gamma x.l + coef0)^degree

Products are taken in full float32: accelerators' shorter formats leave three digits of a squared distance.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array


def rbf(x: Array, landmarks: Array, gamma: Array, coef0: Array, degree: int) -> Array:
    """``[..., landmarks]`` from ``x`` of ``[..., features]``; ``coef0`` and ``degree`` are not used."""
    centre = landmarks.mean(axis=0)  # distances far from the origin would cancel
    x, landmarks = x - centre, landmarks - centre
    squares = jnp.square(x).sum(axis=-1, keepdims=True) + jnp.square(landmarks).sum(axis=-1)
    squared_distance = squares - 2.0 * jnp.matmul(x, landmarks.T, precision="highest")
    return jnp.exp(-gamma * jnp.maximum(squared_distance, 0.0))


def polynomial(x: Array, landmarks: Array, gamma: Array, coef0: Array, degree: int) -> Array:
    """``[..., landmarks]`` from ``x`` of ``[..., features]``."""
    return (gamma * jnp.matmul(x, landmarks.T, precision="highest") + coef0) ** degree


KERNELS: dict[str, Callable[[Array, Array, Array, Array, int], Array]] = {"rbf": rbf, "polynomial": polynomial}
"""The kernels a layer may name."""
