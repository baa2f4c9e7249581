"""Host-side progress: what a run shows while it trains, on a terminal or in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Record(NamedTuple):
    """Where a stage stands after a chunk of epochs.

    Attributes:
        stage: its name, ``layer 2/3`` or ``fine-tuning``.
        learner: the learner's name.
        epoch: epochs done.
        epochs: epochs at most.
        history: measure name to ``[epoch, members]``.
        seconds: spent in this stage.
    """

    stage: str
    learner: str
    epoch: int
    epochs: int
    history: dict[str, np.ndarray]
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Of this stage, if its remaining epochs take as long as those done."""
        return self.seconds / self.epoch * (self.epochs - self.epoch)


Report = Callable[[Record], None]

_SHOWN = {
    "reconstruction_error": "reconstruction error",
    "mean_gap": "gap of means",
    "loss": "loss",
    "error": "train error %",
    "valid/error": "valid error %",
}


def free_energy_gap(history: dict[str, np.ndarray]) -> np.ndarray | None:
    """Mean free energy of validation rows minus that of training rows, in nats: ``[epoch, members]``.

    Near zero while an RBM fits both alike; its growth is overfitting (Hinton, *A practical guide*, 2010, section 6).
    None where the history has no free energies.
    """
    if "valid/free_energy" not in history or "train/free_energy" not in history:
        return None
    return history["valid/free_energy"] - history["train/free_energy"]


def measures(history: dict[str, np.ndarray]) -> str:
    """The latest value of each measure worth showing, the mean over finite members."""
    shown = {label: history[name][-1] for name, label in _SHOWN.items() if name in history}
    gap = free_energy_gap(history)
    if gap is not None:
        shown["free-energy gap"] = gap[-1]
    parts = []
    for label, values in shown.items():
        finite = values[np.isfinite(values)]
        parts.append(f"{label} {finite.mean():.4g}" if len(finite) else f"{label} diverged")
        if 0 < len(finite) < len(values):
            parts.append(f"({len(values) - len(finite)} of {len(values)} diverged)")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Lines:
    """One plain line an epoch at most every ``every`` seconds, and one at the end of each stage."""

    def __init__(self, label: str = "", stream: IO[str] | None = None, every: float = 10.0) -> None:
        self.label, self.stream, self.every = label, stream, every
        self._last: tuple[str, str, int, float] = ("", "", 0, 0.0)

    def __call__(self, record: Record) -> None:
        label, stage, epoch, seconds = self._last
        same = (label, stage) == (self.label, record.stage) and record.epoch > epoch
        if same and record.epoch < record.epochs and record.seconds - seconds < self.every:
            return
        self._last = (self.label, record.stage, record.epoch, record.seconds)
        label = f"{self.label} | " if self.label else ""
        print(
            f"{label}{record.stage} {record.learner} | epoch {record.epoch}/{record.epochs} | "
            f"{measures(record.history)} | "
            f"{clock(record.seconds)} spent, {clock(record.seconds_left)} left",
            file=self.stream or sys.stderr,
            flush=True,
        )


class Live:
    """One live line with a bar, for a terminal. Use it as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[measures]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console or Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=1, measures="")
        self.label, self._stage = "", ""

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: Record) -> None:
        description = f"{self.label} {record.stage} {record.learner}".strip()
        if description != self._stage:
            self._stage = description
            self._bar.reset(self._task, total=record.epochs, description=description)
        self._bar.update(self._task, completed=record.epoch, measures=measures(record.history))
