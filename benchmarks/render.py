"""Results to tables and figures: pure, and it touches no device. The same results give the same bytes.

Of a row's results those of the declaration that stands last in the file are shown. The 95% interval is Student's t
over seeds; with a single seed the spread over seeds is unknown, and Wilson's binomial interval over the test rows is
given and marked instead.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.experiment import Experiment, Row
from benchmarks.figures import filters, validation_curves, write_svg
from benchmarks.results import read_results

PARTS = ("train", "valid", "test")
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean in percent with the limits of its interval; None where there is none. ``kind``: "t", "binomial" or ""."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    kind: str = ""


class Summary(NamedTuple):
    """What a table says of one row.

    Attributes:
        row: its declaration.
        results: the results shown, one a seed.
        errors: by part, `Interval` over the finite seeds.
        left_out: results of other declarations that are not shown.
    """

    row: Row
    results: list[dict[str, Any]]
    errors: dict[str, Interval]
    left_out: int

    @property
    def n(self) -> int:
        """Seeds that ended finite."""
        return sum(line["finite"] for line in self.results)

    @property
    def failed(self) -> int:
        """Seeds that diverged."""
        return len(self.results) - self.n

    @property
    def difference(self) -> float | None:
        """Our mean test error minus the published one."""
        ours, published = self.errors["test"].mean, self.row.published.test
        return None if ours is None or published is None else ours - published


def student(values: Sequence[float]) -> Interval:
    """Mean and Student's t interval of at least two values."""
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, "t")


def wilson(percent: float, rows: int) -> Interval:
    """Wilson's score interval of an error rate in percent, seen on so many rows."""
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    p = percent / 100
    centre = (p + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(p * (1 - p) / rows + z * z / (4 * rows * rows))
    return Interval(percent, 100 * max(centre - half, 0.0), 100 * (centre + half), "binomial")


def summarise(experiment: Experiment, results: Sequence[dict[str, Any]]) -> list[Summary]:
    """One `Summary` a declared row, in the declared order. The last result of a seed counts."""
    summaries = []
    for row in experiment.rows:
        mine = [line for line in results if line["row"] == row.name]
        shown = {line["seed"]: line for line in mine if line["declaration"] == mine[-1]["declaration"]}
        lines = [shown[seed] for seed in sorted(shown)]
        finite = [line for line in lines if line["finite"]]
        errors = {part: _interval([line[f"{part}_error"] for line in finite]) for part in PARTS}
        if len(finite) == 1 and finite[0].get("test_rows"):
            errors["test"] = wilson(finite[0]["test_error"], finite[0]["test_rows"])
        left_out = sum(line["declaration"] != mine[-1]["declaration"] for line in mine)
        summaries.append(Summary(row, lines, errors, left_out))
    return summaries


def _interval(values: Sequence[float]) -> Interval:
    if len(values) >= 2:
        return student(values)
    return Interval(values[0] if values else None)


def percent(value: float | None, digits: int = 2) -> str:
    """A number of the table; ``n/a`` where there is none, and 0.004 keeps its digits."""
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" if value == 0 or value >= 0.01 else f"{value:.1g}"


def _with_interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return percent(interval.mean)
    mark = "*" if interval.kind == "binomial" else ""
    return f"{percent(interval.mean)} [{interval.low:.2f}, {interval.high:.2f}]{mark}"


def _difference(summary: Summary) -> str:
    return "n/a" if summary.difference is None else f"{summary.difference:+.2f}"


HEADER = ("row", "published valid", "published test", "train", "valid", "test", "test - published", "n")


def cells(summary: Summary) -> list[str]:
    """The cells of one row, as in `HEADER`."""
    published = [percent(summary.row.published.valid), percent(summary.row.published.test)]
    if not summary.results:
        return [summary.row.title, *published, "not run", "", "", "", "0"]
    ours = [_with_interval(summary.errors[part]) for part in PARTS]
    n = f"{summary.n}" + (f" ({summary.failed} diverged)" if summary.failed else "")
    return [summary.row.title, *published, percent(summary.errors["train"].mean), *ours[1:], _difference(summary), n]


def markdown(experiment: Experiment, scale: str, summaries: Sequence[Summary]) -> str:
    """The table with everything a reader needs to judge it."""
    lines = [f"# {experiment.title}", "", f"{experiment.metric.capitalize()}; scale `{scale}`.", ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 1)]
    lines += ["| " + " | ".join(cells(summary)) + " |" for summary in summaries]
    lines += ["", *(f"- {note}" for note in notes(experiment, scale, summaries)), ""]
    lines += ["## How each row was trained", ""]
    for summary in summaries:
        if summary.results:
            lines.append(f"- **{summary.row.name}**: {recipe(summary.results[0])}")
    return "\n".join([*lines, ""])


