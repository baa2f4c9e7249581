"""Host-side progress: what a run shows while it trains, on a terminal or in a log; and what looks wrong with it.

Progress is judged by a measure that tells of it. A restricted Boltzmann machine has no loss that is worth computing:
its reconstruction error is shown with the note that contrastive divergence does not descend it, beside the gap of free
energies (Hinton, *A practical guide to training restricted Boltzmann machines*, UTML TR 2010-003, sections 5 and 6).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

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
        return self.seconds / max(self.epoch, 1) * (self.epochs - self.epoch)


Report = Callable[[Record], None]

SIGNS = ("update_ratio", "dead_units", "saturated_units")
"""Of health, see `pretrain.diagnostics`: neither measures of progress nor metrics of a learner."""

JUDGED = ("margin_loss", "reconstruction_error", "error", "loss")
"""First measures of ``evaluate``, which a history, sorted by name, no longer tells: the first of these that it has.
Beside a ``cross_entropy`` an ``error`` is not it: it is that of an output on the codes, and NaN without labels. Of
measures by other names it is not known whether lower is better: none is said to have got worse."""

_WORDS = {"mean_gap": "gap of means", "error": "error %"}
_ROWS = {"valid/": "valid ", "train/": "train ", "": ""}
"""On whose rows a measure was taken, best to judge by first; without a name: the minibatches of the training."""


def free_energy_gap(history: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Mean free energy of validation rows minus that of training rows, in nats: ``[epoch, members]``.

    Near zero while an RBM fits both alike; its growth is overfitting (Hinton, *A practical guide*, 2010, section 6).
    None where the history has no free energies.
    """
    if "valid/free_energy" not in history or "train/free_energy" not in history:
        return None
    return history["valid/free_energy"] - history["train/free_energy"]


