"""The command line as a user meets it: smoke runs, resuming after a kill, wrong names, the grid."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA as SklearnPCA

from benchmarks import runner
from benchmarks.__main__ import EXPERIMENTS, main
from benchmarks.experiment import Experiment, Plan, declaration_hash, declared, replaced
from benchmarks.papers import larochelle2009
from benchmarks.results import JOURNAL, only_run, read_results, store
from benchmarks.tasks.classification import Classification
from pretrain.data import binarised, digits
from pretrain.population import member_keys
from pretrain.preflight import check_stages
from pretrain.types import Batch

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXPERIMENT = EXPERIMENTS["mnist"]
MEASURED = {"seconds", "peak_memory_mb"}
"""The fields of a result that are measured rather than computed."""


def computed(path: Path) -> list[dict]:
    """The results, without what differs from run to run."""
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in read_results(path)]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, quick_compilation: None) -> Path:
    """All rows at smoke scale, two seeds, through the command line."""
    out = tmp_path_factory.mktemp("smoke")
    assert main(["mnist", "--scale", "smoke", "--seeds", "2", "--out", str(out)]) == 0
    return out / "mnist" / "smoke"


def test_smoke_fills_every_row(smoke: Path) -> None:
    lines = read_results(smoke / "results.jsonl")
    assert [(line["row"], line["seed"]) for line in lines] == [
        (row.name, seed) for row in EXPERIMENT.rows for seed in (0, 1)
    ]
    for line in lines:
        assert line["finite"] is True
        assert line["test_error"] < 15.0, line["row"]  # chance is 90
        assert line["valid_error"] == pytest.approx(min(line["valid_curve"]), abs=0.34)  # one row of 300 is 0.33
        assert len(line["declaration"]) == 12
        assert set(line["versions"]) >= {"python", "jax", "optax"}
    assert not (smoke / "checkpoints").exists()
    for name in ("table.md", "table.csv", "table.tex", "validation_curves.svg", "filters.svg"):
        assert (smoke / name).stat().st_size > 0
    assert "1.20" in (smoke / "table.md").read_text()  # the published figure stands beside ours


def test_what_is_done_is_not_run_again(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (smoke / "results.jsonl").read_bytes()
    assert main(["mnist", "--scale", "smoke", "--seeds", "2", "--out", str(smoke.parent.parent)]) == 0
    assert (smoke / "results.jsonl").read_bytes() == before
    assert "2 of 2 seeds are already in" in capsys.readouterr().err


def test_rendering_again_changes_nothing(smoke: Path) -> None:
    before = {path.name: path.read_bytes() for path in smoke.iterdir()}
    assert main(["render", "--out", str(smoke.parent.parent)]) == 0
    assert {path.name: path.read_bytes() for path in smoke.iterdir()} == before


def test_a_killed_run_resumes_to_the_identical_result(smoke: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle of a row; the same command then ends with the results of the uninterrupted run."""
    script = (
        "import sys, pretrain.stack as s, pretrain.checkpoint as c, benchmarks.__main__ as m\n"
        "due = c.Checkpoints.due\n"
        "c.Checkpoints.due = lambda self: True\n"  # save every epoch, so that the kill falls inside a stage
        "sys.exit(m.main(sys.argv[1:]))\n"
    )
    words = ["mnist", "--scale", "smoke", "--rows", "srbm", "--seeds", "1", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.Popen([sys.executable, "-c", script, *words], env=environment, stderr=subprocess.DEVNULL)
    second_stage = tmp_path / "mnist" / "smoke" / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(second_stage.glob("*/layer-2-of-3/[0-9]*")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "mnist" / "smoke" / "results.jsonl").exists()
    assert main(words) == 0
    again = computed(tmp_path / "mnist" / "smoke" / "results.jsonl")
    first = [line for line in computed(smoke / "results.jsonl") if line["row"] == "srbm" and line["seed"] == 0]
    assert {line.pop("command") for line in again} == {"python -m benchmarks mnist --scale smoke --rows srbm --seeds 1"}
    for line in first:
        line.pop("command")
    assert again == first


def test_interrupting_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Classification, "train", interrupted)
    words = ["mnist", "--scale", "smoke", "--rows", "deep", "--out", str(tmp_path)]
    assert main(words) == 130
    assert f"goes on from here:\n  python -m benchmarks {' '.join(words)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnits"], "unknown command 'mnits': did you mean 'mnist'?"),
        (["mnist", "--rows", "srmb", "--scale", "smoke"], "unknown row 'srmb': did you mean 'srbm'?"),
        (["mnist", "--scale", "qick"], "unknown scale 'qick': did you mean 'quick'?"),
        (["mnist", "--scale", "smoke", "--precision", "bf16"], "unknown precision 'bf16': did you mean 'bfloat16'?"),
        (["mnist", "--scale", "smoke", "--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["mnist", "--scale", "smoke", "--wave", "-1"], "seeds and wave must be at least 1"),
        (["speed", "--contenders", "troch"], "unknown contender 'troch': did you mean 'torch'?"),
        (["render", "--out", "nowhere"], "there are no results under nowhere"),
        (["render", "--experiment", "mnst"], "unknown experiment 'mnst': did you mean 'mnist'?"),
    ],
)
def test_wrong_names_end_with_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(words)
    except SystemExit as stopped:  # tyro's own refusals
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_run(tmp_path / "mnist" / "smoke"):
        assert main(["mnist", "--scale", "smoke", "--rows", "deep", "--out", str(tmp_path)]) == 2
    assert "another run is writing to" in capsys.readouterr().err


