"""From a declaration to results: the one way an experiment is run.

Each row is trained as populations of seeds; every finished seed is one line of ``results.jsonl``. What is finished is
not run again, what was interrupted goes on from its checkpoint, bit for bit. Test errors are taken once, at the end,
from the parameters that validation chose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import hosts
from benchmarks.experiment import Experiment, Plan, Row, UsageError, declaration_hash, declared, digest
from benchmarks.illustrations import PICTURES
from benchmarks.precision import products
from benchmarks.provenance import commit, device, peak_memory, versions
from benchmarks.results import done_here, only_run, read_results, store
from benchmarks.selection import Choice, by_json, combinations, select, with_values
from benchmarks.stacks import Stacks, named
from benchmarks.tasks import Context, Trained
from benchmarks.waves import in_a_wave, populations
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.population import grouped
from pretrain.report import reporting


def run(
    experiment: Experiment,
    scale: str,
    rows: Sequence[Row],
    *,
    n_seeds: int,
    data: Callable[[str], Splits],
    out: Path,
    grid: bool = False,
    wave: int | None = None,
    memory: int | None = None,
    batch_devices: int = 1,
    precision: str = "float32",
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
        data: the splits of a name in ``experiment.data``.
        out: the folder of this scale's results.
        grid: whether each row first chooses among its declared grid on the validation rows; else its declared ones
            stand.
        wave: members trained side by side; default: as many as memory has room for, on an accelerator; one on a CPU,
            where they gain nothing.
        memory: bytes a device has, to plan waves with, on a CPU too; default: what it reports.
        batch_devices: devices that share the rows of a minibatch; the others share the members.
        precision: of matrix products (`benchmarks.precision`); part of what was run, unless it is float32.
        command: recorded beside each result.
        say: where messages go.
        interactive: whether to show a live line; default: whether standard error is a terminal.
    """
    if n_seeds < 1 or (wave is not None and wave < 1):
        raise UsageError(f"seeds and wave must be at least 1; got {n_seeds} and {wave}")
    results = out / "results.jsonl"
    first = hosts.first()
    checkpoints = out / "checkpoints" / ("" if precision == "float32" else precision)
    if not first:
        checkpoints = checkpoints / f"process-{jax.process_index()}"
    with (
        only_run(out) if first else contextlib.nullcontext(),
        reporting(interactive) as report,
        products(precision),
    ):
        if precision != "float32" and jax.default_backend() == "cpu":
            say(f"a CPU rounds the factors of products to {precision} and gains no time by it")
        stacks = Stacks(checkpoints)
        context = Context(stacks, None, report, batch_devices)
        for row in rows:
            plan, choice = row.plans[scale], None
            if precision != "float32" and plan.baseline is not None:
                say(f"{row.name}: left out; scikit-learn computes in float32 only")
                continue
            if grid and plan.grid:
                choice = _chosen(experiment, row, scale, data, out, checkpoints, context, wave, memory, precision, say)
            plan = with_values(plan, {} if choice is None else choice.values)
            name = declaration_hash(experiment, row, scale, plan, precision)
            by_data = experiment.by_data(scale, plan, range(n_seeds))
            own = {(row.name, name, of, seed) for of, seeds in by_data.items() for seed in seeds}
            here = [
                line
                for line in (done_here(results) if first else [])
                if (line["row"], line["declaration"], line.get("data"), line["seed"]) in own
            ]
            if here and _last(results, row.name, precision) != name:
                store(results, here)  # again: tables show the declaration that was run last
            done = set(hosts.gathered([line["seed"] for line in here]))
            if done:
                say(f"{row.name}: {len(done)} of {n_seeds} seeds are already in {results}")
            own_rows = experiment.task.own_rows and plan.baseline is None and plan.pairs is None
            found = populations(row.name, plan, by_data, done, data, context, wave, memory, say, own_rows)
            for of, seeds, splits in found:
                lines = []
                if seeds:
                    report.label = f"{row.name} seed {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else "")
                    names = of[0] if len(set(of)) == 1 else of
                    folder = f"{row.name}-{digest(name, names)}-{named(seeds)}"
                    kept = Checkpoints(checkpoints / folder, run=folder)
                    lent = context._replace(checkpoints=kept)
                    trained = experiment.task.train(dataclasses.replace(plan, data=names), splits, seeds, lent)
                    lines = _lines(
                        experiment, row, scale, plan, name, choice, seeds, trained, of, splits, precision, command
                    )
                gathered = hosts.gathered(lines)
                if first:
                    store(results, gathered)
                hosts.gathered([])  # stored, before anyone forgets how they were come by
                if lines:
                    kept.clear()
                for line in lines:
                    say(f"{row.name} seed {line['seed']}: {_outcome(experiment, line)}")
        stacks.clear()
    for folder in dict.fromkeys((checkpoints, out / "checkpoints")):
        with contextlib.suppress(OSError):
            folder.rmdir()  # when empty: nothing is left to resume
    return results


