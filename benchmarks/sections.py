"""Sections of the report: an experiment at every scale that has results, and the speed of an epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import scaling, speed
from benchmarks.cells import cells, shown_parts
from benchmarks.experiment import Experiment
from benchmarks.illustrations import illustrations
from benchmarks.inline import inlined
from benchmarks.outcomes import failed, found, outcomes
from benchmarks.page import blocks, details, element, escape, figure, inline, link, table
from benchmarks.render import (
    by_data,
    by_level,
    by_precision,
    distinct,
    duration,
    hyperparameters,
    provenance,
    reading,
    sources,
)
from benchmarks.results import read_results
from benchmarks.summary import PARTS, Summary, summary

AS_DRAWN = ("confusion.svg",)
"""Figures with text upon pictures: they keep their own colours, on a light card."""


class Shown(NamedTuple):
    """An experiment at one scale that has results.

    Attributes:
        experiment: its declaration.
        scale: the scale's name.
        folder: of its results and figures.
        rows: those of this scale, and any other that has results.
    """

    experiment: Experiment
    scale: str
    folder: Path
    rows: list[Summary]

    @property
    def anchor(self) -> str:
        """The id of its section."""
        return f"{self.experiment.name}-{self.scale}"

    @property
    def ran(self) -> list[Summary]:
        """The rows that have results."""
        return [item for item in self.rows if item.results]

    @property
    def seeds(self) -> str:
        """How many a row has."""
        counts = sorted({len(item.results) for item in self.ran})
        return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))

    @property
    def time(self) -> str:
        """Training time of all rows and seeds."""
        return duration(sum(item.seconds for item in self.ran))


def shown(experiment: Experiment, scale: str, folder: Path) -> Shown:
    """What the results of a folder say."""
    rows = summary(experiment, read_results(folder / "results.jsonl"), experiment.scales[scale])
    return Shown(experiment, scale, folder, [item for item in rows if item.results or scale in item.row.plans])


def experiment_section(scales: Sequence[Shown]) -> str:
    """One experiment, at every scale that is given."""
    experiment = scales[0].experiment
    return section(
        experiment.name,
        experiment.title,
        [
            element("p", escape(experiment.question), class_="question") if experiment.question else "",
            element("p", f"Published in: {escape(experiment.source)}.", class_="source") if experiment.source else "",
            *map(_scale, scales),
        ],
    )


def section(anchor: str, title: str, content: Iterable[str]) -> str:
    """A section of the page with a way back to its top."""
    head = element("h2", escape(title), id=f"{anchor}-title")
    back = element("p", link("overview", "Back to the overview"), class_="back")
    return element("section", "\n".join([head, *content, back]), id=anchor, aria_labelledby=f"{anchor}-title")


def _scale(item: Shown) -> str:
    experiment, rows = item.experiment, item.rows
    here = f"; {experiment.name}, scale {item.scale}"
    text = [
        element("h3", f"Scale {element('code', escape(item.scale))}", id=item.anchor),
        element("p", inline(f"{capital(experiment.scales[item.scale].note.rstrip('.'))}.")),
    ]
    levels = by_level(rows)
    if levels:
        header, *lines = levels
        caption = f"Test {experiment.task.noun} by {experiment.level}; {experiment.name}, scale {item.scale}"
        text.append(plain_table(caption, [experiment.level, *header[1:]], lines))
        text.append(details(f"All {len(rows)} rows, beside what was published", results_table(item)))
    else:
        text.append(results_table(item))
    text.append(element("div", blocks(reading(experiment, item.scale, rows)), class_="notes"))
    if where := sources(experiment, rows)[bool(experiment.source) :]:  # the first stands above
        text.append(details("Where the published figures are from", blocks(where)))
    text += [element("h4", "What was found"), blocks(found(experiment, rows))]
    if experiment.findings is not None:
        text.append(blocks(experiment.findings(rows), level=3, where=here))
    text.append(blocks(by_data(experiment, item.scale, rows), level=2, where=here))
    text.append(blocks(by_precision(experiment, rows), level=2, where=here))
    text += [element("h4", "What failed"), blocks(failed(experiment, item.scale, rows) or [NOTHING])]
    if drawings := list(_figures(item)):
        text += [element("h4", "Figures"), *drawings]
    return "\n".join([*text, element("h4", "How it was run"), _how(item)])


NOTHING = "Nothing: every row ran with all of its seeds, none diverged, and no published figure was missed."


def results_table(item: Shown) -> str:
    """Every row: what was published, ours with its interval, and how they compare."""
    rows, parts = item.rows, shown_parts(item.rows)
    failures = any(row.failed for row in rows)
    known = outcomes(item.experiment, rows)
    tall = ["difference", *(["published figure"] if known else []), "seeds", *(["failed"] if failures else [])]
    head = [
        element("th", "row", scope="col", rowspan=2),
        element("th", "published", scope="colgroup", colspan=len(parts)),
        element("th", "ours", scope="colgroup", colspan=len(PARTS)),
        *(element("th", name, scope="col", rowspan=2) for name in tall),
    ]
    body = []
    for row in rows:
        values = [element("td", escape(value)) for value in cells(row, parts, failures)]
        if known:
            says = known.get(row.row.name, "")
            values.insert(len(parts) + len(PARTS) + 1, element("td", says, class_=f"outcome {says}".strip()))
        name = f"{escape(row.row.title)} {element('code', escape(row.row.name))}"
        body.append(element("tr", [element("th", name, scope="row"), *values]))
    second = [element("th", part, scope="col") for part in (*parts, *PARTS)]
    caption = f"{capital(item.experiment.metric)}; {item.experiment.name}, scale {item.scale}"
    return table(caption, [element("tr", head), element("tr", second)], body)


def capital(text: str) -> str:
    """The text, its first letter a capital."""
    return text[:1].upper() + text[1:]


def plain_table(caption: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of one header line, whose first column names its lines."""
    body = [
        element("tr", [element("th", escape(first), scope="row"), *(element("td", escape(cell)) for cell in rest)])
        for first, *rest in lines
    ]
    return table(caption, [element("tr", [element("th", escape(name), scope="col") for name in header])], body)


