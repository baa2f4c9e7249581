"""Three claims about pretraining, tested on many networks of each depth (Erhan et al., AISTATS 2009).

1. Its mean error is lower: the difference of means, with Welch's interval; Cohen's d, the difference in units of the
   root of the mean of both variances (*Statistical power analysis for the behavioral sciences*, 2nd ed. 1988, 2.3),
   which does not depend on how many seeds each kind has; and the two-sided p of Mann & Whitney's rank test, which stuck
   networks do not dominate.
2. Its spread over seeds is lower: the ratio of standard deviations with a percentile bootstrap interval, and the p of
   Brown & Forsythe's statistic (deviations from the median; J. Am. Stat. Assoc. 69:364-367, 1974) by permutation, for
   of two-humped errors its F distribution claims far too much. Both have to show it, for of a dozen seeds of one
   distribution the interval leaves out 1 in 8 to 13 of a hundred cases, not 5.
3. The gap grows with depth: of every seed the least-squares slope, over depth, of its error without pretraining less
   its error with it, and the mean of these with Student's interval; likewise the growth from each depth to the next. A
   seed's networks of different depths are not independent (their lower layers start alike), its slope does not ask them
   to be. Of a gap that jumps where networks begin to fail a slope tells little: the growths tell where.

All intervals are at 95%, two-sided, and not corrected for how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.summary import CONFIDENCE, Summary
from pretrain import mean_interval
from pretrain.intervals import Interval

STUCK = 80.0
"""Percent; a network with a larger test error is called stuck: it has hardly left chance, which is 90."""

FEW = 5
"""Seeds of each kind below which nothing is claimed or tested: a bootstrap of fewer says little, and the deviations of
two from their median are always equal.
"""

RESAMPLES = 10_000

Errors = Mapping[int, Mapping[int, float]]
"""Test errors in percent, by depth and seed."""


class Comparison(NamedTuple):
    """Pretrained networks against those without, at one depth.

    Attributes:
        depth: hidden layers.
        gap: mean error without pretraining less mean error with it, in points, and its interval.
        effect: Cohen's d of the gap.
        rank_p: of Mann & Whitney's test.
        spread: standard deviation with pretraining over that without, and its interval.
        spread_p: of Brown & Forsythe's test.
    """

    depth: int
    gap: tuple[float, float, float]
    effect: float
    rank_p: float
    spread: tuple[float, float, float]
    spread_p: float


def compare(depth: int, without: np.ndarray, pretrained: np.ndarray, random: np.random.Generator) -> Comparison:
    """The first two claims at one depth; errors ``[seeds]`` of each kind, two seeds or more."""
    welch = stats.ttest_ind(without, pretrained, equal_var=False)
    interval = welch.confidence_interval(CONFIDENCE)
    gap = float(without.mean() - pretrained.mean())
    typical = np.sqrt((_spread(without) ** 2 + _spread(pretrained) ** 2) / 2)
    low, high = (gap, gap) if typical == 0.0 else (interval.low, interval.high)
    spreads = _ratio(_spread(_resampled(pretrained, random)), _spread(_resampled(without, random)))
    return Comparison(
        depth,
        (gap, float(low), float(high)),
        float(_ratio(gap, typical)),
        float(stats.mannwhitneyu(without, pretrained).pvalue),
        (float(_ratio(_spread(pretrained), _spread(without))), *_interval(spreads)),
        brown_forsythe(without, pretrained, random),
    )


def brown_forsythe(one: np.ndarray, other: np.ndarray, random: np.random.Generator) -> float:
    """The p of Brown & Forsythe's statistic among `RESAMPLES` permutations of the deviations; of two groups it orders
    these as the distance of the groups' mean deviations does.
    """
    deviations = np.concatenate([np.abs(group - np.median(group)) for group in (one, other)])
    n, total = len(one), deviations.sum()

    def apart(first: np.ndarray) -> np.ndarray:
        return np.abs(first / n - (total - first) / len(other))

    shuffled = random.permuted(np.tile(deviations, (RESAMPLES, 1)), axis=1)[:, :n].sum(axis=1)
    seen = apart(deviations[:n].sum()) * (1 - 1e-9)  # equal sums in another order are equal
    return float((1 + (apart(shuffled) >= seen).sum()) / (1 + RESAMPLES))


class Growth(NamedTuple):
    """How the gap changes with depth, in points, each with its interval over seeds.

    Attributes:
        slope: a layer.
        steps: (from this depth, to that, the growth), from each depth to the next.
        seeds: how many there are of.
    """

    slope: Interval
    steps: tuple[tuple[int, int, Interval], ...]
    seeds: int


def growth(without: Errors, pretrained: Errors) -> Growth | None:
    """The third claim, from the seeds of which there are both kinds at all depths; None of fewer than `FEW` seeds, or
    of one depth.
    """
    depths = sorted(set(without) & set(pretrained))
    seeds = sorted(set.intersection(*(set(kind[depth]) for kind in (without, pretrained) for depth in depths)))
    if len(seeds) < FEW or len(depths) < 2:
        return None
    gaps = np.array([[without[depth][seed] - pretrained[depth][seed] for depth in depths] for seed in seeds])
    centred = np.array(depths) - np.mean(depths)
    steps = zip(depths[:-1], depths[1:], np.diff(gaps, axis=1).T, strict=True)
    return Growth(
        mean_interval(gaps @ centred / np.square(centred).sum(), CONFIDENCE),
        tuple((low, high, mean_interval(step, CONFIDENCE)) for low, high, step in steps),
        len(seeds),
    )


def errors(rows: Sequence[Summary]) -> dict[str, dict[int, dict[int, float]]]:
    """Test errors of the seeds that did not diverge, by series, depth and seed, where there are two or more."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for item in rows:
        values = {line["seed"]: line["test_error"] for line in item.finite}
        if item.row.series and len(values) >= 2:
            found.setdefault(item.row.series, {})[int(item.row.level)] = values
    return {series: dict(sorted(by_depth.items())) for series, by_depth in found.items()}


