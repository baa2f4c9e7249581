"""The rows of a batch: some of them, with partners, and augmented."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from pretrain.types import Batch

Augment = Callable[[Array, Array], Array]
"""A pytree that changes the rows of a minibatch ``[rows, features]`` by a random key, anew at every step:
`pretrain.data.Shifts`."""


def chosen(batch: Batch, rows: Array) -> Batch:
    """The rows ``[rows]`` of these numbers, of every array that a batch has."""
    return jax.tree.map(lambda leaf: leaf[rows], batch)


def _by_number(batch: Batch) -> bool:
    """Whether a batch's pairs are candidates' row numbers."""
    return batch.pair is not None and jnp.issubdtype(batch.pair.dtype, jnp.integer)


def drawn(train: Batch, rows: Batch, key: Array) -> Batch:
    """Of each row one candidate, by chance: pairs by row number become features."""
    if not _by_number(rows):
        return rows
    n_rows, n_candidates = rows.pair.shape  # type: ignore[union-attr]
    column = jax.random.randint(key, (n_rows,), 0, n_candidates)
    return rows._replace(pair=train.x[rows.pair[jnp.arange(n_rows), column]])  # type: ignore[index]


def paired(batch: Batch, most: int | None = None) -> Batch:
    """The rows, or at most so many of them, evenly spaced (they may be sorted by class); each with its first candidate
    where pairs are row numbers: no draw. ``x`` may have a member axis.
    """
    some = slice(None, None, 1 if most is None else max(-(-batch.x.shape[-2] // most), 1))
    y = None if batch.y is None else batch.y[..., some]
    if _by_number(batch):
        first = batch.pair[some, 0]  # type: ignore[index]
        return Batch(batch.x[..., some, :], y, batch.x[..., first, :])
    return Batch(batch.x[..., some, :], y, None if batch.pair is None else batch.pair[..., some, :])
