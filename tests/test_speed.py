"""The speed benchmark: its arithmetic on given seconds, and a small real run. No time is asserted."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import scaling, speed
from benchmarks.peers import TASKS, Setting, synthetic
from benchmarks.speed import Measured, Result, disturbance, main, markdown, ratios, rows_of, stored, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

OURS = Result("pretrain", (2.0, 1.0, 4.0))
FLOOR = Result("bare products", (1.0, 0.9, 2.4))
TORCH = Result("torch", (), "No module named 'torch'")
SLOW = Result("scikit-learn", (3.0, 3.0, 4.0))


def test_ratios_are_taken_within_rounds() -> None:
    """A round that was slow for both does not change their ratio."""
    assert ratios(SLOW.seconds, OURS.seconds) == pytest.approx((1.0, 1.5, 3.0))
    assert ratios([6.0, 60.0], [2.0, 20.0]) == pytest.approx((3.0, 3.0, 3.0))


@pytest.mark.parametrize(("theirs", "ours"), [([1.0], [1.0, 2.0]), ([], [])])
def test_ratios_need_the_same_rounds(theirs: list[float], ours: list[float]) -> None:
    with pytest.raises(ValueError, match="same rounds"):
        ratios(theirs, ours)


def test_goals_are_judged_by_the_median_ratio() -> None:
    assert verdict("bare products", ratios([1.0, 1.0, 9.0], [1.25, 1.15, 1.0])) == (
        "ours at most 1.2 times these: met (1.15)"
    )
    assert verdict("bare products", ratios([1.0], [1.3])) == "ours at most 1.2 times these: missed (1.30)"
    assert verdict("torch", ratios([1.29], [1.0])) == "ours at least 1.3 times faster: missed (1.29)"
    assert verdict("torch", ratios([1.3], [1.0])) == "ours at least 1.3 times faster: met (1.30)"
    assert verdict("torch.compile", ratios([1.0], [1.0])) == ""


def test_the_table_names_who_is_absent() -> None:
    header, *lines = rows_of([OURS, FLOOR, TORCH, SLOW], Setting(3, 5))
    assert [line[0] for line in lines] == ["bare products", "pretrain", "scikit-learn", "torch"]
    assert all(len(line) == len(header) for line in lines)
    assert lines[0][1:6] == ["0.90", "1.00", "0.60", "0.50", "0.90"]
    assert lines[-1][1] == "absent"
    assert lines[-1][-1] == "No module named 'torch'"
    text = markdown([Measured(Setting(3, 5), [OURS, FLOOR, TORCH, SLOW], {"cores": 2, "processor": "any"})])
    assert "on 2 cores (any)" in text
    assert "**torch** is absent" in text


def test_a_busy_machine_is_told() -> None:
    where = {"cores": 2, "processor": "any"}
    for share, busy in ((0.4, True), (0.02, False)):
        results = [Result("pretrain", (1.0,), None, {"others": [0.01, share, None]})]
        assert disturbance(results) == share
        assert ("The machine was busy" in markdown([Measured(Setting(3, 3), results, where)])) is busy


def test_inputs_are_as_sparse_as_mnist() -> None:
    x = synthetic(Setting(rows=500, epochs=1))
    assert x.dtype == np.float32
    assert x.min() == 0.0
    assert x.max() == 1.0
    assert (x > 0).mean() == pytest.approx(0.19, abs=0.01)
    assert x.mean() == pytest.approx(0.13, abs=0.01)


@pytest.mark.parametrize(
    ("module", "task"),
    [("scikit_learn", "cd"), ("scikit_learn", "fine-tuning")]
    + [("package", task) for task in TASKS if task != "cd"]
    + [("bare_products", task) for task in TASKS],
)
def test_a_peer_reports_every_epoch(module: str, task: str) -> None:
    setting = Setting(rows=200, epochs=3, task=task, n_visible=30, n_hidden=20)
    facts: list[dict[str, Any]] = []
    importlib.import_module(f"benchmarks.peers.{module}").train(synthetic(setting), setting, facts.append)
    assert len(facts) == setting.epochs
    assert all(fact["device"] and fact["precision"].startswith("float32") for fact in facts)


SLOW_CONTENDER = """
import sys, time, types
from benchmarks.peers import Setting, worker

def train(x, setting, done):
    for _ in range(setting.epochs):
        time.sleep(0.01)
        done({"rows": len(x)})

