"""Populations, on some learners: members against runs of their own, each member's values, and early stopping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_cases import (
    BATCH,
    CASES,
    CHUNK,
    MEMBERS,
    SEEDS,
    UNITS,
    assert_close,
    assert_same_bits,
    digits_in_pairs,
    numbers,
    rates,
    recipe,
    run,
)

from pretrain import Autoencoder, Batch, Masking, Momentum, fit, member
from pretrain.population import broadcast

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def parts() -> tuple[Batch, Batch]:
    return digits_in_pairs()


@pytest.mark.parametrize("name", ["rbm-cd1", "autoencoder-masking", "supervised-greedy"])
def test_population_equals_single_runs(name: str, parts: tuple[Batch, Batch]) -> None:
    """Several seeds and learning rates side by side are what each is in a run of its own."""
    case = CASES[name]
    population = run(case, parts, epochs=2)
    for m in range(MEMBERS):
        single = run(case, parts, epochs=2, seeds=SEEDS[m : m + 1], learning_rate=float(rates(case)[m]))
        assert_close(member(population.fits, m), member(single.fits, 0))
        for measure, values in single.history.items():
            np.testing.assert_allclose(population.history[measure][:, m], values[:, 0], rtol=1e-4, err_msg=measure)
    weights = numbers(population.params)[0]
    for a, b in ((0, 1), (0, 2), (1, 2)):  # and they do differ: by seed, by learning rate
        assert np.abs(weights[a] - weights[b]).max() > 1e-4


def test_one_value_for_all_is_that_value_for_each(parts: tuple[Batch, Batch]) -> None:
    """A number, a list of equal numbers and arrays of them make the same run, in the recipe and in the learner."""
    case = CASES["autoencoder-masking"]
    train, valid = parts
    options: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "seeds": SEEDS, "chunk": CHUNK}
    options["monitors"] = {"valid": valid}
    one = fit.run(case.learner, recipe(0.1), train, **options)
    each = case.learner.replace(corruption=Masking(np.full(MEMBERS, 0.25)), initial_scale=jnp.ones(MEMBERS))
    assert_same_bits(fit.run(each, recipe(np.full(MEMBERS, 0.1)), train, **options), one)


def test_values_are_each_members_own(parts: tuple[Batch, Batch]) -> None:
    """Of members with one seed, only the one whose corruption differs differs."""
    case = CASES["autoencoder-masking"]
    learner = case.learner.replace(corruption=Masking(np.array([0.25, 0.25, 0.75])))
    progress = run(case._replace(learner=learner), parts, epochs=1, learning_rate=0.1, seeds=(0, 0, 0))
    weights = np.asarray(progress.params.weights)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 1e-4


def test_wrong_number_of_values_is_refused(parts: tuple[Batch, Batch]) -> None:
    """The message names the hyperparameter, the shape and the members."""
    case = CASES["autoencoder"]
    with pytest.raises(ValueError, match=r"learning_rate has shape \(2,\).* 3 members"):
        run(case, parts, epochs=1, learning_rate=np.ones(2))
    with pytest.raises(ValueError, match=r"initial_scale has shape \(4,\).* 3 members"):
        run(case._replace(learner=Autoencoder(UNITS, initial_scale=np.ones(4))), parts, epochs=1)


def test_early_stopping_keeps_each_members_best(parts: tuple[Batch, Batch]) -> None:
    """A member that cannot improve keeps its first epoch; the best parameters survive an interruption."""
    case = CASES["classifier"]
    learning_rate = np.float32([0.5, 0.0, 0.5])  # the second never moves
    options: dict[str, Any] = {"epochs": 4, "learning_rate": learning_rate, "patience": 1}
    whole = run(case, parts, **options)
    errors = whole.history["valid/error"]
    np.testing.assert_array_equal(errors[:, 1], errors[0, 1])
    assert whole.best is not None
    assert (int(whole.best.epoch[1]), int(whole.best.wait[1])) == (1, 2)
    for m in range(MEMBERS):
        assert float(whole.best.score[m]) == errors[int(whole.best.epoch[m]) - 1, m]
    resumed = run(case, parts, **options, resume=run(case, parts, **(options | {"epochs": 2})))
    for a, b in zip(numbers(resumed.best), numbers(whole.best), strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_ends_at_the_same_epoch_wherever_chunks_begin(parts: tuple[Batch, Batch]) -> None:
    """Nothing improves, so patience 1 is spent after epoch 3: in the middle of the chunk that a resumed run begins."""
    options: dict[str, Any] = {"learning_rate": 0.0, "patience": 1}
    whole = run(CASES["classifier"], parts, epochs=4, **options)
    assert whole.epoch == 3
    stopped = run(CASES["classifier"], parts, epochs=2, **options)
    assert_same_bits(run(CASES["classifier"], parts, epochs=4, **options, resume=stopped), whole)


def test_broadcast_gives_every_leaf_a_member_axis() -> None:
    """Scalars are repeated, one value a member is kept, and all become float32."""
    tree = broadcast(Momentum(learning_rate=0.1, momentum=np.array([0.8, 0.9])), 2)
    assert all((leaf.shape, leaf.dtype) == ((2,), jnp.float32) for leaf in jax.tree.leaves(tree))
    np.testing.assert_array_equal(tree.momentum, np.float32([0.8, 0.9]))
    np.testing.assert_array_equal(tree.learning_rate, np.float32([0.1, 0.1]))
