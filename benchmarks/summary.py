"""What a table says of each row: means over seeds, their intervals, the difference from what was published.

With ``n >= 2`` seeds the interval is Student's, at 95% confidence, for the mean over seeds,

    mean ± t(0.975, n - 1) * s / sqrt(n),

with ``s`` the sample standard deviation. One seed says nothing of the spread over seeds. Its test *error* then has the
binomial interval of ``p = wrong / images`` (Wilson, JASA 22:209-212, 1927), which holds for that network alone; and a
measure that is itself an estimate (a log-probability by annealed importance sampling) has the interval that was stored
beside it, of three standard errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.experiment import Experiment, Published, Row

PARTS = ("train", "valid", "test")
CONFIDENCE = 0.95
FLOAT32 = "float32"
STUDENT, BINOMIAL, SAMPLED = "student-t", "binomial", "3 standard errors"


class Estimate(NamedTuple):
    """A measure and the ends of its interval, which is one of the kinds above; None where there is none."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """One row of the table.

    Attributes:
        row: its declaration.
        results: its lines of the declaration that was run last, by seed, diverged ones among them.
        left_out: how many lines of earlier declarations there are.
        measure: what is measured: the lines hold it as ``<part>_<measure>``.
        rounded: the row with matrix products in other precisions than float32, by precision, as far as it ran.
    """

    row: Row
    results: tuple[dict[str, Any], ...]
    left_out: int = 0
    measure: str = "error"
    rounded: Mapping[str, Summary] = dataclasses.field(default_factory=dict)

    @property
    def finite(self) -> list[dict[str, Any]]:
        """The results of the seeds that did not diverge."""
        return [line for line in self.results if line["finite"]]

    @property
    def measured(self) -> int:
        """How many seeds the test estimate is of: a finite one's can be undetermined, and says so by None."""
        return sum(line.get(f"test_{self.measure}") is not None for line in self.finite)

    @property
    def failed(self) -> int:
        """How many seeds diverged."""
        return len(self.results) - len(self.finite)

    @property
    def seconds(self) -> float:
        """Training time of all its seeds."""
        return sum(sum(line["seconds"].values()) for line in self.results)

    def estimate(self, part: str) -> Estimate:
        """The measure on the ``"train"``, ``"valid"`` or ``"test"`` part over the finite seeds."""
        name = f"{part}_{self.measure}"
        values = [line[name] for line in self.finite if line.get(name) is not None]
        if len(values) >= 2:
            return student(values)
        if not values:
            return Estimate()
        (line,) = [line for line in self.finite if line.get(name) is not None]
        if f"{name}_interval" in line:
            low, high = line[f"{name}_interval"]
            return Estimate(values[0], low, high, SAMPLED)
        images = line.get("test_rows") if part == "test" and self.measure == "error" else None
        return wilson(values[0], images) if images else Estimate(*values)

    @property
    def difference(self) -> float | None:
        """Ours on the test rows less what was published."""
        ours, published = self.estimate("test").mean, self.row.published.test
        return None if ours is None or published is None else ours - published


def differences(item: Summary, other: Summary) -> list[float]:
    """The measure on the test part less another row's, for every seed of which both have one."""
    name = f"test_{item.measure}"
    theirs = {line["seed"]: line[name] for line in other.finite if line.get(name) is not None}
    own = {line["seed"]: line[name] for line in item.finite if line.get(name) is not None}
    return [own[seed] - theirs[seed] for seed in own if seed in theirs]


def student(errors: Sequence[float]) -> Estimate:
    """The mean of two or more seeds' errors with its Student interval."""
    mean, n = float(np.mean(errors)), len(errors)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(errors, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, STUDENT)


def wilson(error: float, images: int) -> Estimate:
    """One network's error, in percent, on so many images with its binomial interval."""
    ends = stats.binomtest(round(error * images / 100), images).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(error, 100 * float(ends.low), 100 * float(ends.high), BINOMIAL)


def summary(experiment: Experiment, lines: Iterable[dict[str, Any]], comparable: bool = True) -> list[Summary]:
    """One `Summary` a declared row, in the declared order; of one seed's lines the last counts. Published figures are
    left away where they are not ``comparable``.
    """
    lines, summaries, measure = list(lines), [], experiment.task.measure
    for row in experiment.rows:
        row = row if comparable else dataclasses.replace(row, published=Published())
        own: dict[str, list[dict[str, Any]]] = {FLOAT32: []}
        for line in lines:
            if line["row"] == row.name:
                own.setdefault(line.get("precision", FLOAT32), []).append(line)
        found = {name: _summary(row, its, measure) for name, its in own.items()}
        summaries.append(dataclasses.replace(found.pop(FLOAT32), rounded=found))
    return summaries


def _summary(row: Row, own: Sequence[dict[str, Any]], measure: str) -> Summary:
    if not own:
        return Summary(row, (), measure=measure)
    last = [line for line in own if line["declaration"] == own[-1]["declaration"]]
    seeds = {line["seed"]: line for line in last}
    results = tuple(seeds[seed] for seed in sorted(seeds))
    return Summary(row, results, len(own) - len(last), measure)
