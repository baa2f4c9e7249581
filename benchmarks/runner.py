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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import filters
from benchmarks.experiment import Experiment, Plan, Row, UsageError, declaration_hash, declared, replaced
from benchmarks.provenance import commit, device, peak_memory, versions
from benchmarks.results import done_here, only_run, store
from pretrain import population
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.fit import Progress
from pretrain.network import Network, evaluate
from pretrain.report import Lines, Live, Report
from pretrain.stack import Pretrained, fine_tune, pretrain

PRECISION = "float32"
"""Of parameters, samples and matrix products (an accelerator's default would be lower)."""

SELECTION_SEED = 1_000_000
"""The grid is searched with a seed of its own, so that no reported seed was selected on."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a grid search found.

    Attributes:
        values: the chosen value of each path of the grid.
        valid_error: its validation error, in percent.
        tried: every combination with its validation error (None where it diverged).
    """

    values: dict[str, float]
    valid_error: float
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
        grid: whether each row first chooses among its declared grid by validation error; else its declared ones stand.
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
        for row in rows:
            plan, choice = row.plans[scale], None
            if grid and plan.grid:
                choice = _chosen(experiment, row, scale, data, out, report, say)
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
                pretrained, tuned = train(plan, data, seeds, checkpoints, report)
                lines = _lines(experiment, row, scale, plan, name, choice, seeds, pretrained, tuned, data, command)
                store(results, lines)
                checkpoints.clear()
                for line in lines:
                    say(f"{row.name} seed {line['seed']}: {_outcome(line)}")
    with contextlib.suppress(OSError):
        (out / "checkpoints").rmdir()  # when empty: nothing is left to resume
    return results


def train(
    plan: Plan, data: Splits, seeds: Sequence[int], checkpoints: Checkpoints | None, report: Report | None
) -> tuple[Pretrained | None, Progress]:
    """Pretrains and fine-tunes one population by a plan."""
    pretrained = None
    if plan.pretraining:
        pretrained = pretrain(
            plan.pretraining, data.train, valid=data.valid, seeds=seeds, checkpoints=checkpoints, report=report
        )
    layers = pretrained.layers if pretrained else ()
    tuned = fine_tune(
        layers, plan.fine_tuning, data.train, valid=data.valid, seeds=seeds, checkpoints=checkpoints, report=report
    )
    return pretrained, tuned


def combinations(plan: Plan) -> list[dict[str, float]]:
    """Every combination of the grid's values, by path."""
    return [dict(zip(plan.grid, values, strict=True)) for values in itertools.product(*plan.grid.values())]


def select(plan: Plan, data: Splits, checkpoints: Checkpoints | None, report: Report | None, wave: int) -> Choice:
    """Trains every combination of the grid, as populations, and chooses by the least validation error."""
    tried: list[dict[str, Any]] = []
    tries = combinations(plan)
    for first in range(0, len(tries), wave):
        some = tries[first : first + wave]
        member_plan = plan
        for path in plan.grid:
            member_plan = replaced(member_plan, path, np.array([values[path] for values in some], np.float32))
        part = (
            None if checkpoints is None else Checkpoints(checkpoints.folder / f"{first}-of-{wave}", checkpoints.every)
        )
        _, tuned = train(member_plan, data, [SELECTION_SEED] * len(some), part, report)
        errors = _valid_errors(tuned)
        tried += [{**v, "valid_error": float(e) if np.isfinite(e) else None} for v, e in zip(some, errors, strict=True)]
    ranked = sorted((t for t in tried if t["valid_error"] is not None), key=lambda t: t["valid_error"])
    if not ranked:
        raise RuntimeError(f"every combination of the grid diverged: {tries}")
    return Choice({path: ranked[0][path] for path in plan.grid}, ranked[0]["valid_error"], tried)


