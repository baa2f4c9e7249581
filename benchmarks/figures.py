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

from benchmarks.summary import Estimate
from pretrain.plots import mosaic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Told apart with any colour vision: Okabe & Ito, *Color universal design* (2008), without their yellow."""

GREYS = 32
"""Steps from black to white in pictures: the eye sees few more, and half of a figure's bytes are saved."""

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
def style() -> Iterator[None]:
    """All figures are drawn in it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """As SVG, without what differs from run to run."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def validation_curves(
    path: Path,
    title: str,
    curves: Mapping[str, Sequence[Sequence[float | None]]],
    label: str = "validation error",
) -> None:
    """A measure by epoch of fine-tuning: a line a row, the mean over its seeds, in the band of their range.

    Args:
        path: of the figure.
        title: above it.
        curves: values by row, seed and epoch; seeds may have stopped at different epochs, and the mean is then over
            those that reached the epoch.
        label: of the measure; a validation error is in percent.
    """
    with style():
        names = {
            name: textwrap.fill(f"{name}, {len(s)} seed{'s' if len(s) > 1 else ''}", 34) for name, s in curves.items()
        }
        n_lines = sum(1.5 + text.count("\n") for text in names.values())
        figure = Figure(figsize=(9.0, max(4.6, 0.19 * n_lines + 0.6)), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.add_subplot()
        unit = ", percent" if label == "validation error" else ""
        axes.set(xlabel="epoch of fine-tuning", ylabel=f"{label}{unit} (log scale)")
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
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(epochs, mean, line, color=colour, linewidth=1.6, label=names[name], marker="o", markersize=2.2)
            shown += [low, high]
            last.append(high[-1])
        if shown:
            values = np.concatenate(shown)
            bottom = values[values > LEAST].min(initial=100.0)
            top = min(values.max(), max(ABOVE * bottom, 1.5 * max(last)))
            axes.set_ylim(bottom / 1.08, max(top, 1.5 * bottom))
            figure.legend(loc="outside right center", labelspacing=0.7)
        else:
            axes.set_ylim(1, 10)
            axes.text(0.5, 0.5, "no results yet", transform=axes.transAxes, ha="center")
        plain_ticks(axes.yaxis, TICKS)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        save(figure, path)


def levels(
    path: Path,
    title: str,
    series: Mapping[str, Mapping[float, Estimate]],
    published: Mapping[str, Mapping[float, float | None]],
    xlabel: str,
    ylabel: str,
) -> None:
    """A measure over levels: a line a series, a bar an interval; what was published stands beside it as open rings. The
    measure is on a log scale, and so are levels that span more than tenfold (numbers of labels; not of layers).

    Args:
        path: of the figure.
        title: above it.
        series: estimates by series and level.
        published: published values by series and level.
        xlabel: what the levels are.
        ylabel: what is measured.
    """
    with style():
        figure = Figure(figsize=(9.0, 5.0), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.add_subplot()
        ticks = {level for found in series.values() for level in found}
        wide = bool(ticks) and max(ticks) > 10 * min(ticks)
        axes.set(xlabel=f"{xlabel} (log scale)" if wide else xlabel, ylabel=f"{ylabel} (log scale)", yscale="log")
        axes.set_xscale("log" if wide else "linear")
        looks = itertools.product(LINES, COLOURS)
        for number, ((name, found), (line, colour)) in enumerate(zip(series.items(), looks, strict=False)):
            at = np.array(sorted(found))
            if not len(at):
                continue
            step = number - len(series) / 2  # aside, so that bars do not hide each other
            aside = at * 1.02**step if wide else at + 0.01 * step * (max(ticks) - min(ticks))
            mean, low, high = (np.array([found[level][i] for level in at], float) for i in range(3))
            bars = np.nan_to_num([mean - low, high - mean])
            axes.errorbar(aside, mean, bars, fmt=line, color=colour, label=name, marker="o", ms=3, lw=1.5, capsize=2)
            theirs = {level: value for level, value in published.get(name, {}).items() if value is not None}
            if theirs:
                label = f"{name}, published"
                axes.plot(*zip(*sorted(theirs.items()), strict=True), "o", color=colour, mfc="none", ms=8, label=label)
        means = [estimate.mean for found in series.values() for estimate in found.values() if estimate.mean]
        if means:  # an interval of few seeds may be wider than any picture
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, 0.4 * min(means)), min(high, 2.5 * max(means)))
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(FixedLocator(TICKS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        if ticks:
            figure.legend(loc="outside right center", labelspacing=0.9)
        save(figure, path)


def histograms(
    path: Path, title: str, errors: Mapping[str, Mapping[float, Sequence[float]]], level: str, label: str
) -> None:
    """Histograms of the seeds' errors on one log scale: a panel a level, a colour a series.

    Args:
        path: of the figure.
        title: above it.
        errors: of each seed, by series and level.
        level: what the levels are.
        label: what is measured.
    """
    with style():
        at = sorted({number for found in errors.values() for number in found})
        figure = Figure(figsize=(9.0, 1.5 * len(at) + 1.0), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        panels = figure.subplots(len(at), 1, sharex=True, squeeze=False).ravel()
        values = np.concatenate([np.maximum(seeds, LEAST) for found in errors.values() for seeds in found.values()])
        bins = np.geomspace(0.97 * values.min(), 1.03 * values.max(), 61)
        for axes, number in zip(panels, at, strict=True):
            for (name, found), colour in zip(errors.items(), COLOURS, strict=False):
                if number in found:
                    seeds = np.maximum(found[number], LEAST)
                    axes.hist(seeds, bins, color=colour, histtype="stepfilled", alpha=0.35, label=name)  # type: ignore[arg-type]
                    axes.hist(seeds, bins, color=colour, histtype="step", linewidth=1.2)  # type: ignore[arg-type]
            axes.set(xscale="log", ylabel="seeds")
            axes.set_title(f"{level}: {number:g}", loc="left")
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        _log_ticks(panels[-1].xaxis, values)
        panels[-1].set_xlabel(f"{label} (log scale)")
        handles, names = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[1]))
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        save(figure, path)


def boxes(
    path: Path, title: str, errors: Mapping[str, Mapping[float, Sequence[float]]], level: str, label: str
) -> None:
    """Box plots of the seeds' errors over levels on a log scale, a box a series: the quartiles, whiskers to the last
    seed within 1.5 times their distance, and every seed beyond. Arguments as for `histograms`.
    """
    with style():
        figure = Figure(figsize=(9.0, 5.0), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        axes = figure.add_subplot()
        at = sorted({number for found in errors.values() for number in found})
        width = 0.8 / max(len(errors), 1)
        shown: list[np.ndarray] = []
        for index, ((name, found), colour) in enumerate(zip(errors.items(), COLOURS, strict=False)):
            seeds = [np.maximum(found[number], LEAST) for number in at if number in found]
            aside = (index - (len(errors) - 1) / 2) * width
            where = [position + aside for position, number in enumerate(at) if number in found]
            look = {"color": colour}
            axes.boxplot(
                seeds,
                positions=where,
                widths=0.8 * width,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
                medianprops=look | {"linewidth": 2},
                whiskerprops=look,
                capprops=look,
                flierprops={"markeredgecolor": colour, "marker": "o", "markersize": 3},
            )
            axes.plot([], [], "s", color=colour, alpha=0.6, label=name)
            shown += seeds
        axes.set(xlabel=level, ylabel=f"{label} (log scale)", yscale="log")
        axes.set_xticks(range(len(at)), [f"{number:g}" for number in at])
        axes.xaxis.grid(False)
        _log_ticks(axes.yaxis, np.concatenate(shown))
        figure.legend(loc="outside lower center", ncols=len(errors))
        save(figure, path)


def _log_ticks(axis: Any, values: np.ndarray) -> None:
    """Ticks in plain numbers: those of `TICKS`, or finer ones where these would be too few."""
    low, high = values.min(), values.max()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    if len(ticks) < 3:
        step = 10 ** math.floor(math.log10(max(high - low, 1e-6))) / 2
        ticks = list(np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step)
    plain_ticks(axis, ticks)


def plain_ticks(axis: Any, ticks: Sequence[float]) -> None:
    """These ticks and no others, in plain numbers."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def filters(path: Path, title: str, images: Mapping[str, np.ndarray]) -> None:
    """First-layer filters: a panel a row; each filter is divided by its largest absolute weight, so that grey is 0.

    Args:
        path: of the figure.
        title: above it.
        images: ``[filters, height, width]`` by row.
    """
    caption = "first-layer filters, each scaled by its largest absolute weight (black below 0, grey 0, white above)"
    _panels(path, title, images, caption, -1.0)


def samples(path: Path, title: str, images: Mapping[str, np.ndarray]) -> None:
    """Samples ``[samples, height, width]`` in [0, 1] by row: a panel a row."""
    _panels(path, title, images, "each picture is the end of a Gibbs chain of its own: means of pixels", 0.0)


def reconstructions(path: Path, title: str, images: Mapping[str, np.ndarray]) -> None:
    """Images ``[images, height, width]`` in [0, 1] by row, originals and reconstructions in turn: a panel a row."""
    _panels(path, title, images, "test images, and each one's reconstruction to its right", 0.0)


def confusion(path: Path, title: str, counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Confusion matrices ``[classes, classes]`` by row, a panel a row: of each class (a line) the percentage of its
    test rows that was taken for each class; the diagonal is what was right. Classes of other data than those that
    have the names (at smoke scale) are numbered.
    """
    with style():
        n_columns = min(3, max(len(counts), 1))
        n_rows = max(math.ceil(len(counts) / n_columns), 1)
        figure = Figure(figsize=(3.3 * n_columns, 3.4 * n_rows + 0.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, 30 * n_columns))
        figure.supxlabel("taken for (percent of the line's test images)")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels[len(counts) :]:
            axes.set_axis_off()
        for axes, (name, found) in zip(panels, counts.items(), strict=False):
            shares = 100.0 * found / np.maximum(found.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
            names = classes if len(classes) == len(found) else [str(number) for number in range(len(found))]
            axes.set_title(textwrap.fill(name, 34))
            axes.set_xticks(range(len(found)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(found)), names)
            axes.grid(False)
            for (i, j), share in np.ndenumerate(shares):
                look = "white" if share > 60 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=look, fontsize=8)
        save(figure, path)


def codes(path: Path, title: str, points: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Codes of two dimensions by row, a panel a row: ``x``, ``y`` and the class ``label`` of each test image.

    A class's number stands at the median of its codes.
    """
    with style():
        figure = Figure(figsize=(5.2 * max(len(points), 1), 5.0), layout="constrained")
        figure.suptitle(textwrap.fill(title, 90))
        panels = figure.subplots(1, max(len(points), 1), squeeze=False).ravel()
        for axes, (name, found) in zip(panels, points.items(), strict=True):
            axes.set(title=textwrap.fill(name, 50), xlabel="first code unit", ylabel="second code unit")
            axes.grid(False)
            x, y, label = (np.asarray(found[field]) for field in ("x", "y", "label"))
            for digit in range(int(label.max()) + 1):
                own, look = label == digit, COLOURS[digit % len(COLOURS)]
                axes.scatter(x[own], y[own], s=10, color=look, marker="o^"[digit // len(COLOURS) % 2], linewidths=0.0)
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": look, "alpha": 0.85}
                if own.any():
                    axes.text(np.median(x[own]), np.median(y[own]), str(digit), ha="center", va="center", bbox=box)
        save(figure, path)


def _panels(path: Path, title: str, images: Mapping[str, np.ndarray], caption: str, low: float) -> None:
    """Pictures in near-square grids, a panel a row, from ``low`` (black) to 1 (white)."""
    with style():
        n_columns = min(3, max(len(images), 1))
        n_rows = max(math.ceil(len(images) / n_columns), 1)
        figure = Figure(figsize=(3.0 * n_columns, 3.45 * n_rows + 0.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, 30 * n_columns))
        figure.supxlabel(textwrap.fill(caption, 36 * n_columns), fontsize=9)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        if not images:
            panels[0].text(0.5, 0.5, "no results yet", ha="center")
        for axes, (name, pictures) in zip(panels, images.items(), strict=False):
            axes.set_title(textwrap.fill(name, 34))
            grid = mosaic(pictures) if low < 0.0 else mosaic(pictures, scale=False)
            grid = low + np.round((grid - low) * GREYS / (1.0 - low)) * (1.0 - low) / GREYS
            enlarged = grid.repeat(times := math.ceil(300 / max(grid.shape)), 0).repeat(times, 1)  # viewers may smooth
            axes.imshow(enlarged, cmap="gray", vmin=low, vmax=1, interpolation="none")
        save(figure, path)
