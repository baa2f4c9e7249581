"""What the cells of a table say, in whatever format it is written."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.summary import JACKKNIFE, PARTS, STUDENT, Estimate, Summary


def number(value: float | None) -> str:
    """Two decimals, or one digit of what would otherwise show as nothing: 1.20, 0.004."""
    if value is None:
        return ""
    return f"{value:.1g}" if 0 < abs(value) < 0.005 else f"{value:.2f}"


def cell(found: Estimate) -> str:
    """``mean ± half-width`` for an interval over seeds, ``value [low, high]`` for one of a seed's own."""
    if found.mean is None or found.low is None or found.high is None:
        return number(found.mean)
    if found.interval in (STUDENT, JACKKNIFE):
        return f"{number(found.mean)} ± {number(found.high - found.mean)}"
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def shown_parts(rows: Sequence[Summary]) -> list[str]:
    """The parts for which anything was published, and the test part."""
    return [part for part in PARTS if part == "test" or any(getattr(r.row.published, part) is not None for r in rows)]


def cells(item: Summary, parts: Sequence[str], failures: bool) -> list[str]:
    """A row but for its title: what was published of these parts, three of ours, the difference, seeds and, if asked,
    failures.

    Training errors are near 0, where no interval of these is any good, so the mean stands alone.
    """
    published = [number(getattr(item.row.published, part)) for part in parts]
    test = test_cell(item) if item.results else "not run"
    ours = [number(item.estimate("train").mean), cell(item.estimate("valid")), test]
    difference = "" if item.difference is None else f"{round(item.difference, 2) + 0.0:+.2f}"  # + 0.0: no -0.00
    difference = difference.replace("-", "\N{MINUS SIGN}")
    return [*published, *ours, difference, seeds(item), *([str(item.failed)] if failures else [])]


def seeds(item: Summary) -> str:
    """How many seeds the test cell is of."""
    n = len(item.finite)
    return str(n) if item.measured == n else f"{item.measured} of {n}"


def kinds(rows: Sequence[Summary]) -> set[str | None]:
    """The kinds of interval in the tables."""
    return {one.estimate("test").interval for item in rows for one in (item, *item.rounded.values())}


def counted(item: Summary) -> str:
    """The test cell and of how many seeds it is."""
    if not item.results:
        return "not run"
    failed = f", {item.failed} diverged" if item.failed else ""
    return f"{test_cell(item)} ({item.measured + item.failed}{failed})"


def test_cell(item: Summary) -> str:
    """The test cell of a row that ran."""
    if not item.finite:
        return "diverged"
    found = item.estimate("test")
    return "undetermined" if found.mean is None else cell(found)
