"""All results as one page: ``python -m benchmarks report``.

Pure, as `benchmarks.render` is: nothing is trained, no device is touched, and the same results give the same bytes.
The figures are those that `render` left beside the results; one that is not there is drawn for the page alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiment import Experiment, UsageError
from benchmarks.inline import outlined
from benchmarks.outcomes import BETTERED, MET, outcomes
from benchmarks.page import blocks, document, element, escape, inline, link, table
from benchmarks.render import duration
from benchmarks.results import read_results
from benchmarks.sections import Shown, experiment_section, goals, shown, speed_section

TITLE = "Greedy layer-wise pretraining: the results"
EXPLAINED = (
    "A published figure is **met** if it lies within the interval of ours, **bettered** if the whole interval is on "
    "the better side of it, **not judged** where there is none because test images are views of few objects, and "
    "**missed** otherwise; all as shown, with two decimals. Where data, sizes or protocols "
    "are not those of the publication it is no target but a landmark: the notes to each table say so, and what the "
    "intervals cover."
)


def with_results(experiments: Mapping[str, Experiment], folder: Path) -> list[tuple[str, str]]:
    """Names and scales of what has results under a folder, in the declared order.

    Raises:
        UsageError: if nothing has.
    """
    every = [(name, scale) for name, experiment in experiments.items() for scale in experiment.scales]
    there = [(name, scale) for name, scale in every if (folder / name / scale / "results.jsonl").exists()]
    if not there:
        raise UsageError(f"there are no results under {folder}: run an experiment first, or give another --out")
    return there


def report(experiments: Mapping[str, Experiment], folder: Path) -> str:
    """The page over all results under a folder.

    Raises:
        UsageError: if there are none.
        ValueError: if a line of results other than a file's last is damaged.
    """
    groups: dict[str, list[Shown]] = {}
    for name, scale in with_results(experiments, folder):
        groups.setdefault(name, []).insert(0, shown(experiments[name], scale, folder / name / scale))  # largest first
    timed, populations = (read_results(folder / "speed" / name) for name in ("results.jsonl", "scaling.jsonl"))
    body = [
        element("header", [element("h1", escape(TITLE)), element("p", inline(_lede(groups)), class_="lede")]),
        _navigation(groups, bool(timed or populations)),
        '<main id="content" tabindex="-1">',
        _overview(groups, timed, experiments),
        outlined("\n".join(map(experiment_section, groups.values()))),
        *([speed_section(timed, populations)] if timed or populations else []),
        "</main>",
    ]
    return document(TITLE, body)


def _lede(groups: Mapping[str, Sequence[Shown]]) -> str:
    items = [item for group in groups.values() for item in group]
    rows = [row for item in items for row in item.ran]
    spent = duration(sum(row.seconds for row in rows))
    return (
        f"{len(groups)} experiments, {len(rows)} rows of tables, {sum(len(row.results) for row in rows):,} trained "
        f"models and {spent} of training, beside what was published. Everything here is made from the stored results "
        "by `python -m benchmarks report`."
    )


def _navigation(groups: Mapping[str, Sequence[Shown]], timed: bool) -> str:
    names = ["overview", *groups, *(["speed"] if timed else [])]
    items = "".join(element("li", link(name, name)) for name in names)
    return element("nav", element("ul", items), aria_label="Experiments")


def _overview(
    groups: Mapping[str, Sequence[Shown]], timed: Sequence[Mapping[str, Any]], experiments: Mapping[str, Experiment]
) -> str:
    header = ["experiment", "scale", "rows run", "seeds a row", "failed seeds", "published: met or bettered", "time"]
    head = [element("tr", [element("th", escape(name), scope="col") for name in header])]
    body = [element("tbody", _lines(items)) for items in groups.values()]
    if timed:
        met, missed = goals(timed)
        names = {line["name"] for line in timed if "absent" not in line}
        title = element("th", link("speed", "Speed of an epoch"), scope="rowgroup")
        contenders = f"{len(names)} of {len({line['name'] for line in timed})}"
        values = ["", contenders, "", "", f"{len(met)} of {len(met) + len(missed)} goals", ""]
        body.append(element("tbody", element("tr", [title, *(element("td", value) for value in values)])))
    text = [
        element("h2", "Overview", id="overview-title"),
        table("All experiments, at every scale that was run", head, body),
        element("div", blocks([EXPLAINED, "", *_absent(groups, experiments)]), class_="notes"),
    ]
    return element("section", "\n".join(text), id="overview", aria_labelledby="overview-title")


def _lines(items: Sequence[Shown]) -> list[str]:
    """The overview's lines of one experiment."""
    lines = []
    for number, item in enumerate(items):
        name = element("th", link(item.experiment.name, item.experiment.title), scope="rowgroup", rowspan=len(items))
        known = list(outcomes(item.experiment, item.rows).values())
        good = known.count(MET) + known.count(BETTERED)
        values = [
            f"{len(item.ran)} of {len(item.rows)}",
            item.seeds,
            str(sum(row.failed for row in item.rows)),
            f"{good} of {len(known)}" if known else "none published",
            item.time,
        ]
        scale = element("th", link(item.anchor, item.scale), scope="row")
        cells = [scale, *(element("td", value) for value in values)]
        lines.append(element("tr", cells if number else [name, *cells]))
    return lines


def _absent(groups: Mapping[str, Sequence[Shown]], experiments: Mapping[str, Experiment]) -> list[str]:
    """Which experiments and scales have no results; the smoke scale only shows that everything runs."""
    absent = []
    for name, experiment in experiments.items():
        there = {item.scale for item in groups.get(name, ())}
        if wanting := [scale for scale in experiment.scales if scale not in there and scale != "smoke"]:
            absent.append(f"`{name}` ({', '.join(wanting)})")
    return [f"No results yet: {', '.join(absent)}."] if absent else []
