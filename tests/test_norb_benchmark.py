"""What the NORB table is made with: baselines against scikit-learn, a convolutional network, a joint machine's row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.signal import correlate2d
from sklearn import neighbors, svm

import pretrain as pt
from benchmarks import runner
from benchmarks.baselines import SVM, LogisticRegression, NearestNeighbours, squared_distances
from benchmarks.convnet import ConvNet
from benchmarks.experiment import Joint, Plan, Scale
from benchmarks.illustrations import illustrations
from benchmarks.pairs import Neighbours
from benchmarks.papers.larochelle2009 import tuning
from benchmarks.papers.norb_plans import CHOSEN, gaussian, machine, output, refitted, sparse
from benchmarks.papers.salakhutdinov2009 import EXPERIMENT, standardised_digits
from benchmarks.render import render
from benchmarks.results import read_results
from benchmarks.stacks import Stacks
from benchmarks.summary import summary
from benchmarks.tasks.classification import confusion
from pretrain import Batch
from pretrain.data import Shifts, Splits, standardised_pairs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]


@pytest.fixture(scope="module")
def data() -> Splits:
    return standardised_digits()


def some(batch: Batch, n: int) -> Batch:
    assert batch.y is not None
    return Batch(batch.x[:n], batch.y[:n])


def test_squared_distances_are_those_of_the_differences() -> None:
    random = np.random.default_rng(0)
    a, b = (random.normal(5.0, 1.0, (n, 7)).astype(np.float32) for n in (4, 6))
    expected = np.square(a[:, None] - b[None]).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-4)


def test_the_support_vector_machine_is_scikit_learns(data: Splits) -> None:
    """The same kernel through scikit-learn's own code gives the same classes; what was chosen errs least."""
    train, valid = some(data.train, 300), some(data.valid, 100)
    found = SVM(costs=(0.1, 10.0), gammas=(0.1, 2.0)).fit(train, valid)
    x = np.asarray(train.x, np.float64)
    unit = 1.0 / np.square(x[:, None] - x[None]).sum(axis=-1).mean()
    model = svm.SVC(C=found.values["cost"], gamma=found.values["gamma"] * unit).fit(x, np.asarray(train.y))
    np.testing.assert_array_equal(found.predict(data.test.x), model.predict(np.asarray(data.test.x, np.float64)))
    assert len(found.tried) == 4
    least = min(tried["valid"] for tried in found.tried)
    assert least == pytest.approx(100 * np.mean(found.predict(valid.x) != np.asarray(valid.y)))
    assert max(tried["valid"] for tried in found.tried) > least


def test_neighbours_and_regression_choose_by_validation(data: Splits) -> None:
    train, valid = some(data.train, 300), some(data.valid, 100)
    found = NearestNeighbours((1, 50)).fit(train, valid)
    assert found.values == {"k": 1.0}
    model = neighbors.KNeighborsClassifier(1).fit(np.asarray(train.x), np.asarray(train.y))
    np.testing.assert_array_equal(found.predict(data.test.x), model.predict(np.asarray(data.test.x)))
    linear = LogisticRegression((1e-6, 0.1)).fit(train, valid)
    assert linear.values == {"cost": 0.1}
    assert np.mean(linear.predict(data.test.x) != np.asarray(data.test.y)) < 0.15


def by_hand(params: Any, images: np.ndarray) -> np.ndarray:
    """The network's logits by SciPy's correlation, image by image; ``images`` ``[rows, height, width, eyes]``."""
    for name in ("first", "second"):
        kernel, bias = (np.asarray(params[name]["linear"][part], np.float64) for part in ("kernel", "bias"))
        kernel = kernel.reshape(5, 5, images.shape[-1], -1)
        maps = [
            sum(correlate2d(image[..., i], kernel[..., i, o], mode="same") for i in range(kernel.shape[2])) + bias[o]
            for image in images
            for o in range(kernel.shape[3])
        ]
        maps = np.maximum(maps, 0.0).reshape(len(images), kernel.shape[3], *images.shape[1:3]).transpose(0, 2, 3, 1)
        rows, height, width, channels = maps.shape
        images = maps.reshape(rows, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    dense = [np.asarray(params[name][part]) for name in ("hidden", "output") for part in ("kernel", "bias")]
    return np.maximum(images.reshape(len(images), -1) @ dense[0] + dense[1], 0.0) @ dense[2] + dense[3]


def test_the_convolutional_network_is_convolutions_and_learns(data: Splits) -> None:
    stereo = ConvNet(3, (2, 8, 4), (4, 5), 6)
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    params, _ = stereo.init(jax.random.key(0), Batch(jnp.asarray(x)))
    expected = by_hand(params, x.reshape(3, 2, 8, 4).transpose(0, 2, 3, 1))
    np.testing.assert_allclose(stereo.layer(params)(jnp.asarray(x)), expected, atol=1e-4)
    learner = ConvNet(10, (1, 8, 8), (4, 8), 16, dropout=0.2)
    done = pt.run(learner, pt.Adam(1e-2), data.train, epochs=3, batch_size=20, monitors={"valid": data.valid})
    assert (done.history["valid/error"][-1] < 30.0).all()
    with pytest.raises(ValueError, match="multiples of 4; got"):
        ConvNet(10, (1, 6, 8))
    with pytest.raises(ValueError, match="got 63 features"):
        learner.init(jax.random.key(0), Batch(data.train.x[:, 1:]))


def test_confusion_counts_rows() -> None:
    counts = confusion(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 0]))
    assert counts == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]