def test_an_absent_data_folder_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    assert main(["mnist", "--data-dir", str(absent), "--out", str(tmp_path)]) == 2
    assert str(absent) in capsys.readouterr().err


def test_list_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(row.name in shown for row in EXPERIMENT.rows)


def test_the_grid_chooses_on_validation_and_is_kept(tmp_path: Path) -> None:
    """A learning rate that learns nothing is beaten; the search is stored and not repeated."""
    row = EXPERIMENT.row("shallow")
    plan = dataclasses.replace(row.plans["smoke"], grid={"fine_tuning.optimizer.learning_rate": (1e-6, 0.5)})
    row = dataclasses.replace(row, plans={"smoke": plan})
    options = {"n_seeds": 1, "data": digits(), "out": tmp_path, "grid": True, "interactive": False}
    results = runner.run(EXPERIMENT, "smoke", [row], **options)
    chosen = json.loads((tmp_path / "selection.jsonl").read_text())
    assert chosen["values"] == {"fine_tuning.optimizer.learning_rate": 0.5}
    assert [t["fine_tuning.optimizer.learning_rate"] for t in chosen["tried"]] == [1e-6, 0.5]
    assert chosen["tried"][0]["valid"] > chosen["valid"]
    (line,) = read_results(results)
    assert line["hyperparameters"]["fine_tuning"]["optimizer"]["learning_rate"] == 0.5
    stored = (tmp_path / "selection.jsonl").read_bytes()
    runner.run(EXPERIMENT, "smoke", [row], **options)
    assert (tmp_path / "selection.jsonl").read_bytes() == stored


