"""Three claims about pretraining, tested on many networks of each depth (Erhan et al., AISTATS 2009).

1. Its mean error is lower: the difference of means, with Welch's interval; Hedges' g, the difference in units of the
   pooled standard deviation, less its small-sample bias (Hedges, J. Educ. Stat. 6:107-128, 1981); and the two-sided
   p of Mann & Whitney's rank test, which stuck networks do not dominate.
2. Its spread over seeds is lower: the ratio of standard deviations with a percentile bootstrap interval, and the p of
   Brown & Forsythe (deviations from the median; J. Am. Stat. Assoc. 69:364-367, 1974). Both have to show it, for of a
   dozen seeds of one distribution the interval leaves out 1 in 8 to 13 of a hundred cases, not 5; the test in 2 to 5.
3. The gap grows with depth: the least-squares slope of the difference of means over depth, with the t interval of a
   sum of means whose variances differ (Satterthwaite, Biometrics Bull. 2:110-114, 1946): for two means, Welch's.

All intervals are at 95%, two-sided, and not corrected for how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.summary import CONFIDENCE, Summary

STUCK = 80.0
"""Percent; a network with a larger test error is called stuck: it has hardly left chance, which is 90."""

FEW = 5
"""Seeds of each kind below which nothing is claimed or tested: a bootstrap of fewer says little, and the deviations of
two from their median are always equal.
"""

RESAMPLES = 10_000

Errors = Mapping[int, np.ndarray]
"""Test errors of the seeds, in percent, by depth."""


class Comparison(NamedTuple):
    """Pretrained networks against those without, at one depth.

    Attributes:
        depth: hidden layers.
        gap: mean error without pretraining less mean error with it, in points, and its interval.
        effect: Hedges' g of the gap.
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
    n, m = len(without), len(pretrained)
    welch = stats.ttest_ind(without, pretrained, equal_var=False)
    interval = welch.confidence_interval(CONFIDENCE)
    gap = float(without.mean() - pretrained.mean())
    pooled = np.sqrt(((n - 1) * _spread(without) ** 2 + (m - 1) * _spread(pretrained) ** 2) / (n + m - 2))
    low, high = (gap, gap) if pooled == 0.0 else (interval.low, interval.high)
    spreads = _ratio(_spread(_resampled(pretrained, random)), _spread(_resampled(without, random)))
    return Comparison(
        depth,
        (gap, float(low), float(high)),
        float(_ratio(gap * (1 - 3 / (4 * (n + m) - 9)), pooled)),
        float(stats.mannwhitneyu(without, pretrained).pvalue),
        (float(_ratio(_spread(pretrained), _spread(without))), *_interval(spreads)),
        float(stats.levene(without, pretrained, center="median").pvalue),
    )


def growth(without: Errors, pretrained: Errors) -> tuple[float, float, float]:
    """The third claim: points by which the gap grows a layer, and its interval; from two depths or more, with two seeds
    of a kind or more at each. Errors without any spread leave an interval of no length.
    """
    depths = sorted(set(without) & set(pretrained))
    centred = np.array(depths) - np.mean(depths)
    weights = np.tile(centred / np.square(centred).sum(), 2)
    kinds = [kind[depth] for kind in (without, pretrained) for depth in depths]
    means, counts = np.array([values.mean() for values in kinds]), np.array([len(values) for values in kinds])
    variances = np.square(weights) * [np.square(_spread(values)) / len(values) for values in kinds]
    slope = float((weights * means) @ np.repeat([1.0, -1.0], len(depths)))
    variance = variances.sum()
    if variance == 0.0:
        return slope, slope, slope
    freedom = variance**2 / (np.square(variances) / (counts - 1)).sum()
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance))
    return slope, slope - margin, slope + margin


def errors(rows: Sequence[Summary]) -> dict[str, dict[int, np.ndarray]]:
    """Test errors of the seeds that did not diverge, by series and depth, where there are two or more."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for item in rows:
        values = np.array([line["test_error"] for line in item.finite])
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
            "| layers | seeds | stuck | gap of means, points | Hedges' g | rank test p | ratio of spreads | spread p |",
            "| -----: | ----: | ----: | -------------------: | --------: | ----------: | ---------------: | -------: |",
        ]
        compared = []
        for depth in depths:
            own, others = pretrained[depth], without[depth]
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
            text += ["", *verdicts(compared, growth(without, pretrained) if len(depths) > 1 else None)]
    if not text:
        return []
    return [
        "## The claims",
        "",
        "Gap: mean test error without pretraining less that with it (positive: pretraining is better), with Welch's "
        "interval, and its growth with Satterthwaite's; ratio: standard deviation over seeds with pretraining over "
        "that without, with a bootstrap interval, and p of Brown & Forsythe (a spread is lower where both say so); "
        f"stuck: networks with a test error above {STUCK:.0f}%; pairs are "
        "without, with pretraining. Intervals are at 95%, p two-sided, neither corrected for how many there are.",
        *text,
    ]


def verdicts(compared: Sequence[Comparison], slope: tuple[float, float, float] | None) -> list[str]:
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
    if slope is not None:
        says = "yes" if slope[1] > 0 else "no, it shrinks" if slope[2] < 0 else "not shown"
        text.append(f"- Gap growing with depth: {says}; by {_ranged(slope)} points a layer.")
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
