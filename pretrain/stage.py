"""One stage of a stack: a learner, an optimiser recipe and how long, or a solver; and what its layer shows the next."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from pretrain.layers import through
from pretrain.optim import Recipe
from pretrain.population import axes
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