slow = types.SimpleNamespace(ALGORITHM="", PACKAGES=(), TASKS=("cd",), SHARE=50, train=train)
sys.modules["benchmarks.peers.torch_loop"] = slow
worker.main("torch", Setting(rows=200, epochs=3, n_visible=4))
"""


def test_a_slow_peer_is_timed_on_a_share_of_the_rows() -> None:
    """It sleeps a hundredth of a second an epoch; with a share of fifty that counts for half a second."""
    ran = subprocess.run([sys.executable, "-c", SLOW_CONTENDER], input="\n", capture_output=True, text=True, check=True)
    warm, timed = (json.loads(line) for line in ran.stdout.splitlines())
    assert warm["rows"] == 4
    assert timed["seconds"] >= 0.5


def test_a_small_run_writes_results_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started and asked in turn for real; torch is made to be absent."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out, said = tmp_path / "speed", []
    main(out, [Setting(400, 4)], contenders=("torch",), say=said.append, command="python -m benchmarks speed")
    ours, torch = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert ours["name"] == "pretrain"
    assert len(ours["seconds"]) == len(ours["others"]) == len(ours["idle_cpu_seconds"]) == 2
    assert min(ours["seconds"]) == ours["least"] <= ours["median"]
    assert ours["compiled_while_timed"] == 0
    assert ours["precision"].startswith("float32")
    assert ours["versions"]["jax"]
    assert ours["machine"]["cores"] >= 1
    assert ours["machine"]["command"] == "python -m benchmarks speed"
    assert "torch" in torch["absent"]
    assert "seconds" not in torch
    assert len(list(csv.reader((out / "table.csv").read_text().splitlines()))) == 3
    assert "**torch** is absent" in (out / "table.md").read_text()
    assert "- Command: `python -m benchmarks speed`; commit " in (out / "table.md").read_text()
    assert any(line.startswith("round 2:") for line in said)


def test_a_run_replaces_its_own_settings_and_leaves_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure", lambda setting, names, say: [OURS])
    anew, other = Setting(600, 5), Setting(200, 5, n_visible=30, n_hidden=20)

    def run(command: str, *wanted: Setting) -> list[Measured]:
        main(tmp_path, wanted, say=lambda _: None, command=command)
        return stored([json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()])

    run("first", Setting(400, 5))
    found = run("second", anew, other)
    assert [measured.setting for measured in found] == [other, anew]
    assert [measured.where["command"] for measured in found] == ["second", "second"]
    found = run("third", dataclasses.replace(other, batch_size=10), dataclasses.replace(other, task="dbm"))
    assert [measured.place for measured in found] == [
        (0, 30, 20, 10),
        (0, 30, 20, 100),
        (0, 784, 500, 100),
        (4, 30, 20, 100),
    ]
    assert [measured.where["command"] for measured in found] == ["third", "second", "second", "third"]
    assert (tmp_path / "table.md").read_text().count("- Command: ") == 2


def test_a_run_that_is_stopped_keeps_what_it_has_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Setting(400, 5), Setting(400, 5, batch_size=10)

    def measure(setting: Setting, names: Any, say: Any) -> list[Result]:
        if setting == second:
            raise KeyboardInterrupt
        return [OURS]

    monkeypatch.setattr(speed, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path, (first, second), say=lambda _: None)
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert Setting(**json.loads(line)["setting"]) == first
    assert "| pretrain |" in (tmp_path / "table.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "table.csv", "table.md"}


def test_operations_and_traffic_are_counted_by_hand() -> None:
    setting = Setting(rows=250, epochs=1, n_visible=30, n_hidden=20, batch_size=100)
    flops, traffic = scaling.counted(setting, members=3)
    assert flops == 3 * 2 * (5 * 2 * 100 * 30 * 20)  # two whole minibatches
    assert traffic == 3 * 2 * (4 * 4 * 30 * 20)


def test_populations_are_timed_beside_the_ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "ON_A_CPU", (64, 2**12))
    said: list[str] = []
    (table,) = scaling.main(tmp_path, (1, 2), rounds=2, rows=200, say=said.append)
    assert [cost.members for cost in table.costs] == [1, 2]
    assert all(len(cost.seconds) == 2 and min(cost.seconds) > 0 for cost in table.costs)
    assert table.costs[1].each == min(table.costs[1].seconds) / 2
    assert min(table.ceilings) > 0
    lines = [json.loads(line) for line in (tmp_path / "scaling.jsonl").read_text().splitlines()]
    assert lines[0]["ceilings"]["flops"] == table.ceilings.flops
    assert scaling.stored(lines) == [table]
    assert (tmp_path / "scaling.md").read_text().count("\n| ") == 4
    again, other = scaling.main(tmp_path, (1,), rounds=1, rows=100, batches=(100, 50), say=said.append)
    assert [len(each.costs) for each in (again, other)] == [1, 1]  # in the place of the first, and another beside it
    assert [each.setting.batch_size for each in (again, other)] == [100, 50]
    assert (tmp_path / "scaling.md").read_text().count("\n| ") == 6


def test_goals_of_populations_are_judged_on_accelerators_only() -> None:
    setting = Setting(rows=1000, epochs=1)
    costs = (
        scaling.Cost(1, (2.0,), 1.0, 1.0),
        scaling.Cost(64, (6.4,), 4.0, 2.0),
        scaling.Cost(400, (30.0,), 4.0, 9.0),
    )
    table = scaling.Table(setting, "tf32", "gpu: some", costs, scaling.Ceilings(10.0, 20.0))
    alone, share = scaling.verdicts(table)
    assert alone.endswith("met (20.0).")
    assert share.endswith("missed (45%).")  # of traffic, which is nearer than the operations' 40%
    assert scaling.verdicts(dataclasses.replace(table, device="cpu: 2 cores")) == []
    assert scaling.verdicts(dataclasses.replace(table, costs=costs[:1])) == []
