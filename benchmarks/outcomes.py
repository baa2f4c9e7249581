"""What the results say of what was published, and what went wrong, in sentences that are computed.

A published figure is *met* if it lies within the interval of ours, *bettered* if the whole interval is on the better
side of it, and otherwise *missed*. All are compared as the table shows them, with two decimals; a mean without an
interval is an interval of no width, but where test rows are views of few objects it is *not judged*: its interval is
not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.cells import cell, number
from benchmarks.experiment import Experiment
from benchmarks.summary import Summary

MET, BETTERED, MISSED, UNJUDGED = "met", "bettered", "missed", "not judged"


def outcome(item: Summary, larger_is_better: bool) -> str | None:
    """What became of a row's published test figure; None where there is none, or nothing of ours."""
    published, found = item.row.published.test, item.estimate("test")
    if published is None or found.mean is None:
        return None
    if found.low is None and not item.binomial:
        return UNJUDGED
    ends = [found.mean if end is None else end for end in (found.low, found.high)]
    low, high, published = (round(value, 2) for value in (*ends, published))
    if low <= published <= high:
        return MET
    return BETTERED if (low > published) == larger_is_better else MISSED


def outcomes(experiment: Experiment, rows: Sequence[Summary]) -> dict[str, str]:
    """The outcome by row name, where there is one."""
    found = {item.row.name: outcome(item, experiment.task.larger_is_better) for item in rows}
    return {name: says for name, says in found.items() if says is not None}


def found(experiment: Experiment, rows: Sequence[Summary]) -> list[str]:
    """What was found, as lines of Markdown: the published figures, the nearest and the furthest, the best row."""
    noun, largest = experiment.task.noun, experiment.task.larger_is_better
    known = outcomes(experiment, rows)
    text = [_counted(Counter(known.values()))] if known else ["- No row that ran has a published test figure."]
    apart = sorted(
        ((abs(item.difference), item) for item in rows if item.difference is not None), key=lambda pair: pair[0]
    )
    if len(apart) > 1:
        nearest, furthest = apart[0][1], apart[-1][1]
        text.append(
            f"- Nearest to what was published: `{nearest.row.name}` ({_signed(nearest)}); furthest from it: "
            f"`{furthest.row.name}` ({_signed(furthest)})."
        )
    extreme, better = ("highest", max) if largest else ("lowest", min)
    ran = [item for item in rows if item.estimate("test").mean is not None]

    def best(items: Sequence[Summary]) -> Summary:
        return better(items, key=lambda item: item.estimate("test").mean or 0.0)

    if levels := sorted({item.row.level for item in ran if item.row.series}):
        firsts = [best([item for item in ran if item.row.series and item.row.level == level]) for level in levels]
        by_level = "; ".join(
            f"{item.row.level:,.0f}: {cell(item.estimate('test'))}, {item.row.series}" for item in firsts
        )
        text.append(f"- The {extreme} test {noun} by {experiment.level}: {by_level}.")
    elif len(ran) > 1:
        first = best(ran)
        text.append(
            f"- The {extreme} test {noun}: {cell(first.estimate('test'))}, {first.row.title} (`{first.row.name}`)."
        )
    return text


def failed(experiment: Experiment, scale: str, rows: Sequence[Summary]) -> list[str]:
    """What failed, as lines of Markdown: rows not run, seeds that diverged or are wanting, figures missed; [] if
    nothing did.
    """
    wanted = experiment.scales[scale].seeds
    absent = [f"`{item.row.name}`" for item in rows if not item.results]
    text = [f"- Not run: {', '.join(absent)}."] if absent else []
    text += [
        f"- Diverged: {item.failed} of the {len(item.results)} seed{'s' * (len(item.results) > 1)} of "
        f"`{item.row.name}`."
        for item in rows
        if item.failed
    ]
    text += [
        f"- Diverged with products in {name}: {one.failed} of the {len(one.results)} seed"
        f"{'s' * (len(one.results) > 1)} of `{item.row.name}`."
        for item in rows
        for name, one in item.rounded.items()
        if one.failed
    ]
    text += [
        f"- Undetermined: `{item.row.name}`; its test {experiment.task.noun} could not be estimated for "
        f"{len(item.finite) - item.measured} of {len(item.finite)} seeds."
        for item in rows
        if item.measured < len(item.finite)
    ]
    few = [f"`{i.row.name}` ({len(i.results)})" for i in rows if i.results and len(i.results) < wanted]
    text += [f"- Fewer than the {wanted} seeds of this scale: {', '.join(few)}."] if few else []
    known = outcomes(experiment, rows)
    text += [
        f"- Missed: `{item.row.name}`, {cell(item.estimate('test'))} against {number(item.row.published.test)} as "
        f"published, {_signed(item)}."
        for item in rows
        if known.get(item.row.name) == MISSED
    ]
    return text


def _counted(found: Counter[str]) -> str:
    n = found.total()
    subject = "the one published test figure" if n == 1 else f"the {n} published test figures"
    unjudged = f", {found[UNJUDGED]} not judged, for their intervals are not known" if found[UNJUDGED] else ""
    return f"- Of {subject} {found[MET]} met, {found[BETTERED]} bettered, {found[MISSED]} missed{unjudged}."


def _signed(item: Summary) -> str:
    return f"{round(item.difference or 0.0, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")