def progress(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What tells of a run's progress: label to ``[epoch, members]``. The run is judged by the first; lower is better.

    That is the first measure of the learner's ``evaluate`` (of those in `JUDGED`, else by name), on validation rows if
    there are any, else on training rows, else on minibatches. Of an RBM it is the reconstruction error, and its label
    says that CD does not descend it; its `free_energy_gap` is the second. Empty if nothing was measured.
    """
    rows, judged = _judged(history)
    if judged is None:
        return {}
    note = " (not what CD descends)" if judged == "reconstruction_error" and f"{rows}free_energy" in history else ""
    gap = free_energy_gap(history)
    return {_ROWS[rows] + _words(judged) + note: history[rows + judged]} | (
        {} if gap is None else {"free-energy gap": gap}
    )


def _judged(history: Mapping[str, np.ndarray]) -> tuple[str, str | None]:
    """The prefix of the rows, and the name of the measure on them, that tells of progress; None if there is none."""
    for rows in _ROWS:
        names = {name.removeprefix(rows) for name in history if name.startswith(rows)} - set(SIGNS)
        names = sorted(name for name in names if "/" not in name)
        if names:
            aside = "error" if {"cross_entropy", f"{rows}cross_entropy"} & history.keys() else None
            return rows, next((name for name in JUDGED if name in names and name != aside), names[0])
    return "", None


def measures(history: Mapping[str, np.ndarray]) -> str:
    """The latest value of each measure worth showing, the mean over finite members."""
    own = {_words(name): values for name, values in history.items() if "/" not in name and name not in SIGNS}
    parts = []
    for label, values in (own | progress(history)).items():
        latest = values[-1]
        finite = latest[np.isfinite(latest)]
        parts.append(f"{label} {finite.mean():.4g}" if len(finite) else f"{label} diverged")
        if 0 < len(finite) < len(latest):
            parts.append(f"({len(latest) - len(finite)} of {len(latest)} diverged)")
    return ", ".join(parts)


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


USUAL_RATIO = (1e-5, 1e-1)
"""Update ratios outside of which a learning rate is suspect. Good runs have 1e-3 to 5e-2, in their first epochs more or
less; a rate that a schedule has brought to zero has 0, so too low is only what never was within."""

STATE, TREND = 3, 5
"""Epochs that a state, and that a trend, must last before it is told."""

STUCK = (
    ("dead_units", 0.6, "lower the learning rate, or start from smaller weights"),
    ("saturated_units", 0.3, "lower the learning rate, decay the weights or rescale the inputs"),
)
"""Shares of stuck units that are told, unless they fall, and what to try. The first is high because a good autoencoder
begins with four fifths of its units dead and revives them, and because nearly half the pixels of MNIST, which are the
units of a logistic autoregression, are hardly ever on."""

GAP, WORSE, LOST = 0.05, 0.1, 0.05
"""Growth of the free-energy gap, as a share of the mean free energy's size; loss of progress, as a share of the best
value, and as a share of all progress made."""


def warnings(given: Any) -> list[str]:
    """What looks wrong, in words: each with the number that was seen and what to try. Empty for a healthy run.

    Told are: members that diverged; a ratio of updates to weights beyond `USUAL_RATIO` for the last `STATE` epochs, or
    below it ever since the start; shares of dead units that do not fall, and of saturated units, over the last `STATE`
    epochs; a free-energy gap that has grown by `GAP` and still grows; and, by the first of the measures of `progress`,
    `TREND` epochs that are each worse than the best `TREND` on end were on average, by `WORSE` of that and by `LOST` of
    what had been gained.

    Args:
        given: a `Record`, a `pretrain.fit.Progress`, a history: measure name to ``[epoch, members]``, or a
            `pretrain.stack.Pretrained`, whose warnings begin with the layer.
    """
    if stages := getattr(given, "progress", None):
        return [f"layer {number}: {text}" for number, stage in enumerate(stages, 1) for text in warnings(stage)]
    return [text for _, text in _found(getattr(given, "history", given))]


def _found(history: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """(kind, warning)."""
    judged = progress(history)
    if not judged:
        return
    label, values = next(iter(judged.items()))
    ratios = history.get("update_ratio", np.ones_like(values))
    good = np.isfinite(values) & np.isfinite(ratios)
    finite = good.all(axis=0)
    if not finite.all():
        text = (
            f"{(~finite).sum()} of {finite.size} members diverged, the first in epoch "
            f"{good.all(axis=1).argmin() + 1}: lower the learning rate"
        )
        yield "diverged", text

    def where(found: np.ndarray) -> str:
        return f" in {found.sum()} of {finite.size} members" if finite.size > 1 else ""

    values, ratios = values[:, finite], ratios[:, finite]
    stuck = {name: history[name][:, finite] for name, _, _ in STUCK if name in history}
    still = np.any([_lasting(stuck[name], least) for name, least, _ in STUCK if name in stuck] or [False], axis=0)
    yield from _suspect_rates(ratios, still, where) if "update_ratio" in history else ()
    for name, least, advice in STUCK:
        if name in stuck:
            yield from _stuck(name, stuck[name], least, advice, where)
    gap = free_energy_gap(history)
    if gap is not None:
        size = np.abs(history["train/free_energy"][:, finite]).mean(axis=0)
        yield from _growing_gap(gap[:, finite], size, where)
    yield from _getting_worse(label, values, where) if _judged(history)[1] in JUDGED else ()


Where = Callable[[np.ndarray], str]
"""In how many of the members, in words; from whether it was found in each."""


def _always(seen: np.ndarray) -> np.ndarray:
    """``[members]`` whether in all of these epochs."""
    return np.asarray(seen.all(axis=0))


def _suspect_rates(ratios: np.ndarray, still: np.ndarray, where: Where) -> Iterator[tuple[str, str]]:
    """``still``: members whose units no longer move, which makes updates small: their rate is not to be raised."""
    low, high = USUAL_RATIO
    if len(ratios) < STATE:
        return
    if (found := _always(ratios[-STATE:] > high)).any():
        text = (
            f"an update is {ratios[-1, found].max():.2g} of the weights{where(found)}, about 1e-3 is usual: "
            "lower the learning rate"
        )
        yield "fast", text
    if (found := _always(ratios < low) & ~still).any():
        text = (
            f"an update is only {ratios[-1, found].min():.2g} of the weights{where(found)}, about 1e-3 is usual: "
            "raise the learning rate"
        )
        yield "slow", text


def _lasting(shares: np.ndarray, least: float) -> np.ndarray:
    """``[members]`` whether the share was larger in the last `STATE` epochs, and did not fall."""
    lasting = shares[-STATE:]
    return _always(lasting > least) & (lasting[-1] >= 0.98 * lasting[0]) & (len(lasting) == STATE)


def _stuck(name: str, shares: np.ndarray, least: float, advice: str, where: Where) -> Iterator[tuple[str, str]]:
    if (found := _lasting(shares, least)).any():
        share = f"{100 * shares[-1, found].max():.0f}% of the units"
        yield name, f"{share} are {name.removesuffix('_units')}{where(found)}: {advice}"


def _growing_gap(gap: np.ndarray, size: np.ndarray, where: Where) -> Iterator[tuple[str, str]]:
    if len(gap) < 2 * STATE:
        return
    before, now = gap[-2 * STATE : -STATE].mean(axis=0), gap[-STATE:].mean(axis=0)
    growth = now - gap[:STATE].mean(axis=0)
    if (found := (growth > GAP * size) & (now > before)).any():
        worst = np.where(found, growth, -np.inf).argmax()
        text = (
            f"the free-energy gap between validation and training rows has grown by {growth[worst]:.3g} to "
            f"{now[worst]:.3g} nats{where(found)}, which is overfitting: train for fewer epochs, or with weight "
            "decay, fewer units or more rows"
        )
        yield "gap", text


def _getting_worse(label: str, values: np.ndarray, where: Where) -> Iterator[tuple[str, str]]:
    if len(values) < 2 * TREND:
        return
    best = np.stack([values[i : i + TREND].mean(axis=0) for i in range(len(values) - TREND + 1)]).min(axis=0)
    gained = np.maximum(values[0] - best, 0.0)
    allowed = best + np.maximum(WORSE * np.abs(best), LOST * gained)
    if (found := _always(values[-TREND:] > allowed)).any():
        worst = np.where(found, values[-1] - best, -np.inf).argmax()
        text = (
            f"{label} got worse, from {best[worst]:.4g} to {values[-1, worst]:.4g}{where(found)}: stop earlier "
            "(patience keeps the best), or lower the learning rate"
        )
        yield "worse", text


def clock(seconds: float) -> str:
    """``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class _News:
    """The warnings of a stage that it has not had before: one of each kind."""

    def __init__(self) -> None:
        self._stage, self._epoch, self._told = ("", ""), 0, set[str]()

    def __call__(self, label: str, record: Record) -> list[str]:
        if (label, record.stage) != self._stage or record.epoch <= self._epoch:
            self._told = set()
        self._stage, self._epoch = (label, record.stage), record.epoch
        new = [(kind, text) for kind, text in _found(record.history) if kind not in self._told]
        self._told |= {kind for kind, _ in new}
        return [f"warning: {_title(label, record)} | epoch {record.epoch} | {text}" for _, text in new]


def _title(label: str, record: Record) -> str:
    return (f"{label} | " if label else "") + f"{record.stage} {record.learner}"


class Lines:
    """One plain line an epoch at most every ``every`` seconds and at the end of each stage; new warnings at once."""

    def __init__(self, label: str = "", stream: IO[str] | None = None, every: float = 10.0) -> None:
        self.label, self.stream, self.every = label, stream, every
        self._last: tuple[str, str, int, float] = ("", "", 0, 0.0)
        self._news = _News()

    def __call__(self, record: Record) -> None:
        for warning in self._news(self.label, record):
            self._print(warning)
        label, stage, epoch, seconds = self._last
        same = (label, stage) == (self.label, record.stage) and record.epoch > epoch
        if same and record.epoch < record.epochs and record.seconds - seconds < self.every:
            return
        self._last = (self.label, record.stage, record.epoch, record.seconds)
        self._print(
            f"{_title(self.label, record)} | epoch {record.epoch}/{record.epochs} | "
            f"{measures(record.history)} | "
            f"{clock(record.seconds)} spent, {clock(record.seconds_left)} left"
        )

    def _print(self, line: str) -> None:
        print(line, file=self.stream or sys.stderr, flush=True)


class Live:
    """One live line with a bar, for a terminal; new warnings stay above it. Use it as a context manager."""

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
        self._news = _News()

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: Record) -> None:
        for warning in self._news(self.label, record):
            self._bar.console.print(warning, markup=False, highlight=False, soft_wrap=True)
        description = f"{self.label} {record.stage} {record.learner}".strip()
        if description != self._stage:
            self._stage = description
            self._bar.reset(self._task, total=record.epochs, description=description)
        self._bar.update(self._task, completed=record.epoch, measures=measures(record.history))


@contextlib.contextmanager
def reporting(interactive: bool | None = None) -> Iterator[Lines | Live]:
    """A report for a whole run: `Live` on a terminal, else `Lines`; None asks standard error what it is."""
    if not (sys.stderr.isatty() if interactive is None else interactive):
        yield Lines()
        return
    with Live() as live:
        yield live
