"""Figures of rows that are told apart a few at a time: their curves in panels, and how large their weights are."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.figures import COLOURS, LEAST, plain_ticks, save, style
from benchmarks.pictures import BINS, LIMIT

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
COLUMNS = 3
DASHES = ("-", "--", ":", "-.")


def panels(
    path: Path, title: str, curves: Mapping[str, Mapping[str, Sequence[Sequence[float | None]]]], label: str
) -> None:
    """A measure by epoch, a panel a contrast and a line a row in it: the mean over seeds.

    Args:
        path: of the figure.
        title: above it.
        curves: values by panel, row, seed and epoch.
        label: of the measure, which is in percent.
    """
    with style():
        n_rows = math.ceil(len(curves) / COLUMNS)
        figure = Figure(figsize=(9.6, 0.7 + 3.3 * n_rows), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.subplots(n_rows, COLUMNS, squeeze=False, sharey=True).ravel()
        for unused in axes[len(curves) :]:
            unused.set_visible(False)
        low = 100.0
        for index, (panel, (name, rows)) in enumerate(zip(axes, curves.items(), strict=False)):
            for number, (row, seeds) in enumerate(rows.items()):
                values = np.maximum(_mean(seeds), LEAST)
                low = min(low, np.nanmin(values))
                look: Any = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
                look["linewidth"] = 2.6 - 0.25 * number  # lines that lie on each other are all seen
                panel.plot(np.arange(1, len(values) + 1), values, label=textwrap.fill(row, 30), **look)
            panel.set(title=textwrap.fill(name, 38), yscale="log")
            panel.set_xlabel("epoch")
            if index % COLUMNS == 0:
                panel.set_ylabel(f"{label}, percent (log scale)")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
            panel.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), labelspacing=0.4)
        for panel in axes[: len(curves)]:
            panel.set_ylim(low / 1.1, 110)
            plain_ticks(panel.yaxis, TICKS)
        save(figure, path)


def _mean(seeds: Sequence[Sequence[float | None]]) -> np.ndarray:
    """By epoch, over the seeds that reached it."""
    table = np.full((len(seeds), max(map(len, seeds))), np.nan)
    for seed, values in zip(table, seeds, strict=True):
        seed[: len(values)] = [math.nan if value is None else value for value in values]
    there = np.isfinite(table)
    count = there.sum(axis=0)
    return np.divide(
        np.where(there, table, 0.0).sum(axis=0), count, out=np.full(table.shape[1], np.nan), where=count > 0
    )


def weights(path: Path, title: str, counts: Mapping[str, Sequence[int]]) -> None:
    """How many weights of a network have which size, a line a row.

    Args:
        path: of the figure.
        title: above it.
        counts: of each row, as `benchmarks.pictures.counted` gives them.
    """
    with style():
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.add_subplot()
        edges = np.linspace(-LIMIT, LIMIT, BINS + 1)
        looks: Any = zip(COLOURS, DASHES, strict=False)
        for (name, found), (colour, line) in zip(counts.items(), itertools.cycle(looks)):
            share = 100.0 * np.asarray(found) / sum(found)
            axes.stairs(np.maximum(share, 1e-6), edges, color=colour, linestyle=line, linewidth=1.6, label=name)
        axes.set(xlabel=f"weight (the outermost bins hold those beyond {LIMIT:g})", yscale="log")
        axes.set_ylabel("percent of all weights (log scale)")
        axes.set_ylim(1e-4, 100)
        plain_ticks(axes.yaxis, (1e-4, 1e-3, 0.01, 0.1, 1, 10, 100))
        figure.legend(loc="outside lower center", ncols=min(len(counts), 3))
        save(figure, path)
