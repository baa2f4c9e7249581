"""From ``results.jsonl`` to a table (Markdown, CSV, LaTeX) and figures (SVG).

Pure: nothing is trained, no device is touched, and the same results give the same bytes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import illustrations
from benchmarks.cells import cell, cells, counted, kinds, shown_parts
from benchmarks.experiment import Experiment
from benchmarks.formats import csv, latex
from benchmarks.results import read_results
from benchmarks.summary import BINOMIAL, FLOAT32, JACKKNIFE, SAMPLED, STUDENT, Summary, differences, summary


def render(experiment: Experiment, scale: str, folder: Path) -> list[Path]:
    """Writes the table and the figures of ``folder/results.jsonl`` beside it and returns their paths.

    Raises:
        ValueError: if a line of the results other than the last is damaged.
    """
    lines = read_results(folder / "results.jsonl")
    rows = summary(experiment, lines, experiment.scales[scale])
    if undeclared := {line["row"] for line in lines} - {row.name for row in experiment.rows}:
        print(f"{folder}: left out results of undeclared rows: {', '.join(sorted(undeclared))}", file=sys.stderr)
    rows = [item for item in rows if item.results or scale in item.row.plans]
    drawn = illustrations.draw(folder, f"{experiment.title} ({scale})", experiment, rows)
    texts = {
        "md": markdown(experiment, scale, rows, drawn),
        "csv": csv(rows),
        "tex": latex(experiment, scale, rows),
    }
    for kind, text in texts.items():
        (folder / f"table.{kind}").write_text(text, encoding="utf-8", newline="\n")
    return [*(folder / f"table.{kind}" for kind in texts), *(folder / name for name in drawn)]


def markdown(experiment: Experiment, scale: str, rows: Sequence[Summary], drawn: Mapping[str, str]) -> str:
    """The table, what its figures mean, how they were made, each row's hyperparameters, and the figures.

    Args:
        experiment: the declaration.
        scale: a name in ``experiment.scales``.
        rows: what the table says.
        drawn: captions of the figures by file name.
    """
    failures, parts = any(item.failed for item in rows), shown_parts(rows)
    first, *others = parts
    header = ["row", f"published {first}", *others, "ours train", "valid", "test", "difference", "seeds"]
    table = [[*header, "failed"] if failures else header]
    table += [
        [f"{item.row.title} (`{item.row.name}`)".replace("|", r"\|"), *cells(item, parts, failures)] for item in rows
    ]
    text = [
        f"# {experiment.title}",
        "",
        f"{experiment.metric}; scale `{scale}`: {experiment.scales[scale].note.rstrip('.')}.",
        "",
    ]
    if levels := by_level(rows):
        text += [f"Test {experiment.task.noun} by {experiment.level}:", "", *aligned(levels), ""]
    text += [*aligned(table), "", *notes(experiment, scale, rows)]
    if experiment.findings is not None and (found := experiment.findings(rows)):
        text += ["", *found]
    for compared in (by_data(experiment, scale, rows), by_precision(experiment, rows)):
        text += ["", *compared] if compared else []
    if ran := [item for item in rows if item.results]:
        text += ["", "## How the runs were made", "", *provenance(ran)]
        text += ["", "## Hyperparameters", "", *map(hyperparameters, ran)]
    if drawn:
        text += ["", "## Figures"]
    for name, caption in drawn.items():
        text += ["", f"![{caption}]({name})"]
    return "\n".join([*text, ""])


def by_level(rows: Sequence[Summary]) -> list[list[str]]:
    """The rows of series, a line a series and a column a level; [] where there are none."""
    cells_of = {(item.row.series, item.row.level): cell(item.estimate("test")) for item in rows if item.row.series}
    levels = sorted({level for _, level in cells_of})
    table = [["", *(f"{level:,.0f}" for level in levels)]]
    for series in dict.fromkeys(series for series, _ in cells_of):
        table.append([series, *(cells_of.get((series, level), "") for level in levels)])
    return table if cells_of else []


def by_precision(experiment: Experiment, rows: Sequence[Summary]) -> list[str]:
    """The rows that ran with the factors of their matrix products rounded; [] where none did."""
    ran = [item for item in rows if item.rounded]
    if not ran:
        return []
    names = list(dict.fromkeys(name for item in ran for name in item.rounded))
    table = [["row", FLOAT32, *names]]
    for item in ran:
        found = [item, *(item.rounded.get(name) for name in names)]
        table.append([f"`{item.row.name}`", *("" if one is None else counted(one) for one in found)])
    text = (
        f"Test {experiment.task.noun} with both factors of every matrix product of training, but for those that are "
        "asked for in full precision, rounded first; in brackets the seeds, and how many of them diverged. Sums, "
        "parameters and draws are float32 throughout. A CPU rounds the factors, then multiplies in float32."
    )
    made = provenance([one for item in ran for one in item.rounded.values()])
    return ["## Precision of matrix products", "", text, "", *aligned(table), "", *made]


def by_data(experiment: Experiment, scale: str, rows: Sequence[Summary]) -> list[str]:
    """Where seeds have data of their own, every row against the first, seed by seed: how hard the data are, which
    the rows' own intervals hold, cancels out; [] elsewhere.
    """
    ran = [item for item in rows if item.finite]
    if not ran or isinstance(experiment.scales[scale].data, str):
        return []
    first, *others = ran
    chosen_on = experiment.scales[scale].chosen_on
    table = [["row", "difference", "seeds", "lower", "higher", *(["other seeds"] if chosen_on else [])]]
    for item in others:
        by_seed = differences(item, first)
        if len(by_seed) >= 2:
            apart = list(by_seed.values())
            counts = len(apart), sum(each < 0 for each in apart), sum(each > 0 for each in apart)
            unseen = [value for seed, value in by_seed.items() if seed >= chosen_on]
            mean = [f"{np.mean(unseen):.2f}" if unseen else ""] if chosen_on else []
            table.append([f"`{item.row.name}`", cell(item.mean(by_seed)), *map(str, counts), *mean])
    text = (
        f"Test {experiment.task.noun} less that of `{first.row.name}` with the same seed, on the same test rows: its "
        "mean and 95% interval (as in the table above), and for how many seeds it was lower and higher."
    )
    if chosen_on:
        text += (
            f" Settings were chosen on the data of the first {chosen_on}: the last column is the mean over the others."
        )
    return ["## Differences seed by seed", "", text, "", *aligned(table)] if len(table) > 1 else []


def aligned(table: list[list[str]]) -> list[str]:
    """A Markdown table whose first line is its header, in columns; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    header, *lines = table
    ruled = [header, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *lines]
    return [
        "| " + " | ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) + " |" for first, *rest in ruled
    ]


