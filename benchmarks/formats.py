"""The table as CSV, at full precision, and as LaTeX."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Sequence

from benchmarks.cells import cells, kinds, shown_parts
from benchmarks.experiment import Experiment
from benchmarks.summary import BINOMIAL, JACKKNIFE, PARTS, SAMPLED, STUDENT, Summary


def csv(rows: Sequence[Summary]) -> str:
    """One line a row at full precision; empty where there is no value."""
    ends = ("", "_low", "_high", "_interval")
    file = io.StringIO()
    table = csv_format.writer(file, lineterminator="\n")
    header = ["row", "title", *(f"published_{part}" for part in PARTS), *(part + end for part in PARTS for end in ends)]
    table.writerow([*header, "difference", "seeds", "failed", "seconds", "declaration"])
    for item in rows:
        published = [getattr(item.row.published, part) for part in PARTS]
        ours = [value for part in PARTS for value in item.estimate(part)]
        end = [item.difference, item.measured, item.failed, item.seconds]
        declaration = item.results[0]["declaration"] if item.results else None
        table.writerow([item.row.name, item.row.title, *published, *ours, *end, declaration])
    return file.getvalue()


LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"\N{MINUS SIGN}": "$-$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}"}
)


def escape(text: str) -> str:
    """Text as LaTeX shows it literally."""
    return " ".join(text.split()).translate(LATEX)


def latex(experiment: Experiment, scale: str, rows: Sequence[Summary]) -> str:
    r"""A booktabs tabular, to be ``\input`` where ``\usepackage{booktabs}`` is in the preamble."""
    failures, parts = any(item.failed for item in rows), shown_parts(rows)
    columns = ["", *parts, *PARTS, "diff.", "seeds", *(["failed"] if failures else [])]
    ends = 1 + len(parts), 2 + len(parts), 4 + len(parts)
    marks = {
        STUDENT: "±: 95%, Student t over seeds",
        JACKKNIFE: "±: 95%, jackknife over objects",
        BINOMIAL: "[low, high]: 95%, binomial, of one seed",
        SAMPLED: "[low, high]: 3 standard errors of one seed's estimate",
    }
    legend = escape("; ".join(text for kind, text in marks.items() if kind in kinds(rows)))
    comments = [experiment.title, f"{experiment.metric}; scale {scale}", f"Published: {experiment.source}"]
    lines = [
        *(f"% {' '.join(text.split())}" for text in comments),
        r"% The preamble needs \usepackage{booktabs}.",
        r"{\footnotesize\setlength{\tabcolsep}{3pt}%",
        rf"\begin{{tabular}}{{@{{}}p{{0.21\textwidth}}{'r' * (len(columns) - 1)}@{{}}}}",
        r"\toprule",
        rf" & \multicolumn{{{len(parts)}}}{{c}}{{published}} & \multicolumn{{3}}{{c}}{{ours}} \\",
        rf"\cmidrule(lr){{2-{ends[0]}}} \cmidrule(lr){{{ends[1]}-{ends[2]}}}",
        rf"{' & '.join(columns)} \\",
        r"\midrule",
        *(
            rf"\raggedright {' & '.join(map(escape, [item.row.title, *cells(item, parts, failures)]))} \\"
            for item in rows
        ),
        r"\bottomrule",
        *([rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{{legend}}} \\"] if legend else []),
        r"\end{tabular}}",
    ]
    return "\n".join(lines) + "\n"
