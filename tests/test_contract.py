"""The contract: what the training loop may expect of every learner, tested on each configuration of each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_cases import (
    BATCH,
    CASES,
    MEMBERS,
    SEEDS,
    Case,
    assert_close,
    assert_same_bits,
    begin,
    described,
    digits_in_pairs,
    numbers,
    rates,
    run,
)

from pretrain import Batch, fit, member
from pretrain.checkpoint import Checkpoints
from pretrain.population import broadcast, member_keys
from pretrain.progress import Progress

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def parts() -> tuple[Batch, Batch]:
    return digits_in_pairs()


@pytest.fixture(scope="module")
def trained(case: Case, parts: tuple[Batch, Batch]) -> Progress:
    """The population after five epochs: what interrupted, differently chunked and poisoned runs are held to."""
    return run(case, parts, epochs=5)


def first_update(learner: Any, params: Any, state: Any, train: Batch, key: Any) -> Any:
    """The first gradient, next state and metrics; and the measures."""
    batch = jax.tree.map(lambda leaf: leaf[:BATCH], train)
    return learner.gradient(params, state, batch, key), learner.evaluate(params, batch, key)


def test_update_keeps_its_structure_and_is_the_same_alone_and_in_a_population(
    case: Case, parts: tuple[Batch, Batch]
) -> None:
    """Gradients are shaped like the parameters, the next state like the state, and all is finite; what a compiled
    population computes is what its second member computes alone.
    """
    train, fits = case.rows(parts)[0], begin(case, parts).fits
    params, state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[1].copy()), (fits.params, fits.state))
    alone = (grads, next_state, metrics), measures = jax.jit(first_update)(
        case.learner, params, state, train, jax.random.key(SEEDS[1])
    )
    assert described(grads) == described(params)
    assert described(next_state) == described(state)
    assert measures
    assert all(value.shape == () for value in jax.tree.leaves((metrics, measures)))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, alone)))
    assert all(np.isfinite(leaf).all() for leaf in numbers(alone))
    assert any(np.any(leaf != 0) for leaf in numbers(grads))
    population = jax.jit(jax.vmap(first_update, in_axes=(0, 0, 0, None, 0)))
    compiled = population(broadcast(case.learner, MEMBERS), fits.params, fits.state, train, member_keys(SEEDS))
    assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[1], compiled), alone)


def test_other_epochs_seeds_and_values_do_not_recompile(
    case: Case, parts: tuple[Batch, Batch], trained: Progress
) -> None:
    compiled = fit._chunk._cache_size(), fit._begin._cache_size()
    assert min(compiled) > 0
    other = case._replace(learner=jax.tree.map(lambda leaf: 0.5 * leaf, case.learner))
    run(other, parts, epochs=2, learning_rate=case.learning_rate / 3, seeds=(7, 8, 9))
    run(other, parts, epochs=4, learning_rate=jnp.asarray(rates(case)), seeds=np.arange(3))
    assert (fit._chunk._cache_size(), fit._begin._cache_size()) == compiled


def test_layer_is_differentiable_and_has_the_declared_size(
    case: Case, parts: tuple[Batch, Batch], trained: Progress
) -> None:
    x = case.rows(parts)[1].x[:BATCH]
    layer = case.learner.layer(member(trained.params, 0))
    output = layer(x)
    assert (output.shape, output.dtype) == ((BATCH, case.size), jnp.float32)
    assert layer(x[0]).shape == (case.size,)
    slopes = jax.grad(lambda layer, x: jnp.square(layer(x)).sum(), argnums=(0, 1))(layer, x)
    assert described(slopes) == described((layer, x))
    for slope in numbers(slopes):
        assert np.isfinite(slope).all()
        assert np.any(slope != 0)


def test_resumes_from_progress_to_the_same_bits(case: Case, parts: tuple[Batch, Batch], trained: Progress) -> None:
    """Stopped after epoch 2, in the middle of a chunk, and gone on with other chunk boundaries."""
    stopped = run(case, parts, epochs=2)
    assert stopped.epoch == 2
    assert_same_bits(run(case, parts, epochs=5, resume=stopped), trained)


def test_checkpoint_gives_back_every_bit(case: Case, parts: tuple[Batch, Batch], tmp_path: Path) -> None:
    """What objects that know nothing of the run read from its files is the progress that was written."""
    written = run(case, parts, epochs=2)
    Checkpoints(tmp_path).save("layer", written)
    restored = Checkpoints(tmp_path).restore("layer", lambda: begin(case, parts))
    assert restored is not None
    assert_same_bits(restored, written)


def test_a_damaged_checkpoint_is_refused_by_name(parts: tuple[Batch, Batch], tmp_path: Path) -> None:
    Checkpoints(tmp_path).save("layer", begin(CASES["rbm-pcd"], parts))
    (path,) = (tmp_path / "layer").iterdir()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"0\.npz cannot be read: .* remove it to begin the stage anew"):
        Checkpoints(tmp_path).restore("layer", lambda: begin(CASES["rbm-pcd"], parts))


def test_a_checkpoint_of_another_structure_is_refused(parts: tuple[Batch, Batch], tmp_path: Path) -> None:
    Checkpoints(tmp_path).save("layer", begin(CASES["rbm-pcd"], parts))
    with pytest.raises(ValueError, match="layer holds the checkpoint of a run of another structure or other shapes"):
        Checkpoints(tmp_path).restore("layer", lambda: begin(CASES["supervised-greedy"], parts))


@pytest.mark.parametrize("name", ["rbm-pcd", "supervised-greedy"])
def test_resumes_from_checkpoint_to_the_same_bits(name: str, parts: tuple[Batch, Batch], tmp_path: Path) -> None:
    """Interrupted after epoch 3, and gone on from the files."""
    case = CASES[name]

    def save_and_stop(progress: Progress) -> None:
        Checkpoints(tmp_path).save("layer", progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(case, parts, epochs=5, on_chunk=save_and_stop)
    restored = Checkpoints(tmp_path).restore("layer", lambda: begin(case, parts))
    assert restored is not None
    assert restored.epoch == 3
    assert_same_bits(run(case, parts, epochs=5, resume=restored), run(case, parts, epochs=5))


CHUNKED = ["rbm-pcd", "autoencoder-masking", "autoregression-smaller", "supervised-greedy", "deep-autoencoder", "dbm"]


@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_change_no_bit(name: str, parts: tuple[Batch, Batch]) -> None:
    """Five chunks of one epoch are one chunk of three and a part of another; and three are one whole chunk."""
    case, third = CASES[name], []

    def keep(progress: Progress) -> None:
        if progress.epoch == 3:  # copies: the next chunk consumes the arrays
            third.append(progress._replace(fits=jax.tree.map(jnp.copy, progress.fits)))

    assert_same_bits(run(case, parts, epochs=5, chunk=1, on_chunk=keep), run(case, parts, epochs=5))
    assert_same_bits(run(case, parts, epochs=3), third[0])


def test_own_measure_improves_on_unseen_digits(case: Case, parts: tuple[Batch, Batch]) -> None:
    """Every member ends below where it began, by the first entry of ``evaluate``."""
    names, valid = [], case.rows(parts)[1]

    def first_measure(params: Any) -> Any:
        measures = case.learner.evaluate(params, valid, jax.random.key(0))
        names.append(next(iter(measures)))
        return measures[names[0]]

    before = jax.jit(jax.vmap(first_measure))(begin(case, parts).params)
    (first,) = set(names)
    progress = run(case, parts, epochs=30)
    assert progress.history[f"valid/{first}"].shape == (30, MEMBERS)
    assert (progress.history[f"valid/{first}"][-1] < np.asarray(before)).all()
    assert progress.finite.all()


def test_diverging_member_is_told_and_harms_no_other(case: Case, parts: tuple[Batch, Batch], trained: Progress) -> None:
    """One absurd learning rate: the other members keep every bit."""
    learning_rate = rates(case)
    learning_rate[1] = 1e38
    poisoned = run(case, parts, epochs=5, learning_rate=learning_rate)
    np.testing.assert_array_equal(poisoned.finite, [True, False, True])
    assert trained.finite.all()
    for healthy in (0, 2):
        for a, b in zip(numbers(poisoned.fits), numbers(trained.fits), strict=True):
            np.testing.assert_array_equal(a[healthy], b[healthy])
        for name, values in trained.history.items():
            np.testing.assert_array_equal(poisoned.history[name][:, healthy], values[:, healthy], err_msg=name)