def notes(experiment: Experiment, scale: str, summaries: Sequence[Summary]) -> list[str]:
    """Where the numbers come from and how sure they are."""
    results = [line for summary in summaries for line in summary.results]
    kinds = {interval.kind for summary in summaries for interval in summary.errors.values()}
    found = [
        f"Published: {experiment.source}.",
        f"Ours: {experiment.scales[scale].note}. Parameters and hyperparameters were chosen by validation error; each "
        "test error was computed once, for what was chosen.",
    ]
    if "t" in kinds:
        found.append("[low, high]: 95% interval of the mean over seeds (Student's t).")
    if "binomial" in kinds:
        found.append("[low, high]*: one seed; 95% binomial interval (Wilson) over the test rows, not over seeds.")
    for summary in summaries:
        if summary.left_out:
            found.append(f"{summary.row.name}: {summary.left_out} results of earlier declarations are left out.")
    if results:
        total = sum(sum(line["seconds"].values()) for line in results)
        found.append(
            f"Run by {_each(results, 'command', code=True)} on {_each(results, 'device')}; "
            f"{_each(results, 'precision')}; {total:.0f} seconds in all; commit {_each(results, 'commit')}; "
            f"{', '.join(f'{name} {version}' for name, version in results[-1]['versions'].items())}."
        )
    return [*found, *experiment.notes]


def _each(results: Sequence[dict[str, Any]], field: str, *, code: bool = False) -> str:
    values = dict.fromkeys(str(line[field]) for line in results)
    return ", ".join(f"`{value}`" if code else value for value in values)


def recipe(line: dict[str, Any]) -> str:
    """One result's hyperparameters, time and selection in a sentence."""
    plan = line["hyperparameters"]
    stages: list[str] = []
    for stage in plan["pretraining"]:
        text = _stage(stage)
        if stages and stages[-1].split(" x ", 1)[-1] == text:
            count = int(stages[-1].split(" x ", 1)[0]) if " x " in stages[-1] else 1
            stages[-1] = f"{count + 1} x {text}"
        else:
            stages.append(text)
    before = "; ".join(stages) or "no pretraining"
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in line["seconds"].items())
    chosen = line["selection"]
    how = f"; chosen from a grid at {chosen['valid_error']:.2f}% validation error" if chosen else ""
    best = "" if line["best_epoch"] is None else f"; best epoch {line['best_epoch']}"
    return f"{before}; fine-tuning: {_stage(plan['fine_tuning'])}{best}{how} (seed {line['seed']}: {seconds})."


def _stage(stage: dict[str, Any]) -> str:
    learner, optimizer = _value(stage["learner"]), _value(stage["optimizer"])
    return f"{learner}, {optimizer}, {stage['epochs']} epochs, batch {stage['batch_size']}"


def _value(value: Any) -> str:
    """A declared value as the Python that makes it."""
    if isinstance(value, dict) and "is" in value:
        fields = ", ".join(f"{name}={_value(item)}" for name, item in value.items() if name != "is")
        return f"{value['is']}({fields})"
    if isinstance(value, list):
        return "(" + ", ".join(_value(item) for item in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def comma_separated(summaries: Sequence[Summary]) -> str:
    """One line a row, at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    limits = [f"{part}_{limit}" for part in PARTS for limit in ("error", "low", "high", "interval")]
    writer.writerow(["row", *(f"published_{part}" for part in PARTS), *limits, "difference", "n", "diverged"])
    for summary in summaries:
        published = [getattr(summary.row.published, part) for part in PARTS]
        ours = [value for part in PARTS for value in summary.errors[part]]
        writer.writerow([summary.row.name, *published, *ours, summary.difference, summary.n, summary.failed])
    return out.getvalue()


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: "\\" + c for c in "&%$#_{}"
}


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def latex(experiment: Experiment, scale: str, summaries: Sequence[Summary]) -> str:
    """A booktabs tabular, to be read by ``\\input`` where booktabs is loaded."""
    lines = [f"% {experiment.title}; scale {scale}; published: {experiment.source}"]
    lines += [r"\begin{tabular}{l" + "r" * (len(HEADER) - 1) + "}", r"\toprule"]
    lines += [" & ".join(escaped(name) for name in HEADER) + r" \\", r"\midrule"]
    lines += [" & ".join(escaped(cell) for cell in cells(summary)) + r" \\" for summary in summaries]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def render(experiment: Experiment, scale: str, folder: Path) -> list[Path]:
    """Writes the tables and figures of ``folder/results.jsonl`` beside it and returns their paths."""
    summaries = summarise(experiment, read_results(folder / "results.jsonl"))
    texts = {
        "table.md": markdown(experiment, scale, summaries),
        "table.csv": comma_separated(summaries),
        "table.tex": latex(experiment, scale, summaries),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    curves = {s.row.name: [line["valid_curve"] for line in s.results if line["finite"]] for s in summaries if s.n}
    images = {s.row.name: line["filters"] for s in summaries for line in s.results if line["filters"]}
    write_svg(validation_curves(curves), folder / "validation_curves.svg")
    write_svg(filters(images), folder / "filters.svg")
    return [folder / name for name in (*texts, "validation_curves.svg", "filters.svg")]
