"""From a declaration to results: the one way an experiment is run.

Each row is trained as populations of seeds; every finished seed is one line of ``results.jsonl``. What is finished is
not run again, what was interrupted goes on from its checkpoint, bit for bit. Test errors are taken once, at the end,
from the parameters that validation chose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.experiment import Experiment, Plan, Row, UsageError, declaration_hash, declared, replaced
from benchmarks.provenance import commit, device, peak_memory, versions
from benchmarks.results import done_here, only_run, store
from benchmarks.stacks import Stacks
from benchmarks.tasks import Context, Task, Trained
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.report import Lines, Live

PRECISION = "float32"
"""Of parameters, samples and matrix products (an accelerator's default would be lower)."""

SELECTION_SEED = 1_000_000
"""The grid is searched with a seed of its own, so that no reported seed was selected on."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a grid search found.

    Attributes:
        values: the chosen value of each path of the grid.
        valid: its measure on the validation rows.
        tried: every combination with that measure (None where it diverged).
    """

    values: dict[str, float]
    valid: float
    tried: list[dict[str, Any]]


def run(
    experiment: Experiment,
    scale: str,
    rows: Sequence[Row],
    *,
    n_seeds: int,
    data: Splits,
    out: Path,
    grid: bool = False,
    wave: int | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
    interactive: bool | None = None,
) -> Path:
    """Runs rows of an experiment at one scale and returns the path of their ``results.jsonl``.

    Args:
        experiment: the declaration.
        scale: a name in ``experiment.scales``.
        rows: which rows.
        n_seeds: seeds ``0 .. n_seeds - 1`` of each.
        data: the splits.
        out: the folder of this scale's results.
        grid: whether each row first chooses among its declared grid on the validation rows; else its declared ones
            stand.
        wave: members trained side by side; default: all on an accelerator, one on a CPU, where they gain nothing.
        command: recorded beside each result.
        say: where messages go.
        interactive: whether to show a live line; default: whether standard error is a terminal.
    """
    if n_seeds < 1 or (wave is not None and wave < 1):
        raise UsageError(f"seeds and wave must be at least 1; got {n_seeds} and {wave}")
    results = out / "results.jsonl"
    if wave is None:
        wave = 1 if jax.default_backend() == "cpu" else n_seeds
    with (
        only_run(out),
        _reporter(sys.stderr.isatty() if interactive is None else interactive) as report,
        jax.default_matmul_precision(PRECISION),
    ):
        stacks = Stacks(out / "checkpoints")
        for row in rows:
            plan, choice = row.plans[scale], None
            if grid and plan.grid:
                choice = _chosen(experiment, row, scale, data, out, stacks, report, say)
                for path, value in choice.values.items():
                    plan = replaced(plan, path, value)
            plan = dataclasses.replace(plan, grid={})
            name = declaration_hash(experiment, row, scale, plan)
            done = {
                line["seed"] for line in done_here(results) if (line["row"], line["declaration"]) == (row.name, name)
            }
            todo = [seed for seed in range(n_seeds) if seed not in done]
            if done:
                say(f"{row.name}: {len(done)} of {n_seeds} seeds are already in {results}")
            for first in range(0, len(todo), wave):
                seeds = todo[first : first + wave]
                report.label = f"{row.name} seed {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else "")
                checkpoints = Checkpoints(out / "checkpoints" / f"{row.name}-{name}-{'-'.join(map(str, seeds))}")
                trained = experiment.task.train(plan, data, seeds, Context(stacks, checkpoints, report))
                lines = _lines(experiment, row, scale, plan, name, choice, seeds, trained, data, command)
                store(results, lines)
                checkpoints.clear()
                for line in lines:
                    say(f"{row.name} seed {line['seed']}: {_outcome(experiment, line)}")
        stacks.clear()
    with contextlib.suppress(OSError):
        (out / "checkpoints").rmdir()  # when empty: nothing is left to resume
    return results


def combinations(plan: Plan) -> list[dict[str, float]]:
    """Every combination of the grid's values, by path."""
    return [dict(zip(plan.grid, values, strict=True)) for values in itertools.product(*plan.grid.values())]


def select(task: Task, plan: Plan, data: Splits, folder: Path, context: Context, wave: int) -> Choice:
    """Trains every combination of the grid, as populations, and chooses the best on the validation rows."""
    tried: list[dict[str, Any]] = []
    tries = combinations(plan)
    for first in range(0, len(tries), wave):
        some = tries[first : first + wave]
        member_plan = plan
        for path in plan.grid:
            member_plan = replaced(member_plan, path, np.array([values[path] for values in some], np.float32))
        member_plan = dataclasses.replace(member_plan, grid={})
        part = context._replace(checkpoints=Checkpoints(folder / f"{first}-of-{wave}"))
        trained = task.train(member_plan, data, [SELECTION_SEED] * len(some), part)
        scores = task.score(member_plan, trained, data)
        tried += [{**v, "valid": float(s) if np.isfinite(s) else None} for v, s in zip(some, scores, strict=True)]
    ranked = sorted((t for t in tried if t["valid"] is not None), key=lambda t: t["valid"])
    if not ranked:
        raise RuntimeError(f"every combination of the grid diverged: {tries}")
    return Choice({path: ranked[0][path] for path in plan.grid}, ranked[0]["valid"], tried)


def _chosen(
    experiment: Experiment,
    row: Row,
    scale: str,
    data: Splits,
    out: Path,
    stacks: Stacks,
    report: Any,
    say: Callable[[str], None],
) -> Choice:
    """The choice of an earlier search of the same declaration, from ``selection.jsonl``, or a new one."""
    plan = searched = row.plans[scale]
    for leaf in plan.grid:  # what is searched for is no part of what names the search
        searched = replaced(searched, leaf, None)
    name, path = declaration_hash(experiment, row, scale, searched), out / "selection.jsonl"
    for line in done_here(path):
        if line["row"] == row.name and line["declaration"] == name:
            return Choice(line["values"], line["valid"], line["tried"])
    wave = 1 if jax.default_backend() == "cpu" else len(combinations(plan))
    report.label = f"{row.name} grid of {len(combinations(plan))}"
    folder = out / "checkpoints" / f"{row.name}-{name}-grid"
    choice = select(experiment.task, plan, data, folder, Context(stacks, None, report), wave)
    store(path, [{"row": row.name, "declaration": name} | dataclasses.asdict(choice)])
    Checkpoints(folder).clear()
    say(f"{row.name}: chose {choice.values} at {choice.valid:.2f} on validation among {len(choice.tried)}")
    return choice


def _lines(
    experiment: Experiment,
    row: Row,
    scale: str,
    plan: Plan,
    name: str,
    choice: Choice | None,
    seeds: list[int],
    trained: Trained,
    data: Splits,
    command: str,
) -> list[dict[str, Any]]:
    """One result a seed."""
    shape = experiment.image_shape[experiment.scales[scale].data]
    began = time.perf_counter()
    measured = experiment.task.results(plan, trained, data, seeds, shape)
    seconds = trained.seconds | {"measuring": time.perf_counter() - began}
    common = {
        "epochs": [stage.epoch for stage in trained.stages.values()],
        "seconds": {stage: round(spent / len(seeds), 2) for stage, spent in seconds.items()},
        "members": len(seeds),
        "peak_memory_mb": round(peak_memory() / 2**20),
        "device": device(),
        "precision": PRECISION,
        "versions": versions(),
        "commit": commit(),
        "declaration": name,
        "selection": None if choice is None else {"values": choice.values, "valid": choice.valid},
        "command": command,
    }
    start = {"experiment": experiment.name, "row": row.name, "scale": scale}
    hyperparameters = {"hyperparameters": declared(plan)}
    return [
        start | {"seed": seed} | hyperparameters | line | common for seed, line in zip(seeds, measured, strict=True)
    ]


def _outcome(experiment: Experiment, line: dict[str, Any]) -> str:
    if not line["finite"]:
        return "diverged"
    values = {part: line.get(f"{part}_{experiment.task.measure}") for part in ("train", "valid", "test")}
    shown = ", ".join(f"{part} {value:.2f}" for part, value in values.items() if value is not None)
    return f"{experiment.task.noun}: {shown or 'undetermined'}, in {sum(line['seconds'].values()):.0f} s"


@contextlib.contextmanager
def _reporter(interactive: bool) -> Iterator[Any]:
    if not interactive:
        yield Lines()
        return
    with Live() as live:
        yield live