def test_what_is_refitted_was_chosen_where_objects_are_held_out() -> None:
    tables = Path(__file__).parent.parent / "paper_tables" / "norb" / "paper" / "results.jsonl"
    chosen = {line["row"]: line["chosen"] for line in read_results(tables) if "chosen" in line}
    for name, baseline in CHOSEN.items():
        assert {f"{number}s": (value,) for number, value in chosen[name].items()}.items() <= vars(baseline).items()


def test_on_contrast_every_machine_is_sparse_and_tuned_under_dropout() -> None:
    for row in ("dbm", "srbm"):
        before, plan = (EXPERIMENT.row(row).plans[scale] for scale in ("refit", "contrast"))
        assert [stage.learner.n_hidden for stage in plan.pretraining] == [1000] * 3
        assert all(stage.learner.sparsity == pt.SparsityTarget(0.02, 1.0) for stage in plan.pretraining)
        assert [stage.learner.doubled for stage in plan.pretraining] == [s.learner.doubled for s in before.pretraining]
        assert plan.fine_tuning is not None
        learner = plan.fine_tuning.learner
        assert (learner.dropout, learner.input_dropout, plan.held, plan.fine_tuning.patience) == (0.5, 0.7, 1, None)
    joint = EXPERIMENT.row("dbm").plans["contrast"].joint
    assert joint is not None
    assert joint.stage.learner.sparsity == (pt.SparsityTarget(0.02, 1e-3),) * 2


def test_where_nothing_is_held_out_all_is_trained_and_nothing_chosen(data: Splits, tmp_path: Path) -> None:
    srbm = Plan((gaussian(32, 0.01, 6, 20, warm_up=1.0),), tuning(1.0, 6, 10), held=1)
    knn = Plan((), baseline=NearestNeighbours((1, 3)))
    plans = {"srbm": sparse(refitted(srbm, None), 6, 10), "knn": refitted(knn, NearestNeighbours((1,)))}
    rows = [dataclasses.replace(EXPERIMENT.row(name), plans={"smoke": plan}) for name, plan in plans.items()]
    whole = data._replace(valid=jax.tree.map(lambda values: values[:0], data.valid))
    path = runner.run(EXPERIMENT, "smoke", rows, n_seeds=1, data=lambda _: whole, out=tmp_path, interactive=False)
    for line in read_results(path):
        assert line["valid_error"] is None
        assert line["test_error"] < 80.0
        assert line.get("chosen") == ({"k": 1.0} if line["row"] == "knn" else None)
    assert tmp_path / "confusion.svg" in render(EXPERIMENT, "smoke", tmp_path)
    assert "seed by seed" not in (tmp_path / "table.md").read_text()
    for baseline in (NearestNeighbours((1, 3)), LogisticRegression((0.1, 1.0)), SVM((1.0, 3.0), (2.0,))):
        with pytest.raises(ValueError, match="nothing is held out to choose among"):
            baseline.fit(some(data.train, 50), None)