def notes(experiment: Experiment, scale: str, rows: Sequence[Summary]) -> list[str]:
    """What stands under the table."""
    return [*sources(experiment, rows), *reading(experiment, scale, rows)]


def sources(experiment: Experiment, rows: Sequence[Summary]) -> list[str]:
    """Where the published figures are from."""
    text = [f"- Published: {experiment.source}."] if experiment.source else []
    by_source: dict[str, list[str]] = {}
    for item in rows:
        if item.row.published.source:
            by_source.setdefault(item.row.published.source.rstrip("."), []).append(f"`{item.row.name}`")
    return text + [f"- Published, {', '.join(names)}: {source}." for source, names in by_source.items()]


def reading(experiment: Experiment, scale: str, rows: Sequence[Summary]) -> list[str]:
    """How the table is to be read."""
    compared = any(item.difference is not None for item in rows)
    text = [f"- Difference: our test {experiment.task.noun} less the published one."] if compared else []
    if STUDENT in kinds(rows) and isinstance(experiment.scales[scale].data, str):
        text.append(
            "- `mean ± half-width`: the mean over seeds and its 95% interval (Student t over seeds); it covers the "
            "spread over seeds, not the choice of the test images."
        )
    elif STUDENT in kinds(rows):
        text.append(
            "- `mean ± half-width`: the mean over seeds, each with data of its own, and its 95% interval (Student t); "
            "it covers the choice of the data as far as these are independent of each other."
        )
    if JACKKNIFE in kinds(rows):
        text.append(
            "- `mean ± half-width`: the mean over seeds, each with test data of its own, and its 95% interval, of the "
            "jackknife over the objects that these are of, for they share them; it covers which objects are tested on."
        )
    views, alone = experiment.scales[scale].views, [item for item in rows if item.measured == 1]
    if views and any(item.estimate("test").low is None for item in alone):
        text.append(
            f"- An error without an interval is of one seed. Its test images are {views}, so that a binomial "
            "interval would be far too narrow; what other objects would give is not known, nor the spread over seeds."
        )
    if BINOMIAL in kinds(rows):
        images = {line["test_rows"] for item in rows for line in item.finite if line.get("test_rows")}
        counts = " or ".join(f"{count:,}" for count in sorted(images))
        text.append(
            f"- `error [low, high]`: one seed and the 95% interval of its error on {counts} test images "
            "(binomial, Wilson); the spread over seeds is unknown."
        )
    if SAMPLED in kinds(rows):
        text.append(
            "- `value [low, high]`: one seed; low and high are three standard errors of its estimate apart from it (of "
            "annealed importance sampling); the spread over seeds is unknown."
        )
    if any(item.failed for item in rows):
        text.append("- Failed: seeds that diverged (their numbers were no longer finite); no mean counts them.")
    text += [
        f"- `{item.row.name}`: left out of the file's results: {item.left_out} of earlier declarations."
        for item in rows
        if item.left_out
    ]
    return text + [f"- {note}" for note in experiment.notes]


