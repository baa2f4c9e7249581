"""Layers that are solved in closed form, as a run of no epochs."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import population
from pretrain.checks import check_data
from pretrain.progress import INIT, Fit, Progress
from pretrain.rows import paired
from pretrain.types import Batch, Solver


def solve(solver: Solver, train: Batch, keys: Array) -> Progress:
    """A population of solutions in closed form: a run of no epochs.

    Args:
        solver: what is solved. Any numeric leaf may hold one value a member.
        train: the training rows, as in `pretrain.fit.run`.
        keys: ``[members]`` random keys.
    """
    began = time.perf_counter()
    check_data(solver, train, {})
    train = jax.tree.map(jnp.asarray, train)
    params = jax.block_until_ready(solutions(population.broadcast(solver, keys.shape[0]), train, keys))
    fits = Fit(params, (), (), keys, jnp.zeros(keys.shape, jnp.int32))
    return Progress(0, fits, None, {}, time.perf_counter() - began)


@jax.jit
def solutions(solver: Any, train: Batch, keys: Array) -> Any:
    """Each member's parameters; every leaf of ``solver`` has a member axis."""

    def one(solver: Solver, train: Batch, key: Array) -> Any:
        return solver.solve(jax.random.fold_in(key, INIT), paired(train))

    return population.over_members(one, (0, population.axes(train), 0), keys.shape[0])(solver, train, keys)