def test_rows_and_seeds_have_data_of_their_own(data: Splits, tmp_path: Path) -> None:
    """A scale's data are its seeds' in turn; a plan's stand in their place, and its stack is not another row's."""
    parts = {name: data._replace(test=some(data.test, n)) for name, n in (("a", 300), ("b", 200), ("c", 100))}
    experiment = dataclasses.replace(
        EXPERIMENT, scales={"smoke": Scale(("a", "b"), 2, "")}, image_shape=dict.fromkeys(parts, (8, 8))
    )
    on_codes = Plan((gaussian(16, 0.01, 2, 20),), baseline=NearestNeighbours((1,)))
    plans = {"knn-srbm": on_codes, "lr-srbm": on_codes, "svm-srbm": on_codes.replace(data="c")}  # type: ignore[attr-defined]
    rows = [dataclasses.replace(EXPERIMENT.row(name), plans={"smoke": plan}) for name, plan in plans.items()]
    options = {"n_seeds": 3, "data": parts.__getitem__, "interactive": False}
    path = runner.run(experiment, "smoke", rows, out=tmp_path, wave=3, **options)
    lines = {(line["row"], line["seed"]): line for line in read_results(path)}
    assert [lines["knn-srbm", seed]["data"] for seed in range(3)] == ["a", "b", "a"]
    assert [lines["knn-srbm", seed]["test_rows"] for seed in range(3)] == [300, 200, 300]
    assert [lines["svm-srbm", seed]["test_rows"] for seed in range(3)] == [100, 100, 100]
    assert [lines["svm-srbm", seed]["members"] for seed in range(3)] == [3, 3, 3]
    assert [lines["knn-srbm", seed]["members"] for seed in range(3)] == [2, 1, 2]  # side by side, on the same data
    pretrained = {key for key, line in lines.items() if "layer 1/1" in line["seconds"]}
    assert pretrained == {(row, seed) for row in ("knn-srbm", "svm-srbm") for seed in range(3)}
    assert lines["lr-srbm", 1]["test_error"] == lines["knn-srbm", 1]["test_error"]
    render(experiment, "smoke", tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "each with data of its own" in text
    apart = [lines["lr-srbm", seed]["test_error"] - lines["svm-srbm", seed]["test_error"] for seed in range(3)]
    assert "less that of `svm-srbm` with the same seed" in text
    for name in ("lr-srbm", "knn-srbm"):  # the same plan by another name
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`") and "±" in line]
        mean, _, half = line.split("|")[2].split()
        assert float(mean) == pytest.approx(np.mean(apart), abs=0.005)
        assert float(half) == pytest.approx(stats.sem(apart) * stats.t.ppf(0.975, 2), abs=0.005)
    assert "11.60" in text  # what was published
    scale = dataclasses.replace(experiment.scales["smoke"], comparable=False)
    render(dataclasses.replace(experiment, scales={"smoke": scale}), "smoke", tmp_path)
    assert "11.60" not in (tmp_path / "table.md").read_text()


def test_seeds_with_data_of_their_own_train_side_by_side_where_these_are_of_one_size(
    data: Splits, tmp_path: Path
) -> None:
    """Each as it would have alone, from the machine's front to its errors; memory is planned with their own rows."""
    none = some(data.valid, 0)
    parts = {"a": Splits(data.train, none, data.test), "b": Splits(data.valid, none, data.train)}
    parts = {
        name: standardised_pairs(Splits(some(part.train, 200), none, some(part.test, 300)), eyes=1)[0]
        for name, part in parts.items()
    }
    scale = Scale(("a", "b"), 2, "")
    experiment = dataclasses.replace(EXPERIMENT, scales={"smoke": scale}, image_shape=dict.fromkeys(parts, (8, 8)))
    greedy, joint = machine((8, 6), 0.3, 1, 1, 0.02, 20)
    front, tuned = gaussian(16, 0.01, 1, 20), tuning(1.0, 4, 10)
    plans = {
        "dbm": refitted(Plan((front, *greedy), tuned, joint=Joint(joint, 1, gibbs_steps=5), held=1), None),
        "srbm": refitted(Plan((front,), tuned), None),
        "knn": Plan((), baseline=NearestNeighbours((1,))),
    }
    rows = [dataclasses.replace(EXPERIMENT.row(name), plans={"smoke": plan}) for name, plan in plans.items()]
    said: list[str] = []
    options = {"n_seeds": 2, "data": parts.__getitem__, "interactive": False, "say": said.append}
    both, alone = (
        read_results(
            runner.run(experiment, "smoke", [rows[0], rows[2]], out=tmp_path / str(wave), wave=wave, **options)  # type: ignore
        )
        for wave in (2, 1)
    )
    for here, there in zip(both, alone, strict=True):
        assert (here["row"], here["seed"], here["data"]) == (there["row"], there["seed"], there["data"])
        assert (here["members"], there["members"]) == (1 if here["row"] == "knn" else 2, 1)
        assert here["test_error"] == pytest.approx(there["test_error"], abs=1.0)  # three rows
        assert here["train_error"] == pytest.approx(there["train_error"], abs=1.5)
    assert both[0]["test_error"] != both[1]["test_error"]
    runner.run(experiment, "smoke", rows[1:2], out=tmp_path / "planned", memory=2**30, **options)  # type: ignore
    assert [line for line in said if "2 members in 1 wave of 2" in line]


def test_partners_are_those_of_the_data_at_hand(data: Splits) -> None:
    """Not of the data that came before."""
    stacks, fewer = Stacks(None), data._replace(train=some(data.train, 50))
    sizes = [len(stacks.paired(Neighbours(2), part)[0].x) for part in (data, fewer, fewer, data)]
    assert sizes == [len(data.train.x), 50, 50, len(data.train.x)]


def test_validation_rows_are_watched_and_change_nothing(data: Splits) -> None:
    stage = tuning(1.0, 2, 10, n_hidden=(8,))
    last = stage.replace(patience=None)  # type: ignore[attr-defined]
    seen, unseen = (pt.fine_tune((), last, data.train, valid=valid) for valid in (data.valid, None))
    for a, b in zip(jax.tree.leaves(seen.params), jax.tree.leaves(unseen.params), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="early stopping needs"):
        pt.fine_tune((), stage, data.train)


def test_a_joint_machine_and_baselines_run_as_rows(tmp_path: Path) -> None:
    """The row of a deep Boltzmann machine above a Gaussian front, of a baseline on codes and of one on pixels."""
    greedy, joint = machine((24, 16), 0.3, 6, 2, 0.02, 20)
    front = gaussian(32, 0.01, 6, 20)
    dbm = Plan((front, *greedy), tuning(1.0, 6, 10), joint=Joint(joint, 1, gibbs_steps=5), output=output(4, 20, 10))
    plans = {
        "dbm": dbm,
        "dbm-shifts": dbm.replace(held=1, augment_tuning=Shifts((1, 8, 8), 1)),  # type: ignore[attr-defined]
        "srbm": Plan((front,), tuning(1.0, 6, 10)),
        "srbm-shifts": Plan((front,), tuning(1.0, 6, 10), held=1),
        "knn-srbm": Plan((front,), baseline=NearestNeighbours((1, 3))),
        "knn": Plan((), baseline=NearestNeighbours((1, 3))),
    }
    rows = [dataclasses.replace(EXPERIMENT.row(name), plans={"smoke": plan}) for name, plan in plans.items()]
    path = runner.run(
        EXPERIMENT, "smoke", rows, n_seeds=1, data=lambda _: standardised_digits(), out=tmp_path, interactive=False
    )
    lines: dict[str, Any] = {line["row"]: line for line in read_results(path)}
    assert lines["dbm"]["n_hidden"] == [32, 24, 16]
    assert lines["dbm"]["samples"]["shape"] == [36, 8, 8]
    assert {"layer 3/3", "joint", "fine-tuning"} < lines["dbm"]["seconds"].keys()
    assert lines["dbm"]["test_error"] < 70.0
    assert set(lines["dbm-shifts"]["seconds"]) == {"fine-tuning", "measuring"}  # of one machine with the row before
    assert lines["dbm-shifts"]["samples"] == lines["dbm"]["samples"]
    drawn = illustrations("", EXPERIMENT, summary(EXPERIMENT, lines.values()))["samples.svg"].arguments[1]
    assert list(drawn) == [EXPERIMENT.row("dbm").title]  # and not twice
    rows = [dataclasses.replace(row, drawn=row.name != "dbm") for row in EXPERIMENT.rows]
    some_drawn = dataclasses.replace(EXPERIMENT, rows=tuple(rows))
    drawn = illustrations("", some_drawn, summary(some_drawn, lines.values()))["samples.svg"].arguments[1]
    assert list(drawn) == [EXPERIMENT.row("dbm-shifts").title]
    assert lines["dbm-shifts"]["valid_curve"] != lines["dbm"]["valid_curve"]
    assert lines["srbm"]["filters"] == lines["srbm-shifts"]["filters"]  # of one stack, as it was pretrained,
    assert lines["srbm"]["valid_curve"][-1] < lines["srbm-shifts"]["valid_curve"][-1]  # and tuned, or held
    assert tmp_path / "confusion.svg" in render(EXPERIMENT, "smoke", tmp_path)  # ten classes, none of NORB's five
    assert lines["knn"]["chosen"]["k"] in (1.0, 3.0)
    assert lines["knn"]["test_error"] < 5.0
    assert lines["knn-srbm"]["test_error"] < 40.0
    for line in lines.values():
        counts = np.asarray(line["confusion"])
        assert counts.sum() == line["test_rows"]
        assert 100 * (1 - np.trace(counts) / counts.sum()) == pytest.approx(line["test_error"])
