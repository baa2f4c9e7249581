"""Means and covariances of features of many rows, a block of rows at a time, and their eigenvectors."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

BLOCK = 1_000
"""Rows whose features exist at once."""


def moments(features: Callable[[Array], Array], x: Array, origin: Array) -> tuple[Array, Array]:
    """The mean ``[n]`` and the covariance ``[n, n]`` (divided by the rows) of ``features`` over all rows of ``x``.

    Args:
        features: maps ``[block, n_in]`` to ``[block, n]``.
        x: ``[rows, n_in]``.
        origin: ``[n]``, near the mean; sums are taken from there, so that a large mean costs no digits.
    """
    rows = x.shape[0]
    block = min(BLOCK, rows)

    def add(sums: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        first = jnp.minimum(start, rows - block)  # the last block overlaps the one before
        counted = first + jnp.arange(block) >= start
        seen = features(jax.lax.dynamic_slice_in_dim(x, first, block)) - origin
        seen = jnp.where(counted[:, None], seen, 0.0)
        return (sums[0] + seen.sum(axis=0), sums[1] + jnp.matmul(seen.T, seen, precision="highest")), None

    n = origin.shape[0]
    zeros = (jnp.zeros((n,)), jnp.zeros((n, n)))
    (total, products), _ = jax.lax.scan(add, zeros, jnp.arange(0, rows, block))
    offset = total / rows
    return origin + offset, products / rows - jnp.outer(offset, offset)


def mean_of_rows(x: Array) -> Array:
    """The mean ``[features]`` of ``[rows, features]``, corrected once for rounding; of constant features exactly."""
    mean = x[0] + (x - x[0]).mean(axis=0)
    return mean + (x - mean).mean(axis=0)


def leading(covariance: Array, n: int) -> tuple[Array, Array]:
    """The ``n`` largest eigenvalues ``[n]`` of ``[m, m]``, falling, and their eigenvectors ``[m, n]``."""
    values, vectors = jnp.linalg.eigh(covariance)
    return values[::-1][:n], vectors[:, ::-1][:, :n]


def inverse_root(values: Array) -> Array:
    """``1 / sqrt(values)``, and 0 where they are 0 or below."""
    positive = values > 0.0
    return jnp.where(positive, 1.0 / jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)


def signs(directions: Array) -> Array:
    """The sign ``[n]`` of the largest entry of each column of ``[m, n]``: eigenvectors have none of their own."""
    largest = jnp.take_along_axis(directions, jnp.abs(directions).argmax(axis=0)[None], axis=0)[0]
    return jnp.where(largest < 0.0, -1.0, 1.0)
