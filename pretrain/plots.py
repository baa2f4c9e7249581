"""Pictures of a trained stack, each a matplotlib `Figure` apart from pyplot: ``figure.savefig("filters.png")``.

Colours are told apart with any colour vision (Okabe & Ito, *Color universal design*, 2008); pictures are grey.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pretrain.report import SIGNS, free_energy_gap

COLOURS = {"": "#0072B2", "train/": "#009E73", "valid/": "#D55E00"}
"""Of curves, by the rows they were measured on; "" is the minibatches of the training."""

OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00", "#000000")
ROWS = {"": "training minibatches", "train/": "training rows", "valid/": "validation rows"}
UNITS = {
    "error": "percent",
    "free_energy": "nats",
    "free_energy_gap": "nats, validation minus training",
    "update_ratio": "mean |update| / mean |weight|",
    "dead_units": "share of hidden units",
    "saturated_units": "share of hidden units",
}
LINES = 5
"""At most so many members are drawn as lines of their own; more of them as their range and mean."""

STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def filters(layer: Any, shape: tuple[int, int], n: int = 64) -> Figure:
    """The weights into some units as pictures, each scaled by its largest absolute weight: grey is 0.

    Args:
        layer: a layer, a network (of which the lowest layer with weights is shown), or weights ``[features, units]``.
        shape: (height, width) of the inputs.
        n: how many units at most, evenly spaced.

    Raises:
        ValueError: if the weights are no matrix of ``height * width`` features.
    """
    layers = getattr(layer, "layers", None) or getattr(layer, "encoder", None) or (layer,)
    weights = np.asarray(next((each.weights for each in layers if hasattr(each, "weights")), layers[0]))
    columns = _spaced(_matrix(weights.T, "the units' weights").shape[0], n)
    pictures = _pictures(weights.T[columns], shape)
    with _style():
        title = f"weights into {len(columns)} of {weights.shape[1]} units"
        return _one_picture(mosaic(pictures), title, "weight / the unit's largest absolute weight", (-1.0, 1.0))


def samples(images: Any, shape: tuple[int, int], n: int = 100) -> Figure:
    """Pictures in a grid, all at one scale: black 0 to white 1, or from the least to the largest value beyond that.

    Args:
        images: ``[rows, features]``.
        shape: (height, width) of each.
        n: how many at most, the first ones.

    Raises:
        ValueError: if a row has not ``height * width`` features.
    """
    rows = _matrix(images, "images")
    pictures = _pictures(rows[:n], shape)
    with _style():
        title = f"{len(pictures)} of {len(rows)} images"
        return _one_picture(mosaic(pictures, scale=False), title, "pixel value", _grey_range(pictures))


def reconstructions(x: Any, reconstructed: Any, shape: tuple[int, int], n: int = 20) -> Figure:
    """Inputs, and below each its reconstruction, at one scale.

    Args:
        x: ``[rows, features]``.
        reconstructed: likewise.
        shape: (height, width) of each.
        n: how many at most, the first ones.

    Raises:
        ValueError: if the two differ in shape, or a row has not ``height * width`` features.
    """
    above, below = _matrix(x, "x"), _matrix(reconstructed, "reconstructed")
    if above.shape != below.shape:
        raise ValueError(f"x {above.shape} and its reconstructions {below.shape} must have one shape")
    error = np.square(above - below).sum(axis=1).mean()
    pairs = np.stack([_pictures(above[:n], shape), _pictures(below[:n], shape)])
    columns, limits = min(10, pairs.shape[1]), _grey_range(pairs)
    strips = math.ceil(pairs.shape[1] / columns)
    empty = np.full((2, strips * columns - pairs.shape[1], *shape), np.nan)
    pairs = np.concatenate([pairs, empty], axis=1).reshape(2, strips, columns, *shape)
    with _style():
        figure = Figure(
            figsize=(max(0.75 * columns + 1.7, 4.2), 1.6 * strips * shape[0] / shape[1] + 0.8), layout="constrained"
        )
        panels = figure.subplots(strips, 1, squeeze=False).ravel()
        for strip, axes in enumerate(panels):
            grid = mosaic(pairs[:, strip].reshape(-1, *shape), scale=False, n_columns=columns)
            image = _show(axes, grid, limits)
            for height, words in ((0.75, "input"), (0.25, "reconstruction")):
                axes.text(-0.01, height, words, transform=axes.transAxes, ha="right", va="center")
        figure.colorbar(image, ax=list(panels), label="pixel value", shrink=0.8)
        figure.suptitle(f"squared error {error:.3g} (over pixels; mean of {len(above)} rows)", fontsize=10)
        return figure


def activations(codes: Any) -> Figure:
    """How a layer responds: histograms of each unit's mean response, and of all responses.

    Units whose mean lies at one end respond alike to all rows; a good binary code has most responses at either end.

    Args:
        codes: ``[rows, units]``.

    Raises:
        ValueError: if it is no matrix of finite numbers.
    """
    values = _matrix(codes, "codes")
    parts = {f"mean activation of each of {values.shape[1]} units": values.mean(axis=0), "all activations": values}
    low, high = min(values.min(), 0.0), max(values.max(), 1.0)
    with _style():
        figure = Figure(figsize=(8.0, 3.2), layout="constrained")
        for axes, (title, part), what, colour in zip(
            figure.subplots(1, 2), parts.items(), ("units", "activations"), COLOURS.values(), strict=False
        ):
            weights = np.full(part.size, 100.0 / part.size)
            axes.hist(part.ravel(), bins=40, range=(low, high), weights=weights, color=colour)
            axes.axvline(part.mean(), color="#000000", linewidth=1, linestyle="--", label=f"mean {part.mean():.3g}")
            axes.set(title=title, xlabel="activation", ylabel=f"share of {what}, percent")
            axes.legend()
        return figure


def learning_curves(progress: Any) -> Figure:
    """Every measure by epoch, a panel each: one on other rows is a curve in the same panel.

    A few members are a line each; of more the mean is drawn in the band of their range. Members are left out from the
    epoch in which they diverged.

    Args:
        progress: a `pretrain.fit.Progress`, or its history: measure name to ``[epoch, members]``.

    Raises:
        ValueError: if nothing was measured.
    """
    history: Mapping[str, np.ndarray] = dict(getattr(progress, "history", progress))
    if not history:
        raise ValueError("the history is empty: nothing was trained yet, or the stage was solved in closed form")
    gap = free_energy_gap(history)
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in history.items():
        rows, _, measure = name.rpartition("/")
        panels.setdefault(measure, {})[rows + "/" if rows else ""] = np.asarray(values, dtype=float)
    if gap is not None:
        panels["free_energy_gap"] = {"valid/": gap}
    ordered = sorted(panels, key=lambda measure: (measure in SIGNS, measure))
    columns = min(3, len(ordered))
    with _style():
        strips = math.ceil(len(ordered) / columns)
        figure = Figure(figsize=(3.7 * columns + 0.4, 2.7 * strips + 0.5), layout="constrained")
        grid = figure.subplots(strips, columns, squeeze=False).ravel()
        for axes in grid[len(ordered) :]:
            axes.remove()
        for axes, measure in zip(grid, ordered, strict=False):
            _curves(axes, measure, panels[measure])
        members, diverged = _members(history)
        figure.suptitle(
            ("1 member" if members == 1 else f"{members} members")
            + (f", {diverged} of them diverged" if diverged else "")
            + ("" if members == 1 else ": a line each" if members <= LINES else ": mean and range"),
            fontsize=10,
        )
        return figure


def mosaic(pictures: np.ndarray, *, scale: bool = True, n_columns: int | None = None) -> np.ndarray:
    """Pictures in one grid, NaN between them.

    Args:
        pictures: ``[n, height, width]``.
        scale: whether each is scaled to [-1, 1] about 0 by its largest absolute value.
        n_columns: of the grid; default: near-square.
    """
    count, height, width = pictures.shape
    if scale:
        pictures = pictures / np.maximum(np.abs(pictures).max(axis=(1, 2), keepdims=True), 1e-12)
    n_columns, gap = math.ceil(math.sqrt(count)) if n_columns is None else n_columns, max(1, width // 14)
    grid = np.full((math.ceil(count / n_columns) * (height + gap) - gap, n_columns * (width + gap) - gap), np.nan)
    for index, picture in enumerate(pictures):
        top, left = (height + gap) * (index // n_columns), (width + gap) * (index % n_columns)
        grid[top : top + height, left : left + width] = picture
    return grid


def _spaced(count: int, n: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(n, count)).round().astype(int)


def _matrix(values: Any, name: str) -> np.ndarray:
    """As float64 ``[rows, features]``."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        fix = ": take one member of the population first (pretrain.member)" if array.ndim == 3 else ""
        raise ValueError(f"{name} must be a matrix with at least one row and column; got shape {array.shape}{fix}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {(~np.isfinite(array)).sum()} values that are NaN or infinite")
    return array