def _chosen(
    experiment: Experiment, row: Row, scale: str, data: Splits, out: Path, report: Any, say: Callable[[str], None]
) -> Choice:
    """The choice of an earlier search of the same declaration, from ``selection.jsonl``, or a new one."""
    plan = searched = row.plans[scale]
    for leaf in plan.grid:  # what is searched for is no part of what names the search
        searched = replaced(searched, leaf, None)
    name, path = declaration_hash(experiment, row, scale, searched), out / "selection.jsonl"
    for line in done_here(path):
        if line["row"] == row.name and line["declaration"] == name:
            return Choice(line["values"], line["valid_error"], line["tried"])
    wave = 1 if jax.default_backend() == "cpu" else len(combinations(plan))
    report.label = f"{row.name} grid of {len(combinations(plan))}"
    checkpoints = Checkpoints(out / "checkpoints" / f"{row.name}-{name}-grid")
    choice = select(plan, data, checkpoints, report, wave)
    store(path, [{"row": row.name, "declaration": name} | dataclasses.asdict(choice)])
    checkpoints.clear()
    say(f"{row.name}: chose {choice.values} at {choice.valid_error:.2f}% validation error among {len(choice.tried)}")
    return choice


def _valid_errors(tuned: Progress) -> np.ndarray:
    best = tuned.history["valid/error"][-1] if tuned.best is None else np.asarray(tuned.best.score)
    return np.where(tuned.finite, best, np.inf)


def _lines(
    experiment: Experiment,
    row: Row,
    scale: str,
    plan: Plan,
    name: str,
    choice: Choice | None,
    seeds: Sequence[int],
    pretrained: Pretrained | None,
    tuned: Progress,
    data: Splits,
    command: str,
) -> list[dict[str, Any]]:
    """One result a seed."""
    stages = [*(pretrained.progress if pretrained else ()), tuned]
    names = [f"layer {i + 1}/{len(stages) - 1}" for i in range(len(stages) - 1)] + ["fine-tuning"]
    networks: Network = tuned.params
    shape = experiment.image_shape[experiment.scales[scale].data]
    first_layer = (pretrained.layers[0] if pretrained else networks.layers[0]).weights  # type: ignore[union-attr]
    lines = []
    for index, seed in enumerate(seeds):
        finite = bool(tuned.finite[index])
        network = population.member(networks, index)
        lines.append(
            {
                "experiment": experiment.name,
                "row": row.name,
                "scale": scale,
                "seed": seed,
                "hyperparameters": declared(plan),
                "n_hidden": [layer.weights.shape[-1] for layer in networks.layers[:-1]],
                "epochs": [stage.epoch for stage in stages],
                "best_epoch": None if tuned.best is None else int(tuned.best.epoch[index]),
                "train_error": evaluate(network, data.train) if finite else None,
                "valid_error": evaluate(network, data.valid) if finite else None,
                "test_error": evaluate(network, data.test) if finite else None,
                "test_rows": len(data.test.x),
                "seconds": {n: round(stage.seconds / len(seeds), 2) for n, stage in zip(names, stages, strict=True)},
                "members": len(seeds),
                "peak_memory_mb": round(peak_memory() / 2**20),
                "device": device(),
                "precision": PRECISION,
                "versions": versions(),
                "commit": commit(),
                "declaration": name,
                "selection": None if choice is None else {"values": choice.values, "valid_error": choice.valid_error},
                "finite": finite,
                "valid_curve": [round(float(error), 4) for error in tuned.history["valid/error"][:, index]],
                "filters": filters.pack(np.asarray(first_layer[index]), shape) if seed == 0 and finite else None,
                "command": command,
            }
        )
    return lines


def _outcome(line: dict[str, Any]) -> str:
    if not line["finite"]:
        return "diverged"
    errors = ", ".join(f"{part} {line[f'{part}_error']:.2f}%" for part in ("train", "valid", "test"))
    return f"{errors} in {sum(line['seconds'].values()):.0f} s"


@contextlib.contextmanager
def _reporter(interactive: bool) -> Iterator[Any]:
    if not interactive:
        yield Lines()
        return
    with Live() as live:
        yield live
