"""Populations: recipes grouped by what is static, searches, and members on many devices."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pretrain as pt
from benchmarks import runner, selection
from benchmarks.__main__ import EXPERIMENTS, main
from benchmarks.experiment import Halving, Plan, Range, UsageError, declaration_hash
from benchmarks.papers.larochelle2009 import tuning
from benchmarks.precision import PRECISIONS
from benchmarks.results import read_results
from benchmarks.stacks import Stacks
from benchmarks.tasks import Context
from benchmarks.tasks.classification import Classification
from pretrain import population
from pretrain.data import digits

pytestmark = pytest.mark.usefixtures("quick_compilation")

HERE = Path(__file__).parent
TRAIN = jax.tree.map(lambda leaf: leaf[:200], digits().train)
RATE = "fine_tuning.optimizer.learning_rate"


# --- groups ---


def test_there_is_no_member_beyond_the_last() -> None:
    """JAX takes the last one for it."""
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.zeros(2)}
    assert pt.member(tree, -1)["w"].tolist() == [3.0, 4.0, 5.0]
    with pytest.raises(IndexError, match="2 members, 0 to 1; got 2"):
        pt.member(tree, 2)
    assert pt.member((), 0) == ()


def test_recipes_that_differ_in_numbers_become_one_population() -> None:
    wide, narrow = ([pt.Stage(pt.Autoencoder(n), pt.Sgd(rate), 1, 20) for rate in (0.1, 0.2)] for n in (8, 4))
    groups = population.grouped([wide[0], narrow[0], wide[1], narrow[1]])
    assert [group.indices for group in groups] == [(0, 2), (1, 3)]
    assert [group.recipe.learner.n_hidden for group in groups] == [8, 4]
    for group in groups:
        np.testing.assert_array_equal(group.recipe.optimizer.learning_rate, np.float32([0.1, 0.2]))
    stage = groups[0].recipe
    both = pt.pretrain([stage], TRAIN, seeds=[0, 0])
    alone = pt.pretrain([wide[1]], TRAIN, seeds=[0])
    np.testing.assert_allclose(both.layers[0].weights[1], alone.layers[0].weights[0], atol=1e-6)  # type: ignore[attr-defined]


# --- search ---


def search(plan: Plan, tmp_path: Path, wave: int = 10) -> selection.Choice:
    return selection.select(Classification(), plan, digits(), tmp_path, Context(Stacks(None)), wave)


@pytest.mark.slow
def test_sizes_and_numbers_are_searched_together(tmp_path: Path) -> None:
    grid = {RATE: (1e-6, 1.0), "fine_tuning.learner.n_hidden": ((8,), (2,))}
    choice = search(Plan((), tuning(0.5, 8, 20, n_hidden=(4,)), grid=grid), tmp_path)
    assert choice.values == {RATE: 1.0, "fine_tuning.learner.n_hidden": (8,)}
    assert choice.valid == min(one["valid"] for one in choice.tried)
    assert len(choice.tried) == 4
    chosen = selection.with_values(Plan((), tuning(0.5, 8, 20), grid=grid), choice.values)
    assert chosen.grid == {}
    assert chosen.fine_tuning.learner.n_hidden == (8,)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_search_over_sizes_is_kept_and_found_again(tmp_path: Path) -> None:
    """Through the store, where a tuple is a list."""
    grid = {"fine_tuning.learner.n_hidden": ((2,), (8,))}
    plan = Plan((), tuning(1.0, 4, 20, n_hidden=(4,)), grid=grid)
    experiment = EXPERIMENTS["mnist"]
    row = dataclasses.replace(experiment.row("shallow"), plans={"smoke": plan})
    options = {"n_seeds": 1, "data": lambda _: digits(), "out": tmp_path, "grid": True, "interactive": False}
    said: list[str] = []
    path = runner.run(experiment, "smoke", [row], **options, say=said.append)  # type: ignore[arg-type]
    (line,) = read_results(path)
    assert line["n_hidden"] == [8]
    assert line["selection"]["values"] == {"fine_tuning.learner.n_hidden": [8]}
    assert len(read_results(tmp_path / "selection.jsonl")) == 1
    again: list[str] = []
    runner.run(experiment, "smoke", [row], **options, say=again.append)  # type: ignore[arg-type]
    assert any("chose" in text for text in said)
    assert again == [f"shallow: 1 of 1 seeds are already in {path}"]


def test_samples_cover_a_range_evenly() -> None:
    plan = Plan((), tuning(0.5, 1, 20), grid={RATE: Range(1e-3, 10.0), "output": (None, 1)}, samples=16)
    tries = selection.combinations(plan)
    assert len(tries) == 16
    rates = np.log10([one[RATE] for one in tries])
    np.testing.assert_array_equal(np.histogram(rates, 16, (-3, 1))[0], 1)  # one in every sixteenth
    assert [sum(one["output"] is value for one in tries) for value in (None, 1)] == [8, 8]
    assert tries == selection.combinations(plan)
    assert Range(1.0, 3.0, linear=True).at(0.5) == 2.0
    with pytest.raises(UsageError, match="is a Range: say how many samples"):
        selection.combinations(dataclasses.replace(plan, samples=0))


@pytest.mark.slow
def test_successive_halving_lets_the_best_go_on(tmp_path: Path) -> None:
    rates = (1e-7, 1e-6, 1e-5, 0.3, 1.0, 1e-4)
    plan = Plan((), tuning(0.5, 8, 20, n_hidden=(8,)), grid={RATE: rates}, halving=Halving(2, 2))
    choice = search(plan, tmp_path)
    assert [one["epochs"] for one in choice.tried] == [0.25] * 6 + [0.5] * 3 + [1.0] * 2
    assert choice.values[RATE] in (0.3, 1.0)
    last = choice.tried[-2:]
    assert choice.valid == min(one["valid"] for one in last)
    assert {one[RATE] for one in last} == {0.3, 1.0}
    short = selection.shortened(plan, 0.25).fine_tuning
    assert short is not None
    assert (short.epochs, short.optimizer.schedule.end) == (2, 2.0)  # type: ignore[union-attr]


SCHEDULES = (pt.Linear(8.0, 4.0), pt.Inverse(0.5), pt.WarmUp(2.0, pt.Inverse(0.5)), pt.WarmUp(2.0, pt.Linear(8.0)))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_rates_of_a_shortened_plan_fall_as_over_all_epochs(schedule: Any) -> None:
    stage = pt.Stage(pt.Autoencoder(4), pt.Sgd(0.1, schedule), epochs=8, batch_size=20)
    short = selection.shortened(Plan((stage,)), 0.25).pretraining[0]
    assert short.epochs == 2
    assert (
        selection.shortened(Plan((stage.replace(optimizer=pt.Momentum(0.1, switch_epoch=4.0)),)), 0.25)
        .pretraining[0]
        .optimizer.switch_epoch
        == 1.0
    )  # type: ignore[union-attr]
    for epoch in (0.5, 3.0, 6.0):
        np.testing.assert_allclose(short.optimizer.schedule(epoch / 4), schedule(epoch), rtol=1e-6)  # type: ignore[union-attr]


# --- devices ---


@pytest.mark.slow
def test_eight_devices_give_what_one_gives() -> None:
    """In a process of its own, for devices are made when JAX starts."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, HERE / "on_eight_devices.py"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_a_mesh_divides_evenly_or_says_why_not() -> None:
    mesh = population.mesh(3)
    assert dict(mesh.shape) == {"member": 1, "batch": 1}
    with pytest.raises(ValueError, match=r"batch must lie in 1..1, the number of devices; got 2"):
        population.mesh(3, batch=2)


