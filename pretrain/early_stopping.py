"""Early stopping: of every member keep the parameters that did best on validation rows, until its patience ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Best(NamedTuple):
    """The best parameters so far, by the first measure on the monitor ``valid``.

    Attributes:
        params: the parameters of the best epoch.
        score: their measure; infinity before the first epoch.
        epoch: the epoch after which they were taken, from 1.
        wait: epochs since. Once it exceeds the patience the member has stopped and this no longer changes.
    """

    params: Any
    score: Array
    epoch: Array
    wait: Array


def first(params: Any, members: int) -> Best:
    """Before the first epoch, for a population: ``params`` themselves, copied because the loop consumes its arrays."""
    zero = jnp.zeros((members,), jnp.int32)
    return Best(jax.tree.map(jnp.copy, params), jnp.full((members,), jnp.inf, jnp.float32), zero, jnp.copy(zero))


def running(best: Best, patience: Array | int) -> Array:
    """Whether the member, or each member, still trains."""
    return best.wait <= patience


def update(best: Best, params: Any, score: Array, epoch: Array, patience: Array) -> Best:
    """One member after an epoch."""
    score = score.astype(best.score.dtype)  # a weakly typed score would retrace the next chunk
    better = running(best, patience) & (score < best.score)
    wait = jnp.where(better, 0, best.wait + running(best, patience))
    kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best.params)
    return Best(kept, jnp.where(better, score, best.score), jnp.where(better, epoch, best.epoch), wait)