def _figures(item: Shown) -> Iterable[str]:
    title = f"{item.experiment.title} ({item.scale})"
    for number, (name, drawing) in enumerate(illustrations(title, item.experiment, item.rows).items(), start=1):
        path = item.folder / name
        if path.exists():
            text = path.read_text(encoding="utf-8")
        else:
            with tempfile.TemporaryDirectory() as folder:
                drawing.draw(Path(folder) / name)
                text = (Path(folder) / name).read_text(encoding="utf-8")
        caption = f"{drawing.caption}: {item.experiment.name}, scale {item.scale}"
        svg = inlined(text, f"{item.anchor}-{number}", caption)
        yield figure(svg, caption, "as-drawn" if name in AS_DRAWN else None)


def _how(item: Shown) -> str:
    lines = [line for row in item.ran for line in row.results]
    if not lines:
        return element("p", "It was not.")
    commands = "".join(element("code", escape(command)) for command in dict.fromkeys(line["command"] for line in lines))
    facts = {
        "Command": commands,
        "Scale": escape(item.scale),
        "Seeds a row": escape(item.seeds),
        "Device": escape(distinct(line["device"] for line in lines)),
        "Precision": escape(distinct(line["precision"] for line in lines)),
        "Training time": escape(f"{item.time}, all rows and seeds"),
        "Commit": escape(distinct(line["commit"] for line in lines)),
    }
    listed = "".join(element("div", element("dt", name) + element("dd", value)) for name, value in facts.items())
    return "\n".join(
        [
            element("dl", listed),
            details("Provenance: versions, memory, and the time of each row", blocks(provenance(item.ran))),
            details("Hyperparameters of each row", blocks(map(hyperparameters, item.ran))),
        ]
    )


def speed_section(timed: Sequence[Mapping[str, Any]], populations: Sequence[Mapping[str, Any]]) -> str:
    """One epoch beside other libraries, and populations beside the machine's ceilings; lines as they are stored."""
    text = [element("p", escape(SPEED), class_="question")]
    if timed:
        measured = speed.stored(timed)
        text.append(element("p", escape(speed.PROTOCOL)))
        for each in measured:
            header, *lines = speed.rows_of(each.results, each.setting)
            heading = speed.heading(each.setting)
            text += [element("h3", escape(heading)), element("p", escape(speed.about(each)))]
            text.append(plain_table(f"Seconds an epoch, {heading}", header, lines))
        met, missed = goals(timed)
        text += [element("h3", "What was found, and what failed"), blocks(_goals(met, missed))]
        text.append(blocks([*speed.circumstances(measured), "", *_absent(measured)]))
        text.append(details("What each contender does", blocks(speed.contenders_of(measured))))
    if populations:
        text += [element("h3", "Populations"), element("p", escape(scaling.PROTOCOL))]
        for table in scaling.stored(populations):
            header, *lines = scaling.rows_of(table)
            text.append(element("p", escape(" ".join([scaling.about(table), *scaling.verdicts(table)]))))
            text.append(plain_table(f"What members side by side cost, {scaling.heading(table)}", header, lines))
    made = [*(line["machine"] for line in timed), *populations]
    commands = dict.fromkeys(line.get("command") or "python -m benchmarks speed" for line in made)
    facts = {"Command": "".join(element("code", escape(command)) for command in commands)}
    facts["Commit"] = escape(distinct(line.get("commit") for line in made))
    listed = "".join(element("div", element("dt", name) + element("dd", value)) for name, value in facts.items())
    text += [element("h3", "How it was run"), element("dl", listed)]
    return section("speed", "Speed of an epoch", text)


SPEED = (
    "How long does an epoch take beside the matrix products it cannot do without and beside other libraries, and what "
    "do members of a population cost side by side?"
)


def goals(timed: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Contenders beside which the goal was met, and those beside which it was missed, with what was measured."""
    met, missed = [], []
    for measured in speed.stored(timed):
        _, *lines = speed.rows_of(measured.results, measured.setting)
        for name, *_, goal in lines:
            if ": met" in goal or ": missed" in goal:
                (met if ": met" in goal else missed).append(f"{name}, {goal}")
    return met, missed


def _goals(met: Sequence[str], missed: Sequence[str]) -> list[str]:
    if not met and not missed:
        return ["- No goal was set for what was timed."]
    text = [f"- Of {len(met) + len(missed)} goals {len(met)} met, {len(missed)} missed."]
    return text + [f"- Missed: {what}." for what in missed]


def _absent(measured: Sequence[speed.Measured]) -> list[str]:
    everything = [result for each in measured for result in each.results]
    timed = {result.name for result in everything if not result.absent}
    absent = {result.name: result.absent for result in everything if result.name not in timed}
    return [f"- Not run: {name}; {why}." for name, why in absent.items()]
