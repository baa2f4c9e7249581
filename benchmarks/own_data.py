"""``python -m benchmarks fit`` and ``predict``: a stack on your own data, without writing Python.

A stack is written from the bottom up, ``kind:units`` with commas between; see `KINDS`. It is pretrained on the training
rows, then, where there are labels, fine-tuned with several learning rates side by side, of which the best on the
validation rows is kept. A folder holds what came of it: ``network.npz`` (`pretrain.load`), ``about.json`` and pictures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import pretrain as pt
from benchmarks.experiment import UsageError, known
from benchmarks.provenance import commit, device, versions
from pretrain.checks import check_run
from pretrain.data import BadFile, Examples, Splits, examples
from pretrain.report import Report, reporting
from pretrain.types import UNLABELLED

Say = Callable[[str], None]
NETWORK, ABOUT = "network.npz", "about.json"
KINDS: dict[str, tuple[Callable[[int], Any], float]] = {
    "rbm": (pt.BernoulliRBM, 0.1),
    "gaussian-rbm": (pt.GaussianRBM, 0.005),
    "autoencoder": (pt.Autoencoder, 0.05),
    "denoising": (lambda n: pt.Autoencoder(n, corruption=pt.Masking(0.25)), 0.05),
    "sparse": (lambda n: pt.Autoencoder(n, penalty=pt.KLSparsity()), 0.05),
    "contractive": (lambda n: pt.Autoencoder(n, penalty=pt.Contractive()), 0.05),
    "logistic-autoregression": (pt.LogisticAutoregression, 0.05),
    "pca": (pt.PCA, 0.0),
    "kernel-pca": (pt.KernelPCA, 0.0),
}
"""Of each kind of layer what makes it from its units, and its learning rate under momentum; `STANDARDISE` has none."""

STANDARDISE = "standardise"

BEYOND = 3.0
"""Values to be predicted from may leave the range of those that `fit` was given by so many times its width: farther off
they are in other units, as grey levels up to 255 are where the network knows them up to 1."""


def read(data: Path, labels: Path | None = None, size: str | None = None, classes: tuple[str, ...] = ()) -> Examples:
    """The user's rows (`pretrain.data.examples`).

    Raises:
        UsageError: if they are not such as can be trained on.
        DataUnavailable: if a file cannot be read.
    """
    with _words():
        return examples(data, labels, size=None if size is None else _size(size), classes=classes)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UsageError(f"--size is HEIGHTxWIDTH, like 28x28; got {text!r}")
    return int(height), int(width)


def stages(stack: str, epochs: int, batch_size: int, rate: float | None) -> list[pt.Stage]:
    """The stages of a stack as it is written on the command line.

    Args:
        stack: like ``standardise,gaussian-rbm:500,rbm:250``.
        epochs: of each layer that is trained.
        batch_size: likewise.
        rate: in place of every layer's own learning rate.

    Raises:
        UsageError: if it is not written so, or a kind is unknown.
    """
    found = []
    for word in stack.split(","):
        kind, _, units = word.strip().partition(":")
        known(kind, [*KINDS, STANDARDISE], "kind of layer")
        if kind == STANDARDISE:
            found.append(pt.Stage(pt.Standardise()))
            continue
        if not units.isdecimal() or int(units) < 1:
            raise UsageError(f"a layer is written kind:units, like {kind}:500; got {word.strip()!r}")
        make, own = KINDS[kind]
        learner = make(int(units))
        trained = pt.Stage(learner, pt.Momentum(own if rate is None else rate), epochs, batch_size)
        found.append(pt.Stage(learner) if isinstance(learner, pt.Solver) else trained)
    return found


@dataclasses.dataclass(frozen=True)
class Training:
    """How a stack is trained on one's own data.

    Attributes:
        stack: see `stages`.
        epochs: of each layer.
        tuning_epochs: of fine-tuning.
        batch_size: rows an update; in the fine-tuning at most all labelled training rows.
        rate: of the layers; None: each kind's own.
        tuning_rates: of fine-tuning, tried side by side.
        seed: of everything random.
    """

    stack: str
    epochs: int
    tuning_epochs: int
    batch_size: int
    rate: float | None
    tuning_rates: tuple[float, ...]
    seed: int


@contextlib.contextmanager
def _words() -> Iterator[None]:
    """What the library refuses, the user is told in words."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def fit(found: Examples, training: Training, shares: tuple[float, float], out: Path, command: str, say: Say) -> None:
    """Trains a stack, and keeps in ``out`` the network, what is known of it, and pictures.

    Args:
        found: the rows.
        training: how.
        shares: of the validation and the test rows.
        out: a folder; made if it is not there.
        command: the command line, for the record.
        say: is told how it goes.

    Raises:
        UsageError: if the stack and the data do not suit each other, or something diverged.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"--out {out} cannot be made: {there} is no folder that can be written to")
    with _words(), reporting() as report:
        plan = stages(training.stack, training.epochs, training.batch_size, training.rate)
        data = found.split(*shares, seed=training.seed)
        rows = {name: len(part.x) for name, part in data._asdict().items()}
        say(", ".join(f"{n:,} {name}" for name, n in rows.items()) + f" rows of {found.batch.x.shape[1]:,} features")
        tuning = _tuning(data, len(found.classes), training) if found.classes else None
        stack = pt.pretrain(plan, pt.Batch(data.train.x), valid=data.valid, seeds=[training.seed], report=report)
        if not all(progress.finite.all() for progress in stack.progress):
            raise UsageError("a layer diverged: give a lower --rate")
        network, errors, chosen = stack.network(), {}, None
        if tuning is not None:
            network, errors, chosen = _tuned(stack, *tuning, training, report)
            say(f"fine-tuned at {chosen:g}; " + ", ".join(f"{name} error {e:.2f}%" for name, e in errors.items()))
    out.mkdir(parents=True, exist_ok=True)
    pt.save(network, out / NETWORK)
    about = {"classes": found.classes, "shape": found.shape, "range": _range(found.batch), "rows": rows}
    about |= {"errors_percent": errors, "training": dataclasses.asdict(training), "tuning_rate": chosen}
    about |= {"tuning_batch_size": None if tuning is None else tuning[1].batch_size}
    about |= {"command": command, "device": device(), "versions": versions(), "commit": commit()}
    (out / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    for name, figure in _pictures(stack, found.shape).items():
        figure.savefig(out / name, dpi=120)
    say(f"wrote {out}: " + ", ".join(sorted(path.name for path in out.iterdir())))


def _range(batch: pt.Batch) -> tuple[float, float]:
    return float(batch.x.min()), float(batch.x.max())


def _tuning(data: Splits, n_classes: int, training: Training) -> tuple[Splits, pt.Stage]:
    """The labelled rows of each part, and how the network is fine-tuned on them; checked before a layer is trained.

    Raises:
        UsageError: if no labelled row is for training, or none for validation, or there is one class.
        ValueError: if the sizes are not such as a run can have.
    """
    data = Splits(*map(_labelled, data))
    n_train, n_valid = len(data.train.x), len(data.valid.x)
    if not (n_train and n_valid):
        raise UsageError(
            f"fine-tuning needs labelled rows for training and for validation; got {n_train} and {n_valid}: label more "
            "rows, change --valid or --test, or try another --seed"
        )
    if n_classes < 2:
        raise UsageError(
            f"fine-tuning needs two classes; all labels are one, but for {UNLABELLED}, which is none: recode the "
            "labels, or leave them out"
        )
    epochs = training.tuning_epochs
    recipe = pt.Sgd(jnp.array(training.tuning_rates), pt.Linear(float(epochs)))
    sizes: dict[str, int] = {"epochs": epochs, "batch_size": min(training.batch_size, n_train), "patience": epochs}
    stage = pt.Stage(pt.Classifier(n_classes), recipe, **sizes)
    check_run(stage.learner, data.train, {"valid": data.valid}, **sizes, chunk=1, own=False)  # type: ignore[arg-type]
    return data, stage


def _tuned(
    stack: pt.Pretrained, data: Splits, stage: pt.Stage, training: Training, report: Report
) -> tuple[pt.Network, dict[str, float], float]:
    """The network fine-tuned at the rate that did best on the validation rows, its errors in percent, and that rate."""
    rates = training.tuning_rates
    seeds = [training.seed] * len(rates)
    tuned = pt.fine_tune(stack.layers, stage, data.train, valid=data.valid, seeds=seeds, report=report)
    if not tuned.finite.any() or tuned.best is None:
        raise UsageError("fine-tuning diverged at every rate: give lower --tuning-rates")
    best = int(np.where(tuned.finite, np.asarray(tuned.best.score), np.inf).argmin())
    network = pt.member(tuned.params, best)
    return network, {n: pt.evaluate(network, p) for n, p in data._asdict().items() if len(p.x)}, float(rates[best])


def _labelled(batch: pt.Batch) -> pt.Batch:
    known_rows = np.flatnonzero(np.asarray(batch.y) != UNLABELLED)
    assert batch.y is not None
    return pt.Batch(batch.x[known_rows], batch.y[known_rows])


def _pictures(stack: pt.Pretrained, shape: tuple[int, ...]) -> dict[str, Figure]:
    """Of every trained layer its learning curves; of images the lowest layer's weights."""
    trained = [(number, progress) for number, progress in enumerate(stack.progress, 1) if progress.history]
    drawn = {f"layer_{number}.png": pt.plots.learning_curves(progress) for number, progress in trained}
    lowest = next((layer for layer in stack.network().layers if isinstance(layer, pt.Dense)), None)
    if len(shape) == 2 and lowest is not None and lowest.n_in == shape[0] * shape[1]:
        drawn["filters.png"] = pt.plots.filters(lowest, (shape[0], shape[1]))
    return drawn


