"""The contract: what the training loop may expect of every learner, tested on each configuration of each of them.

All cases are trained on the same few rows of scikit-learn's digits with the same recipe, so that most tests of a
case share two compilations: the start, and chunks of `CHUNK` epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrain import (
    CD,
    DBM,
    L1,
    PCD,
    SESM,
    Autoencoder,
    Batch,
    BernoulliRBM,
    Classifier,
    Contractive,
    DeepAutoencoder,
    Embedding,
    FastPCD,
    Gaussian,
    GaussianRBM,
    GaussianUnits,
    KLSparsity,
    Linear,
    LogisticAutoregression,
    Masking,
    Momentum,
    ParallelTempering,
    PartiallySupervised,
    Perceptron,
    RectifiedUnits,
    SaltPepper,
    SlowFeatures,
    SparsityTarget,
    SupervisedGreedy,
    UpDown,
    data,
    fit,
    member,
)
from pretrain.checkpoint import Checkpoints
from pretrain.fit import Progress
from pretrain.population import broadcast, member_keys
from pretrain.types import UNLABELLED

N_TRAIN, N_VALID, BATCH, CHUNK = 120, 60, 20, 3
UNITS, CLASSES, PIXELS = 6, 10, 64
SEEDS = (0, 1, 0)
MEMBERS = len(SEEDS)


class Case(NamedTuple):
    """A learner, the learning rate that suits it, the size of the layer it declares, and whether its rows must be
    standardised.
    """

    learner: Any
    learning_rate: float = 0.05
    size: int = UNITS
    standardise: bool = False

    def rows(self, parts: tuple[Batch, Batch]) -> tuple[Batch, Batch]:
        """The parts as the learner takes them."""
        if "some labels" in self.learner.needs:  # every third row has none
            train, valid = (p._replace(y=np.where(np.arange(len(p.y)) % 3, p.y, UNLABELLED)) for p in parts)  # type: ignore[arg-type]
            parts = train, valid
        if not self.standardise:
            return parts
        mean, deviation = parts[0].x.mean(axis=0), np.maximum(parts[0].x.std(axis=0), 0.05)
        train, valid = (part._replace(x=(part.x - mean) / deviation) for part in parts)
        return train, valid


CASES = {
    "rbm-cd1": Case(BernoulliRBM(UNITS)),
    "rbm-cd3-sampled": Case(BernoulliRBM(UNITS, sampler=CD(3), sample_visible=True)),
    "rbm-pcd": Case(BernoulliRBM(UNITS, sampler=PCD(n_chains=BATCH))),
    "rbm-fpcd": Case(BernoulliRBM(UNITS, sampler=FastPCD(n_chains=BATCH))),
    "rbm-tempering": Case(BernoulliRBM(UNITS, sampler=ParallelTempering(n_chains=BATCH, n_temperatures=4))),
    "rbm-labels": Case(BernoulliRBM(UNITS, n_classes=CLASSES)),
    "rbm-sparse": Case(BernoulliRBM(UNITS, sparsity=SparsityTarget(0.2, 0.5))),
    "rbm-gaussian": Case(GaussianRBM(UNITS), 0.01, standardise=True),
    "rbm-gaussian-learned-variance": Case(GaussianRBM(UNITS, GaussianUnits(True)), 0.003, standardise=True),
    "rbm-rectified": Case(GaussianRBM(UNITS, hidden=RectifiedUnits()), 0.005, standardise=True),
    "autoencoder": Case(Autoencoder(UNITS)),
    "autoencoder-masking": Case(Autoencoder(UNITS, corruption=Masking(0.25))),
    "autoencoder-untied-saltpepper": Case(Autoencoder(UNITS, tied=False, corruption=SaltPepper(0.1))),
    "autoencoder-untied-squared-gaussian": Case(
        Autoencoder(UNITS, tied=False, loss="squared_error", corruption=Gaussian(0.1)), 0.01
    ),
    "autoencoder-kl": Case(Autoencoder(UNITS, penalty=KLSparsity(0.2, 0.1))),
    "autoencoder-l1": Case(Autoencoder(UNITS, penalty=L1(0.1))),
    "autoencoder-contractive": Case(Autoencoder(UNITS, penalty=Contractive(0.1))),
    "sesm": Case(SESM(UNITS, n_relaxations=3), 0.01),
    "partially-supervised": Case(PartiallySupervised(Autoencoder(UNITS), CLASSES)),
    "autoregression": Case(LogisticAutoregression(PIXELS), size=PIXELS),
    "autoregression-smaller": Case(LogisticAutoregression(UNITS)),
    "supervised-greedy": Case(SupervisedGreedy(CLASSES, (UNITS,)), 0.5),
    "classifier": Case(Classifier(CLASSES, (UNITS,)), 0.5, CLASSES),
    "perceptron": Case(Perceptron(CLASSES), 0.5, CLASSES),
    "classifier-today": Case(
        Classifier(
            CLASSES,
            (UNITS,),
            activation="relu",
            output_scale=1.0,
            initialization="he",
            dropout=0.1,
            input_dropout=0.2,
        ),
        0.1,
        CLASSES,
    ),
    "deep-autoencoder": Case(DeepAutoencoder((UNITS, 4)), 0.05, 4),
    "embedding-internal": Case(Embedding(UNITS), 0.2),
    "embedding-auxiliary": Case(Embedding(UNITS, at="auxiliary", n_embedding=3)),
    "embedding-output": Case(Embedding(UNITS, at="output", n_classes=CLASSES), 0.2),
    "embedding-l1": Case(Embedding(UNITS, distance="l1"), 0.2),
    "slow-features": Case(SlowFeatures(UNITS), 0.02),
    "dbm": Case(DBM((UNITS, 4), n_chains=BATCH, sparsity=(SparsityTarget(0.2), SparsityTarget(0.1))), 0.05, 4),
    "up-down": Case(UpDown((UNITS, 4), n_classes=CLASSES), 0.05, 4),
}

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def parts() -> tuple[Batch, Batch]:
    """A few labelled rows of the digits, each beside its nearest neighbour: for training and for validation."""
    splits = data.digits()
    some = Batch(*(a[:N_TRAIN] for a in splits.train[:2])), Batch(*(a[:N_VALID] for a in splits.valid[:2]))
    train, valid = (part._replace(pair=part.x[data.neighbours(part.x, 1)[:, 0]]) for part in some)
    return train, valid


@pytest.fixture(scope="module")
def trained(case: Case, parts: tuple[Batch, Batch]) -> Progress:
    """The population after five epochs: what interrupted, differently chunked and poisoned runs are held to."""
    return run(case, parts, epochs=5)


def rates(case: Case) -> np.ndarray:
    """A learning rate a member: with `SEEDS`, members differ by seed, by rate, and by both."""
    return np.float32(case.learning_rate) * np.float32([1.0, 1.0, 0.5])


def recipe(learning_rate: Any) -> Momentum:
    return Momentum(learning_rate, switch_epoch=2.0, schedule=Linear(end=40.0, start=1.0), weight_decay=1e-4)


def run(case: Case, parts: tuple[Batch, Batch], *, epochs: int, learning_rate: Any = None, **options: Any) -> Progress:
    train, valid = case.rows(parts)
    optimizer = recipe(rates(case) if learning_rate is None else learning_rate)
    options = {"seeds": SEEDS, "chunk": CHUNK, "monitors": {"valid": valid}, **options}
    return fit.run(case.learner, optimizer, train, epochs=epochs, batch_size=BATCH, **options)


def begin(case: Case, parts: tuple[Batch, Batch], **options: Any) -> Progress:
    train, keys = case.rows(parts)[0], member_keys(SEEDS)
    return fit.begin(case.learner, recipe(rates(case)), train, batch_size=BATCH, keys=keys, **options)


def numbers(tree: Any) -> list[np.ndarray]:
    """All leaves as numpy arrays, random keys as their raw numbers."""
    keys = jax.dtypes.prng_key
    leaves = jax.tree.leaves(tree)
    return [np.asarray(jax.random.key_data(a) if jnp.issubdtype(a.dtype, keys) else a) for a in leaves]


def described(tree: Any) -> Any:
    """A tree's structure, shapes and dtypes."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one: Progress, other: Progress) -> None:
    """All that a run is and has measured is equal, bit for bit."""
    assert one.epoch == other.epoch
    assert described((one.fits, one.best)) == described((other.fits, other.best))
    for a, b in zip(numbers((one.fits, one.best)), numbers((other.fits, other.best)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.history.keys() == other.history.keys()
    for name, values in one.history.items():
        np.testing.assert_array_equal(values, other.history[name], err_msg=name)


def assert_close(one: Any, other: Any) -> None:
    """Equal but for float32 rounding (epsilon 1.2e-7) amplified by a few dozen operations and updates."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def first_update(learner: Any, params: Any, state: Any, train: Batch, key: Any) -> Any:
    """The first gradient, next state and metrics; and the measures."""
    batch = jax.tree.map(lambda leaf: leaf[:BATCH], train)
    return learner.gradient(params, state, batch, key), learner.evaluate(params, batch, key)


def test_update_keeps_its_structure_and_is_the_same_eager_compiled_and_vmapped(
    case: Case, parts: tuple[Batch, Batch]
) -> None:
    """Gradients are shaped like the parameters, the next state like the state, and all is finite; what a compiled
    population computes is what its second member computes alone, operation by operation.
    """
    train, fits = case.rows(parts)[0], begin(case, parts).fits
    params, state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[1]), (fits.params, fits.state))
    eager = (grads, next_state, metrics), measures = first_update(
        case.learner, params, state, train, jax.random.key(SEEDS[1])
    )
    assert described(grads) == described(params)
    assert described(next_state) == described(state)
    assert measures
    assert all(value.shape == () for value in jax.tree.leaves((metrics, measures)))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, eager)))
    assert all(np.isfinite(leaf).all() for leaf in numbers(eager))
    assert any(np.any(leaf != 0) for leaf in numbers(grads))
    population = jax.jit(jax.vmap(first_update, in_axes=(0, 0, 0, None, 0)))
    compiled = population(broadcast(case.learner, MEMBERS), fits.params, fits.state, train, member_keys(SEEDS))
    assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[1], compiled), eager)


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


CHUNKED = ["rbm-pcd", "autoencoder-masking", "autoregression-smaller", "supervised-greedy", "deep-autoencoder"]


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
    start = begin(case, parts)
    params = [jax.tree.map(lambda leaf, m=m: jnp.asarray(np.asarray(leaf)[m]), start.params) for m in range(MEMBERS)]
    before = [case.learner.evaluate(own, case.rows(parts)[1], jax.random.key(0)) for own in params]
    first = next(iter(before[0]))
    progress = run(case, parts, epochs=30)
    assert progress.history[f"valid/{first}"].shape == (30, MEMBERS)
    assert (progress.history[f"valid/{first}"][-1] < [measures[first] for measures in before]).all()
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
