"""The command line: ``python -m benchmarks list | mnist | ... | speed | render | report | fit | predict``."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import sys
from pathlib import Path

import tyro

from benchmarks import hosts, own_data, runner, scaling, speed
from benchmarks.experiment import Experiment, Halving, UsageError, known
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
from benchmarks.precision import PRECISIONS
from benchmarks.render import render
from benchmarks.report import report, with_results
from pretrain.data import DataUnavailable, Splits

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
PREFIX = ("python", "-m", "benchmarks")


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
    halving: bool = False
    """With --grid: try all combinations with few epochs, and only the best of them with more (successive halving)."""
    wave: int | None = None
    """Members trained side by side; default: as many as fit on an accelerator, one on a CPU."""
    memory: float | None = None
    """GiB a device has, to plan that with, on a CPU too; default: what it reports."""
    batch_devices: int = 1
    """Devices that share the rows of every minibatch; the others share the members."""
    precision: str = "float32"
    """Of the factors of matrix products: float32, tf32 or bfloat16; everything else is float32."""
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
    members: str = "1,2,4,8"
    """Populations of so many members each are timed too, by the same batches; none: no population."""
    precision: str = "float32"
    """Of the products of populations, separated by commas: float32, tf32, bfloat16."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """Train a stack on your own data: pretrain, fine-tune if there are labels, keep the network."""

    data: Path
    """A .npz file of x and, if there are labels, y; a .csv file, whose column of labels is named y; a .npy file; or a
    folder of images, one sub-folder a class."""
    stack: str
    """From the bottom up, like rbm:500,rbm:250. Kinds: rbm, gaussian-rbm, autoencoder, denoising, sparse, contractive,
    logistic-autoregression, pca, kernel-pca; standardise, without a size, goes below gaussian-rbm."""
    out: Path
    """Folder for the network and what is known of it."""
    labels: Path | None = None
    """A .npy file of labels, where the data has none."""
    size: str | None = None
    """HEIGHTxWIDTH to which images of a folder are scaled."""
    epochs: int = 20
    """Of each layer."""
    tuning_epochs: int = 30
    """Of fine-tuning."""
    batch_size: int = 20
    """Rows an update."""
    rate: float | None = None
    """Learning rate of the layers; default: each kind's own."""
    tuning_rates: str = "0.1,0.3,1"
    """Learning rates of fine-tuning, trained side by side; the best on validation rows is kept."""
    valid: float = 1 / 6
    """Share of the rows for validation."""
    test: float = 1 / 6
    """Share of the rows for testing; 0: none."""
    seed: int = 0
    """Of the split and the training."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Write what a network makes of each row: its class, or, of a network without classes, its codes."""

    net: Path
    """A folder that `fit` made."""
    data: Path
    """As for `fit`; labels that are there are compared."""
    labels: Path | None = None
    """A .npy file of labels to compare with."""
    out: Path | None = None
    """File for the lines; default: standard output."""


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
    print("fit, predict: a stack on your own data")
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
    out = options.out / experiment.name / scale
    if options.halving:
        if not options.grid:
            raise UsageError("--halving is a way to search a grid: give --grid too")
        plans = [{**row.plans, scale: dataclasses.replace(row.plans[scale], halving=Halving())} for row in rows]
        rows = [dataclasses.replace(row, plans=own) for row, own in zip(rows, plans, strict=True)]

    several = experiment.scales[scale].data

    @functools.lru_cache(maxsize=2 if isinstance(several, str) else len(several))  # small NORB has up to 2 GB
    def load(name: str) -> Splits:
        return experiment.data[name](data_dir=options.data_dir, say=say)

    try:
        runner.run(
            experiment,
            scale,
            rows,
            n_seeds=n_seeds,
            data=load,
            out=out,
            grid=options.grid,
            wave=options.wave,
            memory=None if options.memory is None else int(options.memory * 2**30),
            batch_devices=options.batch_devices,
            precision=known(options.precision, list(PRECISIONS), "precision"),
            command=shlex.join([*PREFIX, *_stable(words)]),
            say=say,
        )
    except KeyboardInterrupt:
        again = shlex.join([*PREFIX, *words])
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


def measure_speed(options: Speed, words: list[str]) -> int:
    """Runs the speed comparison."""
    there = list(speed.CONTENDERS)
    names = {"all": there, "none": []}.get(options.contenders.lower(), options.contenders.split(","))
    contenders = [known(name.strip(), there, "contender") for name in names]
    tasks = list(TASKS) if options.tasks == "all" else [known(t, list(TASKS), "task") for t in options.tasks.split(",")]
    try:
        sizes = [(int(n), int(m)) for n, m in (size.split("x") for size in options.sizes.split(","))]
        batches = [int(batch) for batch in options.batches.split(",")]
        members = [] if options.members == "none" else [int(count) for count in options.members.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--sizes are like 784x500,1000x1000, --batches like 10,100 and --members like 1,8: {error}"
        ) from error
    precisions = [known(name.strip(), list(PRECISIONS), "precision") for name in options.precision.split(",")]
    made = shlex.join([*PREFIX, *_stable(words)])
    if contenders:
        wanted = speed.settings(tasks, sizes, batches, options.rows, options.rounds)
        speed.main(options.out, wanted, contenders, command=made)
    if members:
        scaling.main(options.out, members, options.rounds, options.rows // 6, batches, precisions, say, made)
    return 0


def fit(options: Fit, words: list[str]) -> int:
    """Trains a stack on the user's data."""
    try:
        rates = tuple(float(rate) for rate in options.tuning_rates.split(","))
    except ValueError as error:
        raise UsageError(f"--tuning-rates are numbers with commas between: {error}") from error
    training = own_data.Training(
        options.stack,
        options.epochs,
        options.tuning_epochs,
        options.batch_size,
        options.rate,
        rates,
        options.seed,
    )
    found = own_data.read(options.data, options.labels, options.size)
    command = shlex.join([*PREFIX, *words])
    own_data.fit(found, training, (options.valid, options.test), options.out, command, say)
    return 0


def predict(options: Predict) -> int:
    """Classifies or encodes the user's rows."""
    if options.out is not None and not options.out.parent.is_dir():
        raise UsageError(f"there is no folder {options.out.parent} to write {options.out.name} in: make it first")
    lines = own_data.predict(options.net, options.data, options.labels, say)
    if options.out is None:
        print("\n".join(lines))
    else:
        options.out.write_text("\n".join([*lines, ""]))
        say(f"wrote {options.out}")
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
        name = known(words[0], ["list", *EXPERIMENTS, "speed", "render", "report", "fit", "predict"], "command")
        prog = f"python -m benchmarks {name}"
        if name in EXPERIMENTS:
            return run(EXPERIMENTS[name], tyro.cli(Run, prog=prog, args=words[1:]), words)
        if name == "render":
            return render_all(tyro.cli(Render, prog=prog, args=words[1:]))
        if name == "report":
            return write_report(tyro.cli(Report, prog=prog, args=words[1:]))
        if name == "fit":
            return fit(tyro.cli(Fit, prog=prog, args=words[1:]), words)
        if name == "predict":
            return predict(tyro.cli(Predict, prog=prog, args=words[1:]))
        if name == "speed":
            return measure_speed(tyro.cli(Speed, prog=prog, args=words[1:]), words)
        tyro.cli(List, prog=prog, args=words[1:])
        return list_experiments()
    except (UsageError, DataUnavailable, MemoryError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except BrokenPipeError:  # whoever read standard output has enough: nothing more can be written there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