def test_the_grid_is_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that declares no grid at this scale is trained as declared."""
    assert main(["mnist", "--scale", "smoke", "--rows", "shallow", "--grid", "--out", str(tmp_path)]) == 0
    (line,) = read_results(tmp_path / "mnist" / "smoke" / "results.jsonl")
    assert line["selection"] is None
    assert line["command"].endswith("--rows shallow --grid")


def test_the_hash_names_what_is_run() -> None:
    row = EXPERIMENT.row("srbm")
    plan = row.plans["smoke"]
    other = replaced(plan, "pretraining.*.optimizer.learning_rate", 0.123)
    assert {stage.optimizer.learning_rate for stage in other.pretraining} == {0.123}
    hashes = {declaration_hash(EXPERIMENT, row, "smoke", p) for p in (plan, other)}
    assert len(hashes) == 2


def test_what_was_published_is_table_1s() -> None:
    assert {row.name: row.published for row in EXPERIMENT.rows} == {
        name: published for name, (_, published) in larochelle2009.TITLES.items()
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def test_every_declaration_is_whole(experiment: Experiment) -> None:
    """Every row has a plan at every scale (of the label counts: at those the data allows; but for the one that only
    compares hold-outs), its grid names numbers it
    has, its classifier has as many classes as its data and, but for NORB's machines, an early stop.
    """
    assert len({row.name for row in experiment.rows}) == len(experiment.rows)
    for row in experiment.rows:
        assert row.series or set(row.plans) >= set(experiment.scales) - {"random"}
        for scale, plan in row.plans.items():
            assert plan.pretraining or plan.fine_tuning or plan.baseline
            if experiment.task.measure == "error" and plan.baseline is None:
                assert plan.fine_tuning.patience is not None or experiment.name == "norb"
                n_classes = 5 if experiment.scales[scale].data in ("norb", "subset", "subset-random") else 10
                assert plan.fine_tuning.learner.n_classes == n_classes
            for path in plan.grid:
                assert replaced(plan, path, 0.123) != plan
            assert len(declaration_hash(experiment, row, scale, plan)) == 12
    for scale in experiment.scales.values():
        assert scale.data in experiment.data
        assert scale.data in experiment.image_shape


def distinct_stacks() -> list[tuple[str, Plan]]:
    """Every pretraining that is declared for MNIST."""
    found = {
        json.dumps(declared(plan.pretraining)): (f"{experiment.name}-{row.name}-{scale}", plan)
        for experiment in EXPERIMENTS.values()
        for row in experiment.rows
        for scale, plan in row.plans.items()
        if plan.pretraining and experiment.scales[scale].data == "mnist"
    }
    return list(found.values())


@pytest.mark.parametrize("plan", [p for _, p in distinct_stacks()], ids=[name for name, _ in distinct_stacks()])
def test_every_stack_fits_mnist(plan: Plan) -> None:
    """Sizes, inputs and needs of all layers, found from shapes: nothing is trained."""
    x = jnp.zeros((2_500, 784))
    train = Batch(x, jnp.zeros(2_500, jnp.int32), x)
    check_stages(plan.pretraining, train, train, member_keys([0]))


SOME = {
    "family": "kernel-pca,slow-features",
    "labels": "srbm-50,srbm-1197",
    "histogram": "sdae-2,sdae-1,sdae-marginals",
    "likelihood": "rbm-cd1-20,dbn-up-down",
    "autoencoder": "deep-autoencoder-2d,pca-2d",
}
"""Of each experiment the rows that try what the others do not."""


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory, quick_compilation: None) -> Path:
    """These rows at smoke scale, through the command line."""
    out = tmp_path_factory.mktemp("some")
    for name, rows in SOME.items():
        assert main([name, "--scale", "smoke", "--seeds", "1", "--rows", rows, "--out", str(out)]) == 0
    return out


def stored(some: Path, experiment: str) -> dict[str, dict]:
    lines = read_results(some / experiment / "smoke" / "results.jsonl")
    assert [line["row"] for line in lines] == SOME[experiment].split(",")
    assert all(line["finite"] for line in lines)
    assert not (some / experiment / "smoke" / "checkpoints").exists()
    return {line["row"]: line for line in lines}


def test_the_family_learns(some: Path) -> None:
    for row, line in stored(some, "family").items():
        assert line["test_error"] < 25.0, row  # chance is 90
    text = (some / "family" / "smoke" / "table.md").read_text()
    assert "2.40" in text  # what was published stands beside it, with its source
    assert re.search("Published, .*`deep-2009`.*: Larochelle", text)


def test_more_labels_help_and_share_a_stack(some: Path) -> None:
    few, many = stored(some, "labels").values()
    assert many["test_error"] < few["test_error"]
    assert "layer 1/3" in few["seconds"]
    assert set(many["seconds"]) == {"fine-tuning", "measuring"}
    folder = some / "labels" / "smoke"
    assert (folder / "levels.svg").stat().st_size > 0
    assert "| SRBM " in (folder / "table.md").read_text()


def test_depths_and_what_is_kept_share_a_stack(some: Path) -> None:
    lines = stored(some, "histogram")
    assert [line["n_hidden"] for line in lines.values()] == [[24, 24], [24], [24, 24, 24]]
    assert [any(stage.startswith("layer") for stage in line["seconds"]) for line in lines.values()] == [
        True,
        False,
        False,
    ]
    assert ["layers above" in line["seconds"] for line in lines.values()] == [True, False, False]  # three, not kept
    assert all(line["test_error"] < 30.0 for row, line in lines.items() if row != "sdae-marginals")


def test_log_probabilities_are_those_of_the_exact_partition_function(some: Path) -> None:
    """AIS's interval holds the exact log Z; a machine that knows the mean of each pixel is beaten."""
    lines = stored(some, "likelihood")
    exact = lines["rbm-cd1-20"]
    low, high = exact["log_z_interval"]
    assert low < exact["exact_log_z"] < high
    train, test = (np.asarray(part.x) for part in (binarised(digits()).train, binarised(digits()).test))
    mean = np.clip(train.mean(axis=0), 1 / len(train), 1 - 1 / len(train))
    independent = (test * np.log(mean) + (1 - test) * np.log1p(-mean)).sum(axis=1).mean()
    for line in lines.values():
        low, high = line["test_log_probability_interval"]
        assert low <= line["test_log_probability"] <= high
        assert independent - 1.0 < line["test_log_probability"] < 0.0
    assert (some / "likelihood" / "smoke" / "samples.svg").stat().st_size > 0


