"""A learner's gradient beside central differences of what it reports."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from pretrain import Batch

STEP = 1e-5
"""In float64 the differences then err by the order of 1e-10."""


def automatic_and_numeric(
    learner: Any, batch: Batch, random: np.random.Generator, measures: tuple[str, ...] = ("loss",)
) -> tuple[Any, Any]:
    """The gradient at random parameters, and the differences of the sum of ``measures``, one parameter at a time."""
    key = jax.random.key(1)
    shapes, _ = jax.eval_shape(learner.init, key, batch)
    start = jax.tree.map(lambda leaf: jnp.asarray(0.5 * random.standard_normal(leaf.shape)), shapes)

    @jax.jit
    def both(start: Any) -> tuple[Any, Any]:
        flat, unravel = ravel_pytree(start)
        moves = STEP * jnp.eye(len(flat))

        def objective(flat: Any) -> Any:
            metrics = learner.gradient(unravel(flat), (), batch, key)[2]
            return sum(metrics[name] for name in measures)

        differences = (jax.vmap(objective)(flat + moves) - jax.vmap(objective)(flat - moves)) / (2 * STEP)
        return learner.gradient(start, (), batch, key)[0], unravel(differences)

    return both(start)


def assert_agree(grads: Any, numeric: Any) -> None:
    """To the error of the differences, in float64."""
    assert jax.tree.structure(grads) == jax.tree.structure(numeric)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(numeric), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)