def _last(results: Path, row: str, precision: str) -> str:
    """The declaration of a row's last line."""
    return [
        line["declaration"]
        for line in read_results(results)
        if (line["row"], line.get("precision", "float32")) == (row, precision)
    ][-1]


def _chosen(
    experiment: Experiment,
    row: Row,
    scale: str,
    data: Callable[[str], Splits],
    out: Path,
    checkpoints: Path,
    context: Context,
    wave: int | None,
    memory: int | None,
    precision: str,
    say: Callable[[str], None],
) -> Choice:
    """The choice of an earlier search of the same declaration, from ``selection.jsonl``, or a new one."""
    plan, path = row.plans[scale], out / "selection.jsonl"
    name, tries = declaration_hash(experiment, row, scale, plan, precision), combinations(plan)
    found = [
        line for line in done_here(path) if (line["row"], line["declaration"]) == (row.name, name)
    ]  # on the first process, whose choice stands
    if stored := hosts.gathered(found if hosts.first() else []):
        return Choice(by_json(tries, stored[0]["values"]), stored[0]["valid"], stored[0]["tried"])
    context.report.label = f"{row.name} grid of {len(tries)}"  # type: ignore[union-attr]
    splits = data(*experiment.by_data(scale, plan, [0]))
    most = min(
        in_a_wave(f"{row.name} grid", group.recipe, splits, len(group.indices), context, wave, memory, say)
        for group in grouped([with_values(plan, values) for values in tries])
    )
    folder = checkpoints / f"{row.name}-{name}-grid"
    choice = select(experiment.task, plan, splits, folder, context, most)
    line = {"row": row.name, "declaration": name} | declared(dataclasses.asdict(choice))
    (line, *_) = hosts.gathered([line])
    choice = Choice(by_json(tries, line["values"]), line["valid"], line["tried"])
    if hosts.first():
        store(path, [line])
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
    of: Sequence[str],
    data: Splits,
    precision: str,
    command: str,
) -> list[dict[str, Any]]:
    """One result a seed."""
    began = time.perf_counter()
    measured = experiment.task.results(plan, trained, data, seeds, experiment.image_shape[of[0]])
    if row.series or not row.drawn:  # a series' figures are curves
        measured = [{name: value for name, value in line.items() if name not in PICTURES} for line in measured]
    seconds = trained.seconds | {"measuring": time.perf_counter() - began}
    common = {
        "epochs": [stage.epoch for stage in trained.stages.values()],
        "seconds": {stage: round(spent / len(seeds), 2) for stage, spent in seconds.items()},
        "members": len(seeds),
        "peak_memory_mb": round(peak_memory() / 2**20),
        "device": device(),
        "precision": precision,
        "versions": versions(),
        "commit": commit(),
        "declaration": name,
        "selection": None if choice is None else {"values": declared(choice.values), "valid": choice.valid},
        "command": command,
    }
    start = {"experiment": experiment.name, "row": row.name, "scale": scale}
    hyperparameters = {"hyperparameters": declared(plan)}
    return [
        start | {"data": name, "seed": seed} | hyperparameters | line | common
        for name, seed, line in zip(of, seeds, measured, strict=True)
    ]


def _outcome(experiment: Experiment, line: dict[str, Any]) -> str:
    if not line["finite"]:
        return "diverged"
    values = {part: line.get(f"{part}_{experiment.task.measure}") for part in ("train", "valid", "test")}
    shown = ", ".join(f"{part} {value:.2f}" for part, value in values.items() if value is not None)
    return f"{experiment.task.noun}: {shown or 'undetermined'}, in {sum(line['seconds'].values()):.0f} s"
