"""The command line as a user meets it: smoke runs, resuming after a kill, wrong names, the grid, stored results."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pretrain as pt
from benchmarks import runner
from benchmarks.__main__ import EXPERIMENTS, main
from benchmarks.experiment import Plan, UsageError, declaration_hash
from benchmarks.papers.larochelle2009 import tuning
from benchmarks.results import JOURNAL, done_here, only_run, read_results, store
from benchmarks.selection import with_values
from benchmarks.stacks import named
from benchmarks.summary import summary
from benchmarks.tasks.classification import Classification
from pretrain.data import digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

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
    while not any(second_stage.glob("*/layer-2/[0-9]*")) and run.poll() is None and time.monotonic() < deadline:
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


def test_a_run_that_waited_for_the_folder_and_one_that_comes_later_do_not_both_hold_it(tmp_path: Path) -> None:
    """It had opened the lock of the run before, and takes it when that is over."""
    fcntl = pytest.importorskip("fcntl")
    with only_run(tmp_path):
        waiting = (tmp_path / ".lock").open("w")
    with waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UsageError, match="another run is writing to"), only_run(tmp_path):
            pass
    with only_run(tmp_path):
        pass


def test_a_hundred_seeds_side_by_side_have_checkpoints_of_short_names(tmp_path: Path) -> None:
    """Their stack's and their fine-tuning's; and other seeds others."""
    plan = Plan((pt.Stage(pt.Autoencoder(2), pt.Sgd(0.1), 1, 300),), tuning(0.5, 1, 300))
    row = dataclasses.replace(EXPERIMENT.row("shallow"), plans={"smoke": plan})
    options = {"n_seeds": 100, "wave": 100, "data": lambda _: digits(), "out": tmp_path, "interactive": False}
    results = runner.run(EXPERIMENT, "smoke", [row], **options)
    assert len(read_results(results)) == 100
    assert named([7]) == "7"
    assert len({named(seeds) for seeds in ([0, 1, 9], [0, 2, 9], [0, 9], [9])}) == 4


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
    options = {"n_seeds": 1, "data": lambda _: digits(), "out": tmp_path, "grid": True, "interactive": False}
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


def test_halving_a_grid_is_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mnist", "--scale", "smoke", "--rows", "srbm", "--out", str(tmp_path), "--halving"]
    assert main(words) == 2
    assert "--halving is a way to search a grid: give --grid too" in capsys.readouterr().err
    assert main([*words, "--grid"]) == 0
    (chosen,) = read_results(tmp_path / "mnist" / "smoke" / "selection.jsonl")
    assert [round(tried["epochs"], 2) for tried in chosen["tried"]] == [0.11, 0.11, 0.33, 1.0]
    (line,) = read_results(tmp_path / "mnist" / "smoke" / "results.jsonl")
    assert line["declaration"] == declared_hash("srbm", chosen["values"])


def declared_hash(row: str, values: dict) -> str:
    """Of a row at smoke scale with these values: however they were found."""
    plan = with_values(EXPERIMENT.row(row).plans["smoke"], values)
    return declaration_hash(EXPERIMENT, EXPERIMENT.row(row), "smoke", plan, "float32")


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


def test_a_killed_entry_of_the_journal_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    store(path, [result("a", 1)])
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('["results.jsonl", "b')
    for row in "cda":
        store(path, [result(row, 3)])
    assert sorted(line["row"] for line in done_here(path)) == ["a", "c", "d"]
    assert len(read_results(tmp_path / JOURNAL)) == 3


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


def test_tables_show_the_declaration_that_was_run_last(tmp_path: Path) -> None:
    """Also where its seeds were all there already."""
    path = tmp_path / "mnist" / "smoke" / "results.jsonl"
    words = ["mnist", "--scale", "smoke", "--rows", "shallow", "--out", str(tmp_path)]
    assert main(words) == 0
    (first,) = read_results(path)
    store(path, [first | {"declaration": "of other numbers", "test_error": 50.0}])
    assert main(words) == 0
    found = {item.row.name: item for item in summary(EXPERIMENT, read_results(path))}["shallow"]
    assert found.results == (first,)
    assert found.left_out == 1
