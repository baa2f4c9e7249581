"""The nearest neighbours of every row: pairs for unsupervised embedding (Weston, Ratle & Collobert, ICML 2008).

Exact, by brute force in blocks of rows: O(rows^2 features) operations, O(block rows) memory. From the centred data,

::

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b

is one matrix product a block. What cancels in it (an error of about 1e-7 |a|^2) is made good by taking `SPARE`
candidates more than asked for and ranking these by the differences themselves. Candidates are found in two steps, for
sorting whole rows would cost more than the product: the k smallest of all are in the k groups of adjacent columns whose
least elements are smallest. Both steps prefer the lower of equals, and so does what they give together.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from pretrain.checks import check_examples, check_sizes
from pretrain.types import Batch

SPARE = 16
"""Candidates beyond the k asked for."""


def neighbours(x: Any, k: int, block: int = 500) -> NDArray[np.int32]:
    """Returns the k nearest other rows of every row, by Euclidean distance: ``[rows, k]`` row numbers, nearest first.

    Only the row itself is left out: a duplicate of it is its neighbour, at distance 0. Of rows at equal distance the
    lower number comes first. 50,000 rows of 784 features take some 20 seconds on two CPU cores.

    Args:
        x: ``[rows, features]``.
        k: neighbours a row, fewer than rows.
        block: rows whose distances to all others are in memory at a time (``4 block rows`` bytes).

    Raises:
        ValueError: if ``x`` is no matrix of numbers, or there are not as many other rows as neighbours.
    """
    check_examples(x, "x")
    if x.ndim != 2:
        raise ValueError(f"x must have shape [rows, features], shared by all members; got shape {tuple(x.shape)}")
    check_sizes(k=k, block=block)
    n_rows = x.shape[0]
    if k >= n_rows:
        raise ValueError(f"k={k} neighbours need at least {k + 1} rows; got {n_rows}: choose k at most {n_rows - 1}")
    candidates, block = min(k + SPARE, n_rows - 1), min(block, n_rows)
    group = max(1, math.isqrt(n_rows // candidates))
    x = jnp.asarray(x, jnp.float32)
    centred = jnp.pad(x - x.mean(axis=0), ((0, -n_rows % group), (0, 0)))
    squares = jnp.square(centred).sum(axis=1).at[n_rows:].set(jnp.inf)
    found = np.empty((n_rows, k), np.int32)
    for start in range(0, n_rows, block):
        start = min(start, n_rows - block)  # the last block overlaps the one before: one shape, one compilation
        found[start : start + block] = _nearest(
            centred, squares, jnp.int32(start), k=k, candidates=candidates, group=group, block=block
        )
    return found


@functools.partial(jax.jit, static_argnames=("k", "candidates", "group", "block"))
def _nearest(x: Array, squares: Array, start: Array, *, k: int, candidates: int, group: int, block: int) -> Array:
    """The neighbours ``[block, k]`` of the rows from ``start`` on; rows whose square is infinite are nobody's."""
    rows = start + jnp.arange(block)
    queries = x[rows]
    distances = squares - 2.0 * jnp.matmul(queries, x.T, precision="highest")  # but for |query|^2, one a row
    distances = jnp.where(jnp.arange(x.shape[0]) == rows[:, None], jnp.inf, distances)
    grouped = distances.reshape(block, -1, group)
    groups = jnp.sort(_least(grouped.min(axis=2), candidates), axis=1)[:, :, None]
    columns = (groups * group + jnp.arange(group)).reshape(block, -1)
    few = jnp.take_along_axis(grouped, groups, axis=1).reshape(block, -1)
    columns = jnp.sort(jnp.take_along_axis(columns, _least(few, candidates), axis=1), axis=1)
    exact = jnp.square(x[columns] - queries[:, None]).sum(axis=2)
    return jnp.take_along_axis(columns, _least(exact, k), axis=1)


def _least(values: Array, k: int) -> Array:
    """Where the k least values of each row are, in ascending order; of equals the first comes first."""
    return jax.lax.top_k(-values, k)[1]


def with_neighbours(batch: Batch, k: int) -> Batch:
    """The batch with its rows' k nearest neighbours as ``pair``: row numbers ``[rows, k]``, of which a run draws one
    whenever the row comes up. Take a part of the rows before: their numbers are those of this batch.

    Raises:
        ValueError: see `neighbours`.
    """
    return batch._replace(pair=jnp.asarray(neighbours(batch.x, k)))
