"""Layers that are solved in closed form, as a run of no epochs."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pretrain import population
from pretrain.checks import check_data
from pretrain.progress import INIT, Fit, Progress
from pretrain.rows import paired
from pretrain.types import Batch, Solver


def solve(solver: Solver, train: Batch, keys: Array, mesh: Mesh | None = None) -> Progress:
    """A population of solutions in closed form: a run of no epochs.

    Args:
        solver: what is solved. Any numeric leaf may hold one value a member.
        train: the training rows, as in `pretrain.fit.run`.
        keys: ``[members]`` random keys.
        mesh: over which devices the members are divided (`pretrain.population.mesh`); None: all on one.
    """
    began = time.perf_counter()
    check_data(solver, train, {})
    solver, train = population.broadcast(solver, keys.shape[0]), jax.tree.map(jnp.asarray, train)
    if mesh is not None:
        solver, keys = population.spread(solver, mesh), jnp.asarray(population.spread(keys, mesh))
        train = population.placed(train, mesh)
    params = jax.block_until_ready(solutions(solver, train, keys, mesh=mesh))
    fits = Fit(params, (), (), keys, jnp.zeros(keys.shape, jnp.int32))
    return Progress(0, fits, None, {}, time.perf_counter() - began)


@functools.partial(jax.jit, static_argnames=("mesh",))
def solutions(solver: Any, train: Batch, keys: Array, mesh: Mesh | None = None) -> Any:
    """Each member's parameters; every leaf of ``solver`` has a member axis."""

    def one(solver: Solver, train: Batch, key: Array) -> Any:
        return solver.solve(jax.random.fold_in(key, INIT), paired(train))

    def of_one_device(solver: Any, train: Batch, keys: Array) -> Any:
        return population.over_members(one, (0, population.axes(train), 0), keys.shape[0])(solver, train, keys)

    if mesh is None:
        return of_one_device(solver, train, keys)
    own = P(population.MEMBER)
    return jax.shard_map(
        of_one_device,
        mesh=mesh,
        in_specs=(own, population.specs(train), own),
        out_specs=own,
        axis_names={population.MEMBER},
        check_vma=False,
    )(solver, train, keys)
