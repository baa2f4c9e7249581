"""Stacks and their fine-tuning from checkpoints: the same bits as without a stop, and nothing of another run."""

from pathlib import Path

import jax
import numpy as np
import pytest

import pretrain as pt
from pretrain import population
from pretrain.checkpoint import Checkpoints
from pretrain.data import digits
from pretrain.learners.classifier import Classifier
from pretrain.report import Record

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def data() -> pt.data.Splits:
    return digits()


@pytest.fixture(scope="module")
def autoencoders(data: pt.data.Splits, quick_compilation: None) -> pt.Pretrained:
    stages = (
        pt.Stage(pt.BernoulliRBM(24), pt.Momentum(0.05), epochs=5, batch_size=20),
        pt.Stage(pt.Autoencoder(16), pt.Momentum(0.02), epochs=5, batch_size=20),
    )
    return pt.pretrain(stages, data.train, seeds=SEEDS)


def test_a_stack_resumes_from_its_checkpoints_bit_for_bit(
    data: pt.data.Splits, autoencoders: pt.Pretrained, tmp_path
) -> None:
    class Stop(Exception):
        pass

    def stop_in_second_layer(record) -> None:
        if record.stage == "layer 2/2" and record.epoch == 3:
            raise Stop

    checkpoints = Checkpoints(tmp_path / "run", every=0.0)
    with pytest.raises(Stop):
        pt.pretrain(autoencoders.stages, data.train, seeds=SEEDS, checkpoints=checkpoints, report=stop_in_second_layer)
    seen: list[tuple[str, int]] = []
    resumed = pt.pretrain(
        autoencoders.stages,
        data.train,
        seeds=SEEDS,
        checkpoints=checkpoints,
        report=lambda record: seen.append((record.stage, record.epoch)),
    )
    assert seen == [("layer 2/2", 4), ("layer 2/2", 5)]
    jax.tree.map(np.testing.assert_array_equal, resumed.params, autoencoders.params)
    for ours, theirs in zip(resumed.progress, autoencoders.progress, strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours.history, theirs.history)


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused(data: pt.data.Splits, tmp_path) -> None:
    """Other rates, seeds, rows, samplers, validation rows, layers below or layers to tune; more epochs go on."""
    train, valid = (jax.tree.map(lambda leaf: leaf[:100], part) for part in data[:2])
    low = pt.Stage(pt.BernoulliRBM(4), pt.Momentum(0.1), epochs=2, batch_size=20)
    top = pt.Stage(pt.BernoulliRBM(3), pt.Momentum(0.1), epochs=2, batch_size=20)
    kept, tuning = Checkpoints(tmp_path / "stack"), Checkpoints(tmp_path / "tuned")
    first = pt.pretrain([low, top], train, checkpoints=kept)
    with pytest.raises(ValueError, match="layer-2 holds a checkpoint of 2 epochs, of which 1 were asked for"):
        pt.pretrain([low, top.replace(epochs=1)], train, checkpoints=kept)
    longer = pt.pretrain([low, top.replace(epochs=3)], train, checkpoints=kept)
    assert [each.epoch for each in longer.progress] == [2, 3]
    others = [
        ([low.replace(optimizer=pt.Momentum(0.2)), top], train, {}),
        ([low.replace(learner=pt.BernoulliRBM(4, sampler=pt.CD(5))), top], train, {}),
        ([low, top], train, {"seeds": [1]}),
        ([low, top], train._replace(x=1.0 - train.x), {}),
        ([low, top], train, {"valid": valid}),
        ([low.replace(epochs=3), top], train, {}),  # the layer below is another
    ]
    for stages, rows, options in others:
        which = 2 if stages[0].epochs == 3 else 1
        with pytest.raises(ValueError, match=f"layer-{which} holds the checkpoint of another run"):
            pt.pretrain(stages, rows, checkpoints=kept, **options)
    again = pt.pretrain([low, top.replace(epochs=3)], train, checkpoints=kept)  # what was refused has changed nothing
    np.testing.assert_array_equal(again.layers[1].weights, longer.layers[1].weights)
    third = pt.Stage(pt.BernoulliRBM(2), pt.Momentum(0.1), epochs=2, batch_size=20)
    grown = Checkpoints(tmp_path / "grown")
    pt.pretrain([third], train, below=first, checkpoints=grown)
    shuffled = first._replace(layers=pt.shuffle(first, population.member_keys([0])))
    with pytest.raises(ValueError, match="layer-3 holds the checkpoint of another run"):  # the layers below are others
        pt.pretrain([third], train, below=shuffled, checkpoints=grown)
    higher = pt.pretrain([low, top.replace(epochs=3), third], train, checkpoints=kept)  # goes on above what is there
    assert higher.progress[1].seconds == longer.progress[1].seconds
    stage = pt.Stage(Classifier(10), pt.Sgd(0.5), epochs=1, batch_size=20)
    pt.fine_tune(first.layers, stage, train, checkpoints=tuning)
    with pytest.raises(ValueError, match="fine-tuning holds the checkpoint of another run"):
        pt.fine_tune(pt.shuffle(first.layers, population.member_keys([0])), stage, train, checkpoints=tuning)


@pytest.mark.slow
def test_an_output_layer_of_another_run_is_refused(data: pt.data.Splits, tmp_path: Path) -> None:
    """It is kept from when it is trained, before the fine-tuning has anything to keep."""
    train = jax.tree.map(lambda leaf: leaf[:100], data.train)
    layers = pt.pretrain([pt.Stage(pt.BernoulliRBM(4), pt.Momentum(0.1), epochs=1, batch_size=20)], train).layers
    stage = pt.Stage(Classifier(10), pt.Sgd(0.5), epochs=1, batch_size=20)
    kept = Checkpoints(tmp_path / "tuned")

    def stop(record: Record) -> None:
        if record.stage == "fine-tuning":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pt.fine_tune(layers, stage, train, output=stage, checkpoints=kept, report=stop)
    other = train._replace(x=1.0 - train.x)
    with pytest.raises(ValueError, match="output-layer holds the checkpoint of another run"):
        pt.fine_tune(layers, stage, other, output=stage, checkpoints=kept)
    gone_on = pt.fine_tune(layers, stage, train, output=stage, checkpoints=kept)
    jax.tree.map(np.testing.assert_array_equal, gone_on.params, pt.fine_tune(layers, stage, train, output=stage).params)


def test_a_progress_of_another_run_is_refused(data: pt.data.Splits) -> None:
    train = jax.tree.map(lambda leaf: leaf[:100], data.train)
    options = {"batch_size": 20, "epochs": 2}
    start = pt.run(pt.BernoulliRBM(4), pt.Momentum(0.1), train, **options)
    for learner, optimizer, others, message in (
        (pt.BernoulliRBM(3), pt.Momentum(0.1), {}, r"weights is \(\(1, 64, 4\), .* here it is \(\(1, 64, 3\)"),
        (pt.BernoulliRBM(4), pt.Sgd(0.1), {}, "opt_state.* here it is missing"),
        (pt.BernoulliRBM(4), pt.Momentum(0.1), {"seeds": [0, 1]}, r"here it is \(\(2, "),
        (
            pt.BernoulliRBM(4),
            pt.Momentum(0.1),
            {"probe": True, "epochs": 3},
            r"was measured on \[\], this one is on \[\], or but one of them with a probe",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            pt.run(learner, optimizer, train, resume=start, **options | others)
