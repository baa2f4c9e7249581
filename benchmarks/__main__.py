"""The command line: ``python -m benchmarks list | mnist | family | labels | ... | speed | render | report``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

import tyro

from benchmarks import hosts, runner, scaling, speed
from benchmarks.experiment import Experiment, UsageError, known
from benchmarks.papers import (
    dbm_mnist,
    erhan2009,
    family,
    hinton2006,
    labels,
    larochelle2009,
    salakhutdinov2008,
    salakhutdinov2009,
    tricks,
)
from benchmarks.peers import TASKS
from benchmarks.render import render
from benchmarks.report import report, with_results
from pretrain.data import DataUnavailable

DECLARATIONS = (
    larochelle2009,
    family,
    labels,
    salakhutdinov2008,
    hinton2006,
    salakhutdinov2009,
    dbm_mnist,
    erhan2009,
    tricks,
)
EXPERIMENTS: dict[str, Experiment] = {paper.EXPERIMENT.name: paper.EXPERIMENT for paper in DECLARATIONS}
TABLES = Path("paper_tables")


def say(message: str) -> None:
    """Messages go to standard error; results are files."""
    print(message, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class List:
    """Show every experiment with its rows and scales."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Train the rows of a table, resuming what is unfinished, and render it."""

    scale: str = "quick"
    """How large: smoke, quick or paper."""
    rows: str = "all"
    """Row names, separated by commas."""
    seeds: int | None = None
    """How many seeds a row; default: the scale's."""
    data_dir: Path | None = None
    """Folder with the data set's original files; default: PRETRAIN_DATA, the cache, or fetched."""
    out: Path = TABLES
    """Folder for results; they go to OUT/EXPERIMENT/SCALE."""
    grid: bool = False
    """Choose each row's hyperparameters among its declared grid by validation error first. Without it the declared
    values are used: the best that such searches found."""
    wave: int | None = None
    """Members trained side by side; default: as many as fit on an accelerator, one on a CPU."""
    memory: float | None = None
    """GiB a device has, to plan that with, on a CPU too; default: what it reports."""
    batch_devices: int = 1
    """Devices that share the rows of every minibatch; the others share the members."""
    precision: str = "float32"
    """Of matrix products on an accelerator: float32, tf32 or bfloat16; everything else is float32."""
    distributed: bool = False
    """Train with many processes, each on members of its own; Slurm and Kubernetes tell them where they are."""
    coordinator: str | None = None
    """HOST:PORT of the first process, where the cluster does not tell."""
    processes: int | None = None
    """How many, likewise."""
    process: int | None = None
    """Which this one is, from 0."""


@dataclasses.dataclass(frozen=True)
class Render:
    """Make tables and figures again from stored results."""

    experiment: str = "all"
    """Which experiment."""
    out: Path = TABLES
    """Folder that holds the results."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Make one HTML page of all stored results: OUT/index.html."""

    out: Path = TABLES
    """Folder that holds the results."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """Time epochs beside bare matrix products and other libraries, and populations beside the machine's ceilings."""

    out: Path = TABLES / "speed"
    """Folder for the results."""
    rounds: int = 5
    """Timed epochs of each contender."""
    rows: int = 60_000
    """Training examples; a sixth of them for minibatches of ten and for populations."""
    tasks: str = "cd"
    """Names, separated by commas, or all: cd, pcd, denoising, fine-tuning, dbm."""
    sizes: str = "784x500"
    """Of a layer: VISIBLExHIDDEN, separated by commas."""
    batches: str = "100"
    """Rows of a minibatch, separated by commas."""
    contenders: str = "all"
    """Names, separated by commas; the package itself is always among them. None: only populations are timed."""
    members: int = 8
    """Populations of 1, 2, 4, ... up to so many members are timed too; 0: none."""


def list_experiments() -> int:
    """Prints every experiment."""
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}: {experiment.title}")
        if experiment.source:
            print(f"  {experiment.source}")
        print(f"  rows: {', '.join(row.name for row in experiment.rows)}")
        for name, scale in experiment.scales.items():
            print(f"  --scale {name}: {scale.note}; {scale.seeds} seed{'s' if scale.seeds > 1 else ''}")
    print("speed: one epoch of contrastive divergence beside bare matrix products and other libraries")
    print("render: tables and figures again from stored results")
    print("report: one HTML page of all stored results")
    return 0