def predict(net: Path, data: Path, labels: Path | None, say: Say) -> list[str]:
    """A line a row: its class, or, of a network without classes, its code, with commas between.

    Args:
        net: a folder that `fit` made.
        data: the rows, see `read`; images are scaled to the size of those that were trained on.
        labels: of the rows, where they have none; ``say`` is told the error.
        say: likewise.

    Raises:
        BadFile: if the folder holds no network, or a file cannot be read.
        UsageError: if the rows do not suit it; or lie so far (`BEYOND`) from the values it was fitted to that they must
            be in other units.
    """
    try:
        about = json.loads((net / ABOUT).read_text())
        classes, shape = tuple(map(str, about["classes"])), tuple(map(int, about["shape"]))
        low, high = map(float, about.get("range", (-np.inf, np.inf)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{net} holds no network that `fit` made: {error}") from error
    if data.is_dir() and len(shape) != 2:
        raise UsageError(f"{net} was trained on rows of shape {shape}, not on images: give a .npy, .npz or .csv file")
    found = read(data, labels, "x".join(map(str, shape)) if data.is_dir() else None, classes)
    lowest, highest = _range(found.batch)
    if max(low - lowest, highest - high) > BEYOND * (high - low):
        raise UsageError(
            f"the values of {data} lie in {lowest:.4g} to {highest:.4g}, those that {net} was fitted to in "
            f"{low:.4g} to {high:.4g}: give both in the same units (grey levels of type uint8 are divided by 255, "
            "other numbers are taken as they are)"
        )
    if not (net / NETWORK).is_file():
        raise BadFile(f"{net} holds no network that `fit` made: there is no {NETWORK}")
    with _words():
        network = pt.load(net / NETWORK)
        assert isinstance(network, pt.Network)
        if not network.head:
            return [",".join(f"{value:.6g}" for value in row) for row in pt.encode(network, found.batch.x)]
        rows = _labelled(found.batch) if found.batch.y is not None else None
        if rows is not None and len(rows.x):
            say(f"{len(rows.x):,} labelled rows, error {pt.evaluate(network, rows):.2f}%")
        return [classes[label] for label in pt.predict(network, found.batch.x)]
