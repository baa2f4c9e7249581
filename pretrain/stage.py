"""One stage of a stack: a learner, an optimiser recipe and how long, or a solver; its training, through the one loop;
and what its layer shows the next.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from pretrain import fit, solution, struct
from pretrain.checkpoint import Checkpoints
from pretrain.layers import through
from pretrain.optim import Recipe
from pretrain.population import axes
from pretrain.progress import Progress
from pretrain.report import Record, Report
from pretrain.rows import Augment
from pretrain.types import Batch, Layer, Learner, Solver


@struct.dataclass
class Stage:
    """One training run of a stack, or, of a solver, one solution in closed form.

    Attributes:
        learner: the objective, or a solver, which takes none of the following.
        optimizer: the recipe.
        epochs: at most so many passes over the training rows.
        batch_size: rows an update.
        patience: None keeps the last parameters; a number is early stopping, see `pretrain.fit.run`.
    """

    learner: Learner | Solver
    optimizer: Recipe | None = None
    epochs: int = struct.field(pytree_node=False, default=0)
    batch_size: int = struct.field(pytree_node=False, default=100)
    patience: int | None = struct.field(pytree_node=False, default=None)


@jax.jit
def trained_layer(learner: Any, params: Any) -> Layer:
    """Each member's layer, from what it learned."""
    return jax.vmap(lambda learner, params: learner.layer(params))(learner, params)


@jax.jit
def codes(layer: Layer, batch: Batch) -> Batch:
    """The batch as each member's layer shows it: ``x`` of ``[members, rows, units]``."""
    fields = axes(batch)
    mapped = batch.pair is not None and jnp.issubdtype(batch.pair.dtype, jnp.floating)
    out = fields._replace(x=0, pair=0 if mapped else None)
    return jax.vmap(lambda layer, batch: through((layer,), batch), in_axes=(0, fields), out_axes=out)(layer, batch)


def above(layer: Layer, train: Batch, monitors: dict[str, Batch]) -> tuple[Batch, dict[str, Batch]]:
    """The codes of all rows."""
    return codes(layer, train), {part: codes(layer, batch) for part, batch in monitors.items()}


def folder(name: str) -> str:
    """Of the checkpoints of the stage of that name: a layer's is the same whatever is put above it."""
    return name.partition("/")[0].replace(" ", "-")


def train_stage(
    name: str,
    stage: Stage,
    train: Batch,
    monitors: dict[str, Batch],
    keys: Array,
    params: Any,
    checkpoints: Checkpoints | None,
    report: Report | None,
    chunk: int,
    mesh: Mesh | None,
    *,
    lower: Sequence[Layer] = (),
    augment: Augment | None = None,
) -> Progress:
    """One stage through `pretrain.fit.run` or `solve`, resumed, checkpointed and reported."""
    where = folder(name)
    options: dict[str, Any] = {
        "batch_size": stage.batch_size,
        "keys": keys,
        "params": params,
        "patience": stage.patience,
        "lower": tuple(lower),
    }
    if isinstance(stage.learner, Solver):
        begin = functools.partial(solution.solve, stage.learner, train, keys, mesh)
        progress = None if checkpoints is None else checkpoints.restore(where, begin)
        progress = begin() if progress is None else progress
        if checkpoints is not None:
            checkpoints.save(where, progress)
        return progress
    assert stage.optimizer is not None
    arguments = (stage.learner, stage.optimizer, train)

    def on_chunk(progress: Progress) -> None:
        if checkpoints is not None and checkpoints.due():
            checkpoints.save(where, progress)
        if report is not None:
            report(
                Record(
                    name, type(stage.learner).__name__, progress.epoch, stage.epochs, progress.history, progress.seconds
                )
            )

    resume = None
    if checkpoints is not None:
        resume = checkpoints.restore(where, lambda: fit.begin(*arguments, **options))
    progress = fit.run(
        *arguments,
        **options,
        augment=augment,
        epochs=stage.epochs,
        monitors=monitors,
        chunk=chunk,
        probe=True,
        mesh=mesh,
        resume=resume,
        on_chunk=on_chunk,
    )
    if checkpoints is not None:
        checkpoints.save(where, progress)
    return progress