def _pictures(rows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    if rows.shape[1] != height * width:
        raise ValueError(f"{rows.shape[1]} features are no picture of shape {height} x {width} = {height * width}")
    return rows.reshape(-1, height, width)


def _grey_range(pictures: np.ndarray) -> tuple[float, float]:
    return min(float(pictures.min()), 0.0), max(float(pictures.max()), 1.0)


def _show(axes: Axes, grid: np.ndarray, limits: tuple[float, float]) -> Any:
    axes.set_axis_off()
    times = math.ceil(300 / max(grid.shape))  # enlarged here, for viewers may smooth
    enlarged = grid.repeat(times, 0).repeat(times, 1)
    return axes.imshow(enlarged, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="none")


def _one_picture(grid: np.ndarray, title: str, label: str, limits: tuple[float, float]) -> Figure:
    height = 4.6 * grid.shape[0] / grid.shape[1]
    figure = Figure(figsize=(5.6, max(height, 1.0) + 0.5), layout="constrained")
    axes = figure.add_subplot()
    figure.colorbar(_show(axes, grid, limits), ax=axes, label=label, shrink=0.8)
    axes.set_title(title)
    return figure


def _members(history: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """How many members there are, and how many ended with a measure that is not finite; but one that never was (an
    error where no row has a label) tells nothing, if there are others.
    """
    finite = [np.isfinite(np.asarray(values)) for values in history.values()]
    telling = [values for values in finite if values.any()] or finite
    return finite[0].shape[1], int(np.any([~values[-1] for values in telling], axis=0).sum())


def _curves(axes: Axes, measure: str, curves: Mapping[str, np.ndarray]) -> None:
    others = iter(OTHER_COLOURS * len(curves))
    for rows in sorted(curves):
        values = np.ma.masked_invalid(curves[rows])
        epochs, label = np.arange(1, len(values) + 1), ROWS.get(rows, rows.rstrip("/"))
        label = {"update_ratio": "a probe of training rows", "free_energy_gap": None}.get(measure, label)
        look: dict[str, Any] = {"color": COLOURS.get(rows) or next(others), "marker": "o", "markersize": 2.0}
        if values.shape[1] <= LINES:
            for m, member in enumerate(values.T):
                axes.plot(epochs, member, linewidth=1.1, label=None if m else label, **look)
        else:
            low, high = values.min(axis=1), values.max(axis=1)
            axes.fill_between(epochs, low, high, color=look["color"], alpha=0.2, linewidth=0)
            axes.plot(epochs, values.mean(axis=1), linewidth=1.4, label=label, **look)
    if measure == "update_ratio":
        axes.set_yscale("log")
        axes.axhline(1e-3, color="#000000", linewidth=1, linestyle="--", label="usual, about 1e-3")
    unit = UNITS.get(measure)
    words = measure.replace("_", " ").replace("free energy gap", "free-energy gap")
    axes.set(title=words, xlabel="epoch", ylabel=unit or words)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if measure in ("dead_units", "saturated_units"):
        axes.set_ylim(-0.02, 1.02)
    elif measure != "free_energy_gap":
        axes.legend(fontsize=8)
