"""What a table says of each row: means over seeds, their intervals, the difference from what was published.

An interval holds with 95% confidence and is one of two kinds. With ``n >= 2`` seeds it is Student's, for the mean over
seeds,

    mean ± t(0.975, n - 1) * s / sqrt(n),

with ``s`` the sample standard deviation. One seed says nothing of the spread over seeds; its test error then has the
binomial interval of ``p = wrong / images`` (Wilson, JASA 22:209-212, 1927), which holds for that network alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.experiment import Experiment, Row

PARTS = ("train", "valid", "test")
CONFIDENCE = 0.95
STUDENT, BINOMIAL = "student-t", "binomial"


class Estimate(NamedTuple):
    """An error in percent and the ends of its interval, which is `STUDENT` or `BINOMIAL`; None where there is none."""

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
    """

    row: Row
    results: tuple[dict[str, Any], ...]
    left_out: int = 0

    @property
    def finite(self) -> list[dict[str, Any]]:
        """The results of the seeds that did not diverge."""
        return [line for line in self.results if line["finite"]]

    @property
    def failed(self) -> int:
        """How many seeds diverged."""
        return len(self.results) - len(self.finite)

    @property
    def seconds(self) -> float:
        """Training time of all its seeds."""
        return sum(sum(line["seconds"].values()) for line in self.results)

    def estimate(self, part: str) -> Estimate:
        """The error on the ``"train"``, ``"valid"`` or ``"test"`` part over the finite seeds."""
        errors = [line[f"{part}_error"] for line in self.finite]
        if len(errors) >= 2:
            return student(errors)
        images = self.finite[0].get("test_rows") if part == "test" and errors else None
        return wilson(errors[0], images) if images else Estimate(*errors)

    @property
    def difference(self) -> float | None:
        """Our test error less the published one, in percent."""
        ours, published = self.estimate("test").mean, self.row.published.test
        return None if ours is None or published is None else ours - published


def student(errors: Sequence[float]) -> Estimate:
    """The mean of two or more seeds' errors with its Student interval."""
    mean, n = float(np.mean(errors)), len(errors)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(errors, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, STUDENT)


def wilson(error: float, images: int) -> Estimate:
    """One network's error, in percent, on so many images with its binomial interval."""
    ends = stats.binomtest(round(error * images / 100), images).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(error, 100 * float(ends.low), 100 * float(ends.high), BINOMIAL)


def summary(experiment: Experiment, lines: Iterable[dict[str, Any]]) -> list[Summary]:
    """One `Summary` a declared row, in the declared order; of one seed's lines the last counts."""
    lines, summaries = list(lines), []
    for row in experiment.rows:
        own = [line for line in lines if line["row"] == row.name]
        last = [line for line in own if line["declaration"] == own[-1]["declaration"]]
        seeds = {line["seed"]: line for line in last}
        summaries.append(Summary(row, tuple(seeds[seed] for seed in sorted(seeds)), len(own) - len(last)))
    return summaries
