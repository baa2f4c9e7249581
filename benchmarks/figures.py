"""The figures, in one style: colour-blind-safe, labelled, the same bytes for the same data."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")

_STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "pretrain"}


def write_svg(figure: Figure, path: Path) -> None:
    """Writes a figure without a date."""
    with matplotlib.rc_context(_STYLE):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "pretrain"}, bbox_inches="tight")


def validation_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Validation error by epoch of fine-tuning.

    Args:
        curves: row name to one curve a seed, in percent. Drawn as the mean, with the seeds' range as a band.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 4.2))
        axes = figure.subplots()
        for i, (name, seeds) in enumerate(curves.items()):
            length = min(len(curve) for curve in seeds)
            values = np.maximum(np.array([curve[:length] for curve in seeds]), 1e-2)
            epochs = np.arange(1, length + 1)
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
            axes.plot(epochs, values.mean(axis=0), label=f"{name} ({values.mean(axis=0).min():.2f})", **style)
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0)
        axes.set_yscale("log")
        if curves:
            lowest = min(min(curve) for seeds in curves.values() for curve in seeds)
            last = max(curve[-1] for seeds in curves.values() for curve in seeds)
            bottom, top = max(lowest * 0.9, 1e-2), max(4.0 * lowest, 1.5 * last)
            axes.set_ylim(bottom, top)
            ticks = [
                t for t in (0.5, 0.7, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20, 30, 50, 90) if bottom <= t <= top
            ]
            axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            axes.legend(title="row (lowest)", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set_xlabel("epoch of fine-tuning")
        axes.set_ylabel("validation error, %")
        axes.grid(axis="y", alpha=0.25, lw=0.5)
    return figure


def unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    """Filters as `benchmarks.runner.pack_filters` stored them: ``[filters, height, width]``."""
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8).reshape(packed["shape"])
    low, high = packed["limits"]
    return low + (high - low) * levels.astype(np.float32) / 255


def filters(images: Mapping[str, Mapping[str, Any]], n_columns: int = 12) -> Figure:
    """First-layer filters, a panel a row; every filter on its own symmetric scale about 0 (blue below, red above)."""
    with matplotlib.rc_context(_STYLE):
        names = list(images)
        across = min(2, max(1, len(names)))
        down = -(-len(names) // across) or 1
        figure = Figure(figsize=(4.6 * across, 1.75 * down))
        panels = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            axes.imshow(
                mosaic(unpacked(images[name]), n_columns), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
            )
            axes.set_title(name, loc="left", fontsize=10)
        figure.tight_layout()
    return figure


def mosaic(images: np.ndarray, n_columns: int) -> np.ndarray:
    """Images ``[n, height, width]`` side by side, each divided by its largest absolute value, with gaps of 0."""
    n, height, width = images.shape
    n_rows = -(-n // n_columns)
    canvas = np.zeros((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1), np.float32)
    for index, image in enumerate(images):
        top, left = (index // n_columns) * (height + 1), (index % n_columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image / max(float(np.abs(image).max()), 1e-12)
    return canvas