def test_principal_components_are_those_of_scikit_learn(some: Path) -> None:
    lines = stored(some, "autoencoder")
    train, test = np.asarray(digits().train.x), np.asarray(digits().test.x)
    peer = SklearnPCA(2).fit(train)
    error = np.square(test - peer.inverse_transform(peer.transform(test))).sum(axis=1).mean()
    assert lines["pca-2d"]["test_squared_error"] == pytest.approx(error, rel=1e-4)
    assert lines["deep-autoencoder-2d"]["test_squared_error"] < np.square(test - train.mean(axis=0)).sum(axis=1).mean()
    for name in ("codes.svg", "reconstructions.svg"):
        assert (some / "autoencoder" / "smoke" / name).stat().st_size > 0


def test_a_row_without_a_plan_at_that_scale_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "--scale", "smoke", "--rows", "srbm-100"]) == 2
    assert "no plan for srbm-100 at scale 'smoke'" in capsys.readouterr().err


def result(row: str, value: float) -> dict:
    return {"row": row, "seed": 0, "declaration": "abc", "value": value}


def test_a_damaged_last_line_is_dropped_and_any_other_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    store(path, [result("a", float("nan"))])
    with path.open("a") as file:
        file.write('{"a": 2')
    assert read_results(path) == [result("a", 0) | {"value": None}]
    store(path, [result("b", 3)])
    assert [line["row"] for line in read_results(path)] == ["a", "b"]
    store(path, [result("a", 4)])
    assert read_results(path) == [result("b", 3), result("a", 4)]
    path.write_text('{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match="line 1: not JSON"):
        read_results(path)


def test_results_that_came_with_a_checkout_are_computed_again(tmp_path: Path) -> None:
    """Without the journal of this machine the row is trained, and its line is replaced by the same one."""
    words = ["mnist", "--scale", "smoke", "--rows", "shallow", "--out", str(tmp_path)]
    folder = tmp_path / "mnist" / "smoke"
    assert main(words) == 0
    first = computed(folder / "results.jsonl")
    altered = [line | {"test_error": 50.0} for line in read_results(folder / "results.jsonl")]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in altered))
    (folder / JOURNAL).unlink()
    assert main(words) == 0
    assert computed(folder / "results.jsonl") == first