def findings(rows: Sequence[Summary], baseline: str) -> list[str]:
    """The claims as Markdown: a table a way of pretraining against the series ``baseline``; [] without results."""
    found = errors(rows)
    without = found.pop(baseline, {})
    text: list[str] = []
    for series, pretrained in found.items():
        depths = sorted(set(without) & set(pretrained))
        if not depths:
            continue
        random = np.random.default_rng(0)
        text += ["", f"### {series}, against {baseline}", ""]
        text += [
            "| layers | seeds | stuck | gap of means, points | Cohen's d | rank test p | ratio of spreads | spread p |",
            "| -----: | ----: | ----: | -------------------: | --------: | ----------: | ---------------: | -------: |",
        ]
        compared = []
        for depth in depths:
            own, others = (np.array(list(kind[depth].values())) for kind in (pretrained, without))
            tests = [f"{others.mean() - own.mean():.2f}", *[""] * 4]
            if min(len(own), len(others)) >= FEW:
                item = compare(depth, others, own, random)
                ranged = _ranged(item.gap), _ranged(item.spread)
                tests = [ranged[0], f"{item.effect:.2f}", _p(item.rank_p), ranged[1], _p(item.spread_p)]
                compared.append(item)
            counts = f"{len(others)}, {len(own)} | {_stuck(others)}, {_stuck(own)}"
            text.append(f"| {depth} | {counts} | {' | '.join(tests)} |")
        if min(len(kind[depth]) for kind in (without, pretrained) for depth in depths) < FEW:
            text += ["", f"- Nothing is claimed from fewer than {FEW} seeds of a kind, and nothing of them is tested."]
        else:
            text += ["", *verdicts(compared, growth(without, pretrained))]
    if not text:
        return []
    return [
        "## The claims",
        "",
        "Gap: mean test error without pretraining less that with it (positive: pretraining is better), with Welch's "
        "interval, and its growth seed by seed, with Student's; ratio: standard deviation over seeds with pretraining "
        "over that without, with a bootstrap interval, and p of Brown & Forsythe's statistic by permutation (a spread "
        f"is lower where both say so); stuck: networks with a test error above {STUCK:.0f}%; pairs are without, with "
        "pretraining. Intervals are at 95%, p two-sided, neither corrected for how many there are.",
        *text,
    ]


def verdicts(compared: Sequence[Comparison], grown: Growth | None) -> list[str]:
    """What the intervals, and of spreads the test too, say of each claim, in words."""
    lower = [item.depth for item in compared if item.gap[1] > 0]
    higher = [item.depth for item in compared if item.gap[2] < 0]
    tested = [item for item in compared if item.spread_p < 1 - CONFIDENCE]
    tighter = [item.depth for item in tested if item.spread[2] < 1]
    wider = [item.depth for item in tested if item.spread[1] > 1]
    text = [
        f"- Lower mean: {_at(lower, compared)}{_but('higher', higher)}.",
        f"- Lower spread: {_at(tighter, compared)}{_but('higher', wider)}.",
    ]
    if grown is not None:
        slope = grown.slope
        says = "yes" if slope.low > 0 else "no, it shrinks" if slope.high < 0 else "not shown"
        back = [f"{low} to {high}" for low, high, step in grown.steps if step.high < 0]
        if back and slope.low > 0:
            says = f"on the whole, but not from {', '.join(back)} layers"
        each = "; ".join(f"{low} to {high}: {_ranged(step)}" for low, high, step in grown.steps)
        text.append(
            f"- Gap growing with depth: {says}; by {_ranged(slope)} points a layer ({grown.seeds} seeds; {each})."
        )
    return text


def _at(depths: list[int], compared: Sequence[Comparison]) -> str:
    if not depths:
        return "shown at no depth"
    return (
        "yes, at every depth" if len(depths) == len(compared) else f"shown at {', '.join(map(str, depths))} of depths"
    )


def _but(what: str, depths: list[int]) -> str:
    return f"; {what} at {', '.join(map(str, depths))}" if depths else ""


def _stuck(values: np.ndarray) -> int:
    return int((values > STUCK).sum())


def _ranged(found: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*found)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _resampled(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """``[RESAMPLES, seeds]`` drawn with replacement."""
    return values[random.integers(0, len(values), (RESAMPLES, len(values)))]


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval; ratios may be infinite, and those of two spreads of 0 are left out."""
    tail = (1 - CONFIDENCE) / 2
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf")  # no means of infinities
    return float(low), float(high)


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation over the last axis; equal values have none, whatever their mean's rounding leaves."""
    return np.where(np.ptp(values, axis=-1) == 0.0, 0.0, values.std(axis=-1, ddof=1))


def _ratio(over: Any, under: Any) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(over) / np.asarray(under)