# --- processes ---

ROWS = ["mnist", "--scale", "smoke", "--rows", "shallow", "--seeds", "3"]
LOST = (
    "import os, sys, benchmarks.__main__ as m, benchmarks.hosts as h\n"
    "gathered, calls = h.gathered, []\n"
    "def lost(items):\n"
    "    calls.append(1)\n"
    "    if len(calls) == 4: os._exit(7)\n"  # after its second seed, before that is handed over
    "    return gathered(items)\n"
    "h.gathered = lost\n"
    "sys.exit(m.main(sys.argv[1:]))\n"
)


def together(out: Path, *programs: list[str]) -> list[subprocess.Popen]:
    """Processes that find each other on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
    meet = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", str(len(programs)), "--out", str(out)]
    return [
        subprocess.Popen(
            [sys.executable, *program, *ROWS, *meet, "--process", str(index)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, program in enumerate(programs)
    ]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_it_goes_on_when_one_was_lost(tmp_path: Path) -> None:
    """The first two seeds come from a process each; then one is lost, and the command alone ends what they began."""
    program = ["-m", "benchmarks"]
    first, second = together(tmp_path / "two", program, ["-c", LOST])
    said = first.communicate(timeout=300)[1]
    assert second.wait() == 7
    assert first.returncode != 0
    assert "lost another one" in said
    results = tmp_path / "two" / "mnist" / "smoke" / "results.jsonl"
    assert sorted(line["seed"] for line in read_results(results)) == [0, 1]  # the first seed of each
    assert main([*ROWS, "--out", str(tmp_path / "two")]) == 0  # the third
    assert main([*ROWS, "--out", str(tmp_path / "one")]) == 0
    one, two = (read_results(tmp_path / n / "mnist" / "smoke" / "results.jsonl") for n in ("one", "two"))
    assert [line["test_error"] for line in one] == [line["test_error"] for line in sorted(two, key=lambda x: x["seed"])]
    assert [line["valid_curve"] for line in one] == [
        line["valid_curve"] for line in sorted(two, key=lambda x: x["seed"])
    ]


# --- precision ---


def test_precision_reaches_the_products_and_names_the_result() -> None:
    """As an NVIDIA accelerator would compile them."""
    learner = pt.Classifier(10, (8,))
    params = learner.init(jax.random.key(0), TRAIN)[0]
    marks = {
        "float32": "HIGHEST, HIGHEST",
        "tf32": "lhs_precision_type = tf32",
        "bfloat16": "lhs_precision_type = bf16",
    }
    for name, jax_name in PRECISIONS.items():
        with jax.default_matmul_precision(jax_name):
            traced = jax.jit(learner.gradient).trace(params, (), TRAIN, jax.random.key(1))
            text = traced.lower(lowering_platforms=("cuda",)).as_text()
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        assert products
        assert all(marks[name] in line for line in products), (name, products[0])
    experiment = EXPERIMENTS["mnist"]
    row = experiment.row("shallow")
    hashes = {declaration_hash(experiment, row, "smoke", row.plans["smoke"], p) for p in PRECISIONS}
    assert len(hashes) == 3
