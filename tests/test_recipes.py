"""Optimiser recipes against loops written by hand, and the bound on columns' norms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbm import SIZES, arrays, as_params, assert_close

from pretrain import DBM, Adagrad, Adam, Constant, Inverse, Linear, Momentum, Sgd, WarmUp
from pretrain.optim import Recipe

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- optimiser recipes

STEPS_PER_EPOCH, N_EPOCHS = 3, 4
SCHEDULES = {
    "constant": (Constant(), lambda epoch: 1.0),
    "linear": (Linear(end=3.0, start=1.0), lambda epoch: min(1.0, max(0.0, (3.0 - epoch) / 2.0))),
    "inverse": (Inverse(0.5), lambda epoch: 1.0 / (1.0 + 0.5 * epoch)),
    "warm-up": (WarmUp(2.0, Inverse(0.5)), lambda epoch: min(1.0, epoch / 2.0) / (1.0 + 0.5 * epoch)),
}


@pytest.mark.parametrize("schedule", SCHEDULES.keys())
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
def test_recipe_is_the_loop_written_by_hand(momentum: bool, schedule: str) -> None:
    """Weight decay enters the gradient of matrices only; momentum switches and rates fall at the stated epochs."""
    random, (declared, factor) = np.random.default_rng(0), SCHEDULES[schedule]
    start = {"weights": random.standard_normal((3, 2)), "bias": random.standard_normal(2)}
    gradients = [jax.tree.map(lambda a: random.standard_normal(a.shape), start) for _ in range(12)]
    assert len(gradients) == STEPS_PER_EPOCH * N_EPOCHS
    options = {"learning_rate": 0.3, "schedule": declared, "weight_decay": 0.1}
    recipe = Momentum(initial_momentum=0.4, momentum=0.8, switch_epoch=2.0, **options) if momentum else Sgd(**options)
    transform = recipe.build(STEPS_PER_EPOCH)

    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), start)
    state, path = transform.init(params), []
    for grads in gradients:
        updates, state = transform.update(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), grads), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        path.append(params)

    for name, decay in (("weights", 0.1), ("bias", 0.0)):
        value, velocity = start[name].copy(), np.zeros_like(start[name])
        for step, grads in enumerate(gradients):
            epoch = step / STEPS_PER_EPOCH
            kept = 0.0 if not momentum else 0.4 if epoch < 2.0 else 0.8
            velocity = kept * velocity + grads[name] + decay * value
            value = value - 0.3 * factor(epoch) * velocity
            np.testing.assert_allclose(path[step][name], value, rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {step}")


# ---------------------------------------------------------------- bounded norms


@pytest.mark.parametrize("recipe", [Sgd(1.0), Momentum(1.0, initial_momentum=0.5, weight_decay=0.1)])
def test_no_column_is_longer_than_max_norm_after_an_update(recipe: Any) -> None:
    """A column that would be is shortened, not turned; the others, vectors and fixed layers are where they would be."""
    random = np.random.default_rng(0)
    fixed = DBM((3, 2)).discriminative_layers(as_params(*arrays(SIZES[2], 3.0)), steps=2)[0]
    weights = jnp.asarray(random.standard_normal((5, 4)) * [0.1, 0.3, 1.0, 2.0], jnp.float32)
    params = {"weights": weights, "bias": 10.0 * jnp.ones(6), "fixed": fixed}
    grads = jax.tree.map(lambda a: jnp.asarray(0.1 * random.standard_normal(a.shape), jnp.float32), params)

    @jax.jit
    def after(recipe: Recipe) -> Any:
        transform, moved = recipe.build(10), params
        state = transform.init(moved)
        for _ in range(2):
            updates, state = transform.update(grads, state, moved)
            moved = jax.tree.map(jnp.add, moved, updates)
        return moved

    once = jax.jit(lambda recipe: recipe.build(10).update(grads, recipe.build(10).init(params), params)[0])
    free = jax.tree.map(jnp.add, params, once(recipe))
    bounded = jax.tree.map(jnp.add, params, once(recipe.replace(max_norm=1.0)))
    norms = np.linalg.norm(free["weights"], axis=0)
    assert norms.min() < 1.0 < norms.max()
    np.testing.assert_allclose(bounded["weights"], free["weights"] * np.minimum(1.0, 1.0 / norms), rtol=1e-5, atol=1e-6)
    assert_close((bounded["bias"], bounded["fixed"]), (free["bias"], free["fixed"]), rtol=0.0)
    assert np.linalg.norm(after(recipe.replace(max_norm=1.0))["weights"], axis=0).max() < 1.0 + 1e-5
    plain, limited = (jax.tree.structure(r.build(10).init(params)) for r in (recipe, recipe.replace(max_norm=1.0)))
    assert plain != limited  # without a bound there is nothing to carry


@pytest.mark.parametrize("recipe", [Sgd, Momentum, Adam, Adagrad])
def test_rates_that_cannot_be_are_refused(recipe: Any) -> None:
    for rate, message in (
        (-0.1, "not be negative"),
        (np.array([0.1, -1.0]), "not be negative"),
        ([0.1, 0.2], "array of one a member"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe(rate)
    assert jax.tree.leaves(recipe(np.array([0.1, 0.2])))[0].shape == (2,)
