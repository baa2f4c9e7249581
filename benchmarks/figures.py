"""The figures, as SVG: the same data gives the same bytes, whatever the machine's matplotlib settings are."""

from __future__ import annotations

import contextlib
import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Told apart with any colour vision: Okabe & Ito, *Color universal design* (2008), without their yellow."""

LINES = ("-", "--", ":")
STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "figure.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a title is a dollar
    "svg.hashsalt": "pretrain",
}
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100)
LEAST = 1e-3
"""Percent; an error of 0, which a log scale has no place for, is drawn as this, below the axis."""

ABOVE = 10.0
"""The axis of errors ends at this multiple of the least one, for the first epochs would take most of it; or above
every row's last error, if that is more."""


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def validation_curves(path: Path, title: str, curves: Mapping[str, Sequence[Sequence[float | None]]]) -> None:
    """Validation error by epoch of fine-tuning: a line a row, the mean over its seeds, in the band of their range.

    Args:
        path: of the figure.
        title: above it.
        curves: errors in percent by row, seed and epoch; seeds may have stopped at different epochs, and the mean is
            then over those that reached the epoch.
    """
    with _style():
        figure = Figure(figsize=(9.0, 4.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.add_subplot()
        axes.set(xlabel="epoch of fine-tuning", ylabel="validation error, percent (log scale)")
        axes.set_yscale("log")
        looks = itertools.product(LINES, COLOURS)
        shown: list[np.ndarray] = []
        last: list[float] = []
        for (name, seeds), (line, colour) in zip(curves.items(), looks, strict=False):
            by_epoch = [[e for e in errors if e is not None] for errors in itertools.zip_longest(*seeds)]
            by_epoch = [np.maximum(errors, LEAST) for errors in by_epoch if errors]
            if not by_epoch:
                continue
            epochs = np.arange(1, len(by_epoch) + 1)
            mean, low, high = (np.array([of(errors) for errors in by_epoch]) for of in (np.mean, np.min, np.max))
            label = textwrap.fill(f"{name}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}", 30)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(epochs, mean, line, color=colour, linewidth=1.6, label=label, marker="o", markersize=2.2)
            shown += [low, high]
            last.append(high[-1])
        if shown:
            values = np.concatenate(shown)
            bottom = values[values > LEAST].min(initial=100.0)
            top = min(values.max(), max(ABOVE * bottom, 1.5 * max(last)))
            axes.set_ylim(bottom / 1.08, max(top, 1.5 * bottom))
            figure.legend(loc="outside right center", labelspacing=0.9)
        else:
            axes.set_ylim(1, 10)
            axes.text(0.5, 0.5, "no results yet", transform=axes.transAxes, ha="center")
        axes.yaxis.set_major_locator(FixedLocator(TICKS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        _save(figure, path)


def filters(path: Path, title: str, images: Mapping[str, np.ndarray]) -> None:
    """First-layer filters: a panel a row; each filter is divided by its largest absolute weight, so that grey is 0.

    Args:
        path: of the figure.
        title: above it.
        images: ``[filters, height, width]`` by row.
    """
    with _style():
        n_columns = min(3, max(len(images), 1))
        n_rows = max(math.ceil(len(images) / n_columns), 1)
        figure = Figure(figsize=(3.0 * n_columns, 3.45 * n_rows + 0.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, 30 * n_columns))
        caption = "first-layer filters, each scaled by its largest absolute weight (black below 0, grey 0, white above)"
        figure.supxlabel(textwrap.fill(caption, 36 * n_columns), fontsize=9)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        if not images:
            panels[0].text(0.5, 0.5, "no results yet", ha="center")
        for axes, (name, pictures) in zip(panels, images.items(), strict=False):
            axes.set_title(textwrap.fill(name, 34))
            grid = mosaic(pictures)
            enlarged = grid.repeat(times := math.ceil(300 / max(grid.shape)), 0).repeat(times, 1)  # viewers may smooth
            axes.imshow(enlarged, cmap="gray", vmin=-1, vmax=1, interpolation="none")
        _save(figure, path)


def mosaic(pictures: np.ndarray) -> np.ndarray:
    """Pictures ``[filters, height, width]`` in a near-square grid, each scaled to [-1, 1] about 0; NaN between them."""
    count, height, width = pictures.shape
    n_columns = math.ceil(math.sqrt(count))
    gap = max(1, width // 14)
    grid = np.full((math.ceil(count / n_columns) * (height + gap) - gap, n_columns * (width + gap) - gap), np.nan)
    for index, picture in enumerate(pictures):
        top, left = (height + gap) * (index // n_columns), (width + gap) * (index % n_columns)
        scaled = picture / max(np.abs(picture).max(), 1e-12)
        grid[top : top + height, left : left + width] = scaled
    return grid