def provenance(ran: Sequence[Summary]) -> list[str]:
    """Command, device, precision, versions, commit, memory and time of all results shown."""
    lines = [line for item in ran for line in item.results]
    libraries = dict.fromkeys(name for line in lines for name in line["versions"])
    versions = [f"{name} {distinct(line['versions'].get(name) for line in lines)}" for name in libraries]
    times = [f"`{item.row.name}` {duration(item.seconds)}" for item in ran]
    commits = distinct(line["commit"] for line in lines)
    return [
        *(f"- Command: `{command}`" for command in dict.fromkeys(line["command"] for line in lines)),
        f"- Device: {distinct(line['device'] for line in lines)}; precision: "
        f"{distinct(line['precision'] for line in lines)}; peak memory: "
        f"{max(line['peak_memory_mb'] for line in lines):.0f} MiB.",
        f"- Versions: {', '.join(versions)}.",
        f"- Commit: {commits}{' (+: with uncommitted changes)' if '+' in commits else ''}.",
        f"- Training time, all seeds: {', '.join(times)}; together {duration(sum(item.seconds for item in ran))}.",
    ]


def distinct(values: Iterable[Any]) -> str:
    """The different values, in the order they come."""
    return " and ".join(dict.fromkeys("unknown" if value is None else str(value) for value in values))


def duration(seconds: float) -> str:
    """As s, min or h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def hyperparameters(item: Summary) -> str:
    """One row's plan in one line, with how long it ran and what the grid chose."""
    line = item.results[-1]
    facts = [f"hidden units {compact(line['n_hidden'])}"] if line["n_hidden"] else []
    facts += [f"{name.replace('_', '-')} `{compact(value)}`" for name, value in fields(line["hyperparameters"])]
    if any(line["epochs"]):
        facts.append(f"epochs run {compact(line['epochs'])}")
    if best := sorted({line["best_epoch"] for line in item.finite if line.get("best_epoch") is not None}):
        facts.append(f"best epoch {best[0]}" + (f" to {best[-1]}" if len(best) > 1 else ""))
    values = (line["selection"] or {}).get("values") or line.get("chosen")
    if values and line.get(f"valid_{item.measure}") is not None:
        chosen = ", ".join(f"{path} = {value}" for path, value in values.items())
        facts.append(f"chosen on validation error: `{chosen}`")
    return f"- `{item.row.name}`: {'; '.join(facts)}."


def fields(declared: dict[str, Any]) -> list[tuple[str, Any]]:
    """The fields that hold something."""
    return [(name, value) for name, value in declared.items() if name != "is" and value not in (None, [], {})]


def compact(value: Any) -> str:
    """What `benchmarks.experiment.declared` gave, much as it is written in Python."""
    if isinstance(value, dict) and "is" in value:
        return f"{value['is']}({', '.join(f'{name}={compact(item)}' for name, item in fields(value))})"
    if isinstance(value, list):
        runs = [(len(list(same)), compact(item)) for item, same in itertools.groupby(value)]
        return ", ".join(f"{count} x {text}" if count > 1 else text for count, text in runs)
    return str(value)
