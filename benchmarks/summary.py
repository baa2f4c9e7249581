"""What a table says of each row: means over seeds, their intervals, the difference from what was published.

With ``n >= 2`` seeds the interval is Student's, at 95% confidence, for the mean over seeds,

    mean ± t(0.975, n - 1) * s / sqrt(n),

with ``s`` the sample standard deviation. Where seeds are tested on data of their own that overlap, as splits of few
objects do, it is that of the jackknife over the n objects (Efron & Stein, Ann. Statist. 9:586-596, 1981): with ``m_o``
the mean over the seeds that are not tested on object o,

    mean ± t(0.975, n - 1) * sqrt((n - 1) / n * sum_o (m_o - mean of m)^2).

One seed says nothing of the spread over seeds. Its test *error* then has the binomial interval of ``p = wrong /
images`` (Wilson, JASA 22:209-212, 1927), which holds for that network alone; not so where test rows are views of few
objects. A measure that is itself an estimate (a log-probability by annealed importance sampling) has the interval that
was stored beside it, of three standard errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.experiment import Experiment, Published, Row, Scale
from pretrain import mean_interval

PARTS = ("train", "valid", "test")
CONFIDENCE = 0.95
FLOAT32 = "float32"
STUDENT, BINOMIAL, SAMPLED, JACKKNIFE = "student-t", "binomial", "3 standard errors", "jackknife"


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
        units: of which units each seed's test data are, where those are its own and overlap.
        binomial: whether test rows are independent of each other.
    """

    row: Row
    results: tuple[dict[str, Any], ...]
    left_out: int = 0
    measure: str = "error"
    rounded: Mapping[str, Summary] = dataclasses.field(default_factory=dict)
    units: tuple[tuple[int, ...], ...] = ()
    binomial: bool = True

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
        lines = [line for line in self.finite if line.get(name) is not None]
        if len(lines) >= 2 and self.units and part != "test":
            return Estimate(float(np.mean([line[name] for line in lines])))  # of other units than those
        if len(lines) >= 2:
            return self.mean({line["seed"]: line[name] for line in lines})
        if not lines:
            return Estimate()
        (line,) = lines
        if f"{name}_interval" in line:
            low, high = line[f"{name}_interval"]
            return Estimate(line[name], low, high, SAMPLED)
        images = line.get("test_rows") if part == "test" and self.measure == "error" and self.binomial else None
        return wilson(line[name], images) if images else Estimate(line[name])

    def mean(self, by_seed: Mapping[int, float]) -> Estimate:
        """The mean of two or more seeds' values with its interval."""
        if not self.units:
            return student(list(by_seed.values()))
        return jackknife(list(by_seed.values()), [self.units[seed % len(self.units)] for seed in by_seed])

    @property
    def difference(self) -> float | None:
        """Ours on the test rows less what was published."""
        ours, published = self.estimate("test").mean, self.row.published.test
        return None if ours is None or published is None else ours - published


def differences(item: Summary, other: Summary) -> dict[int, float]:
    """The measure on the test part less another row's, by seed, where both have one."""
    name = f"test_{item.measure}"
    theirs = {line["seed"]: line[name] for line in other.finite if line.get(name) is not None}
    own = {line["seed"]: line[name] for line in item.finite if line.get(name) is not None}
    return {seed: own[seed] - theirs[seed] for seed in own if seed in theirs}


def student(errors: Sequence[float]) -> Estimate:
    """The mean of two or more seeds' errors with its Student interval."""
    return Estimate(*mean_interval(errors, CONFIDENCE), STUDENT)


def jackknife(values: Sequence[float], units: Sequence[tuple[int, ...]]) -> Estimate:
    """The mean of values, each of several units, with the interval of the jackknife over units; none if a unit is in
    all of them but one.
    """
    mean, every = float(np.mean(values)), sorted({unit for own in units for unit in own})
    without = [[value for value, own in zip(values, units, strict=True) if unit not in own] for unit in every]
    if min(map(len, without)) < 2 or len(every) < 2:
        return Estimate(mean)
    means, n = np.array([np.mean(others) for others in without]), len(every)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.sqrt((n - 1) * means.var()))
    return Estimate(mean, mean - half, mean + half, JACKKNIFE)


def wilson(error: float, images: int) -> Estimate:
    """One network's error, in percent, on so many images with its binomial interval."""
    ends = stats.binomtest(round(error * images / 100), images).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(error, 100 * float(ends.low), 100 * float(ends.high), BINOMIAL)


def summary(experiment: Experiment, lines: Iterable[dict[str, Any]], scale: Scale | None = None) -> list[Summary]:
    """One `Summary` a declared row, in the declared order; of one seed's lines the last counts. Published figures are
    left away where those of a scale are not comparable.
    """
    lines, summaries, measure = list(lines), [], experiment.task.measure
    for row in experiment.rows:
        if scale is not None and not scale.comparable:
            row = dataclasses.replace(row, published=Published())
        own: dict[str, list[dict[str, Any]]] = {FLOAT32: []}
        for line in lines:
            if line["row"] == row.name:
                own.setdefault(line.get("precision", FLOAT32), []).append(line)
        of = {"units": () if scale is None else scale.units, "binomial": scale is None or not scale.views}
        found = {name: dataclasses.replace(_summary(row, its, measure), **of) for name, its in own.items()}
        summaries.append(dataclasses.replace(found.pop(FLOAT32), rounded=found))
    return summaries


def _summary(row: Row, own: Sequence[dict[str, Any]], measure: str) -> Summary:
    if not own:
        return Summary(row, (), measure=measure)
    last = [line for line in own if line["declaration"] == own[-1]["declaration"]]
    seeds = {line["seed"]: line for line in last}
    results = tuple(seeds[seed] for seed in sorted(seeds))
    return Summary(row, results, len(own) - len(last), measure)
