"""What a stack's rows may bring: pairs by row number, few labels, labels of each member's own; and the probe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pretrain as pt
from pretrain import stack, struct
from pretrain.data import digits
from pretrain.learners.classifier import Classifier
from pretrain.rows import drawn
from pretrain.stage import codes

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def data() -> pt.data.Splits:
    return digits()


@pytest.mark.slow
def test_pairs_by_row_number_are_the_pairs_they_name(data: pt.data.Splits) -> None:
    """One candidate a row: the same bits as its features, in training, on the monitors, and through a stack."""
    rows = np.random.default_rng(0).integers(0, 100, (100, 1))
    x, options = data.train.x[:100], {"epochs": 2, "batch_size": 20, "seeds": SEEDS}
    learner, recipe = pt.Embedding(8), pt.Sgd(0.1)
    by_number, by_value = pt.Batch(x, pair=jnp.asarray(rows)), pt.Batch(x, pair=x[rows[:, 0]])
    runs = [pt.run(learner, recipe, b, monitors={"valid": b}, **options) for b in (by_number, by_value)]
    jax.tree.map(np.testing.assert_array_equal, runs[0].params, runs[1].params)
    jax.tree.map(np.testing.assert_array_equal, runs[0].history, runs[1].history)
    stages = [pt.Stage(learner, recipe, epochs=1, batch_size=20)] * 2
    stacks = [pt.pretrain(stages, b, valid=b, seeds=SEEDS) for b in (by_number, by_value)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stacks[0].params, stacks[1].params)


def test_of_several_candidates_all_come_up(data: pt.data.Splits) -> None:
    """A learner that records which partner it saw: over some epochs each row meets each of its three candidates."""
    n_rows, candidates = 40, np.arange(120).reshape(40, 3)
    train = pt.Batch(jnp.arange(120.0)[:, None], pair=jnp.asarray(np.concatenate([candidates] * 3)))
    seen = [
        drawn(train, jax.tree.map(lambda leaf: leaf[:n_rows], train), jax.random.key(step)).pair[:, 0]
        for step in range(40)
    ]
    for row, met in enumerate(np.asarray(seen, int).T):
        assert set(met) == set(candidates[row])


@pytest.mark.slow
def test_measures_are_of_rows_from_the_first_to_the_last(data: pt.data.Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are sorted by class: a layer is measured on rows of all."""
    monkeypatch.setattr(stack, "MONITOR_ROWS", 50)
    order = np.argsort(data.train.y, kind="stable")
    train = pt.Batch(data.train.x[order])
    stages = [pt.Stage(pt.BernoulliRBM(8), pt.Momentum(0.1), epochs=1, batch_size=20)]
    pretrained = pt.pretrain(stages, train, seeds=SEEDS)
    measured = pretrained.progress[0].history["train/free_energy"][-1, 0]
    machine, params = pt.BernoulliRBM(8), pt.member(pretrained.params[0], 0)
    spaced = train.x[:: -(-len(train.x) // 50)]
    assert len(np.unique(data.train.y[order][:50])) == 1  # the first fifty would tell of one class
    np.testing.assert_allclose(measured, machine.free_energy(params, spaced).mean(), rtol=1e-5)


@struct.dataclass
class Shift:
    """A learner of a vector, which measures nothing."""

    inputs, needs = "real", ()

    def init(self, key: jax.Array, data: pt.Batch) -> tuple[jax.Array, tuple]:
        return jnp.zeros((data.x.shape[-1],)), ()

    def gradient(self, params: jax.Array, state: tuple, batch: pt.Batch, key: jax.Array) -> tuple:
        return params - batch.x.mean(axis=0), state, {"loss": jnp.square(batch.x - params).mean()}

    def evaluate(self, params: jax.Array, batch: pt.Batch, key: jax.Array) -> dict:
        return {}

    def layer(self, params: jax.Array) -> pt.Rescaling:
        return pt.Rescaling(params, jnp.ones_like(params))


def test_what_a_probe_and_monitors_tell_nothing_of_is_resumed(data: pt.data.Splits) -> None:
    options = {"batch_size": 20, "monitors": {"train": data.valid}, "probe": True}
    half = pt.run(Shift(), pt.Sgd(0.1), data.valid, epochs=1, **options)
    assert set(half.history) == {"loss"}
    gone_on = pt.run(Shift(), pt.Sgd(0.1), data.valid, epochs=2, resume=half, **options)
    np.testing.assert_array_equal(gone_on.params, pt.run(Shift(), pt.Sgd(0.1), data.valid, epochs=2, **options).params)


@pytest.mark.slow
def test_partially_supervised_layers_learn_from_the_labels_there_are(data: pt.data.Splits) -> None:
    """With few labels and a large weight the codes tell the classes better than without; weight 0 changes nothing."""
    y = np.where(np.arange(len(data.train.x)) % 10 == 0, data.train.y, -1)
    train = data.train._replace(y=jnp.asarray(y))
    stages = [pt.Stage(pt.Autoencoder(16), pt.Momentum(0.05), epochs=10, batch_size=20)]
    plain, none, much = (pt.pretrain(stages, train, seeds=SEEDS, label_weight=w) for w in (None, 0.0, 3.0))
    np.testing.assert_allclose(none.layers[0].weights, plain.layers[0].weights, atol=1e-6)
    errors = []
    for stack_ in (plain, much):
        coded = codes(stack_.layers[0], data.valid)
        learned = pt.run(Classifier(10), pt.Sgd(0.5), pt.Batch(coded.x[0], data.valid.y), epochs=10, batch_size=20)
        errors.append(float(learned.history["error"][-1, 0]))
    assert errors[1] < errors[0]
    with pytest.raises(ValueError, match="label_weight needs labelled training rows"):
        pt.pretrain(stages, train._replace(y=jnp.full(len(y), -1)), label_weight=1.0)


def test_a_probe_is_in_the_history_and_changes_no_bit(data: pt.data.Splits) -> None:
    options = {"epochs": 2, "batch_size": 20, "seeds": SEEDS}
    with_probe, without = (
        pt.run(pt.BernoulliRBM(8), pt.Sgd(0.1), data.train, probe=p, **options) for p in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, with_probe.params, without.params)
    assert set(with_probe.history) - set(without.history) == {"update_ratio", "dead_units", "saturated_units"}


def test_labels_may_be_each_members_own(data: pt.data.Splits) -> None:
    """Two members on rows of their own are what each is alone."""
    parts = [pt.Batch(data.train.x[i : i + 60], data.train.y[i : i + 60]) for i in (0, 60)]
    both = pt.Batch(jnp.stack([p.x for p in parts]), jnp.stack([p.y for p in parts]))
    options = {"epochs": 3, "batch_size": 20}
    together = pt.run(Classifier(10), pt.Sgd(0.5), both, seeds=SEEDS, **options)
    for index, (seed, part) in enumerate(zip(SEEDS, parts, strict=True)):
        alone = pt.run(Classifier(10), pt.Sgd(0.5), part, seeds=[seed], **options)
        np.testing.assert_allclose(
            together.params.layers[0].weights[index], alone.params.layers[0].weights[0], atol=1e-6
        )
