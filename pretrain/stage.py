"""One stage of a stack: a learner, an optimiser recipe and how long; and what its trained layer shows the next."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct

from pretrain.layers import through
from pretrain.optim import Recipe
from pretrain.types import Batch, Layer, Learner


@struct.dataclass
class Stage:
    """One training run of a stack.

    Attributes:
        learner: the objective.
        optimizer: the recipe.
        epochs: at most so many passes over the training rows.
        batch_size: rows an update.
        patience: None keeps the last parameters; a number is early stopping, see `pretrain.fit.run`.
    """

    learner: Learner
    optimizer: Recipe
    epochs: int = struct.field(pytree_node=False)
    batch_size: int = struct.field(pytree_node=False, default=100)
    patience: int | None = struct.field(pytree_node=False, default=None)


@jax.jit
def trained_layer(learner: Any, params: Any) -> Layer:
    """Each member's layer, from what it learned."""
    return jax.vmap(lambda learner, params: learner.layer(params))(learner, params)


@jax.jit
def codes(layer: Layer, batch: Batch) -> Batch:
    """The batch as each member's layer shows it: ``x`` of ``[members, rows, units]``."""
    shared = batch.x.ndim == 2
    axes = Batch(None if shared else 0, None, None if shared or batch.pair is None else 0)  # type: ignore[arg-type]
    out = Batch(0, None, None if batch.pair is None else 0)  # type: ignore[arg-type]
    return jax.vmap(lambda layer, batch: through((layer,), batch), in_axes=(0, axes), out_axes=out)(layer, batch)