def run(experiment: Experiment, options: Run, words: list[str]) -> int:
    """Runs one experiment and renders it."""
    if options.distributed:
        hosts.join(options.coordinator, options.processes, options.process)
    scale = known(options.scale, list(experiment.scales), "scale")
    names = [row.name for row in experiment.rows] if options.rows == "all" else options.rows.split(",")
    rows = [experiment.row(name.strip()) for name in names if name.strip()]
    if absent := [row.name for row in rows if scale not in row.plans and options.rows != "all"]:
        raise UsageError(f"there is no plan for {', '.join(absent)} at scale {scale!r}: choose another --scale")
    rows = [row for row in rows if scale in row.plans]
    n_seeds = experiment.scales[scale].seeds if options.seeds is None else options.seeds
    if n_seeds < 1:
        raise UsageError(f"--seeds must be at least 1; got {n_seeds}")
    data = experiment.data[experiment.scales[scale].data](data_dir=options.data_dir, say=say)
    out = options.out / experiment.name / scale
    prefix = ["python", "-m", "benchmarks"]
    try:
        runner.run(
            experiment,
            scale,
            rows,
            n_seeds=n_seeds,
            data=data,
            out=out,
            grid=options.grid,
            wave=options.wave,
            memory=None if options.memory is None else int(options.memory * 2**30),
            batch_devices=options.batch_devices,
            precision=known(options.precision, list(runner.PRECISIONS), "precision"),
            command=shlex.join([*prefix, *_stable(words)]),
            say=say,
        )
    except KeyboardInterrupt:
        again = shlex.join([*prefix, *words])
        say(f"\nstopped; everything finished is in {out}. The same command goes on from here:\n  {again}")
        return 130
    if not hosts.first():
        return 0
    for path in render(experiment, scale, out):
        say(f"wrote {path}")
    print((out / "table.md").read_text())
    return 0


def render_all(options: Render) -> int:
    """Renders every scale that has results."""
    names = (
        list(EXPERIMENTS)
        if options.experiment == "all"
        else [known(options.experiment, list(EXPERIMENTS), "experiment")]
    )
    found = with_results({name: EXPERIMENTS[name] for name in names}, options.out)
    for name, scale in found:
        for path in render(EXPERIMENTS[name], scale, options.out / name / scale):
            say(f"wrote {path}")
    return 0


def write_report(options: Report) -> int:
    """Writes the page."""
    path = options.out / "index.html"
    path.write_text(report(EXPERIMENTS, options.out), encoding="utf-8", newline="\n")
    say(f"wrote {path}")
    return 0


def measure_speed(options: Speed) -> int:
    """Runs the speed comparison."""
    there = list(speed.CONTENDERS)
    names = {"all": there, "none": []}.get(options.contenders.lower(), options.contenders.split(","))
    contenders = [known(name.strip(), there, "contender") for name in names]
    tasks = list(TASKS) if options.tasks == "all" else [known(t, list(TASKS), "task") for t in options.tasks.split(",")]
    try:
        sizes = [(int(n), int(m)) for n, m in (size.split("x") for size in options.sizes.split(","))]
        batches = [int(batch) for batch in options.batches.split(",")]
    except ValueError as error:
        raise UsageError(f"--sizes are like 784x500,1000x1000 and --batches like 10,100: {error}") from error
    if contenders:
        wanted = speed.settings(tasks, sizes, batches, options.rows, options.rounds)
        speed.main(options.out, wanted, contenders)
    if options.members:
        scaling.main(options.out, options.members, options.rounds, options.rows // 6, say=say)
    return 0


def _stable(words: list[str]) -> list[str]:
    """The command's words without the folders of one machine."""
    kept, skip = [], False
    for word in words:
        if skip or word.split("=")[0] in ("--data-dir", "--out", "--coordinator", "--process"):
            skip = not skip and "=" not in word
            continue
        kept.append(word)
    return kept


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return hosts.end(command(sys.argv[1:] if words is None else words))


def command(words: list[str]) -> int:
    """One command; what a user did wrong is said in words and has status 2."""
    if not words or words[0] in ("-h", "--help"):
        print(f"{__doc__}\nEach command explains itself: python -m benchmarks mnist --help")
        return 0 if words else 2
    try:
        name = known(words[0], ["list", *EXPERIMENTS, "speed", "render", "report"], "command")
        prog = f"python -m benchmarks {name}"
        if name in EXPERIMENTS:
            return run(EXPERIMENTS[name], tyro.cli(Run, prog=prog, args=words[1:]), words)
        if name == "render":
            return render_all(tyro.cli(Render, prog=prog, args=words[1:]))
        if name == "report":
            return write_report(tyro.cli(Report, prog=prog, args=words[1:]))
        if name == "speed":
            return measure_speed(tyro.cli(Speed, prog=prog, args=words[1:]))
        tyro.cli(List, prog=prog, args=words[1:])
        return list_experiments()
    except (UsageError, DataUnavailable, MemoryError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
