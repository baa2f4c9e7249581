"""Every script of ``examples/`` runs, and what it prints holds."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.guide, pytest.mark.usefixtures("quick_compilation")]

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a script in an empty folder and returns what it printed."""

    def of(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return of


def percents(line: str) -> list[float]:
    return [float(found) for found in re.findall(r"([\d.]+)%", line)]


def test_pretraining_helps_digits(run) -> None:
    pretrained, alone, gain = run("pretrain_digits.py").splitlines()
    assert percents(pretrained)[0] < 6.0
    assert percents(pretrained)[0] < percents(alone)[0]
    assert len(re.findall(r"\d\.\d\d", pretrained)) == 6  # the mean and five networks
    mean, low, high = (float(found) for found in re.findall(r"-?\d+\.\d\d", gain))
    assert 0.0 < low < mean < high


def test_an_rbm_is_seen(run, tmp_path: Path) -> None:
    printed = run("see_an_rbm.py")
    names = {"filters.png", "samples.png", "learning.png", "activations.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(f"wrote {name}" in printed for name in names)


def test_a_learner_of_ones_own_goes_through_the_stack(run) -> None:
    lines = run("own_learner.py").splitlines()
    losses = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in lines]
    assert losses == sorted(losses)  # more of the penalty, a larger sum
    assert len(set(losses)) == 3  # three members, three values of the leaf
    assert max(percents(line)[0] for line in lines) < 8.0


def test_a_sweep_tells_rates_apart(run) -> None:
    *rates, best = run("sweep.py").splitlines()
    errors = [percents(line)[0] for line in rates]
    assert len(errors) == 4
    assert errors[-1] > 30.0  # a rate of 3 is too large
    chosen = re.search(r"rate (\S+),", best)[1]
    assert float(chosen) < 1.0
    assert percents(best)[0] < 10.0


def test_a_saved_network_goes_on_in_flax(run) -> None:
    same, error = run("to_flax.py").splitlines()
    assert float(same.split()[-1]) < 1e-6
    assert percents(error)[0] < 6.0


def test_every_script_is_tested_and_short() -> None:
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    tests = Path(__file__).read_text()
    assert scripts
    assert all(f'run("{name}")' in tests for name in scripts)
    assert all(len((EXAMPLES / name).read_text().splitlines()) < 80 for name in scripts)
    learner = re.search(r"@struct.dataclass\n(.*?)\n\n\n", (EXAMPLES / "own_learner.py").read_text(), re.DOTALL)[1]
    assert len([line for line in learner.splitlines() if line]) < 30
