"""Which figures a table has: those for which its results hold something to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import contrasts, figures
from benchmarks.experiment import Experiment
from benchmarks.pictures import unpacked
from benchmarks.summary import Summary


class Illustration(NamedTuple):
    """A figure that can be drawn: its caption, the function that draws it into a file, and what it takes besides."""

    caption: str
    function: Callable[..., None]
    arguments: tuple[Any, ...]

    def draw(self, path: Path) -> None:
        """Draws it."""
        self.function(path, *self.arguments)


def draw(folder: Path, title: str, experiment: Experiment, rows: Sequence[Summary]) -> dict[str, str]:
    """Draws the figures into a folder and returns their captions by file name."""
    found = illustrations(title, experiment, rows)
    for name, illustration in found.items():
        illustration.draw(folder / name)
    return {name: illustration.caption for name, illustration in found.items()}


def illustrations(title: str, experiment: Experiment, rows: Sequence[Summary]) -> dict[str, Illustration]:
    """The figures by file name."""
    found: dict[str, Illustration] = {}
    noun = experiment.task.noun
    label = f"test {noun}, percent"
    series = {name: [item for item in rows if item.row.series == name] for name in _names(rows)}
    errors = {name: {i.row.level: _tests(i) for i in items if i.finite} for name, items in series.items()}
    errors = {name: by_level for name, by_level in errors.items() if by_level}
    if any(len(values) >= MANY for by_level in errors.values() for values in by_level.values()):
        arguments = (title, errors, experiment.level, label)
        caption = f"Histograms of test {noun}s over seeds"
        found["histograms.svg"] = Illustration(caption, figures.histograms, arguments)
        caption = f"Test {noun}s over seeds, by {experiment.level}"
        found["boxes.svg"] = Illustration(caption, figures.boxes, arguments)
    if series:
        ours = {n: {i.row.level: i.estimate("test") for i in items if i.finite} for n, items in series.items()}
        published = {n: {i.row.level: i.row.published.test for i in items} for n, items in series.items()}
        arguments = (title, ours, published, experiment.level, label)
        found["levels.svg"] = Illustration(f"Test {noun} by {experiment.level}", figures.levels, arguments)
    alone = [item for item in rows if not item.row.series]
    curves = {item.row.title: held for item in alone if (held := _held(item, "valid_curve"))}
    if experiment.panels:
        titles = {item.row.name: item.row.title for item in alone if item.row.title in curves}
        named = {asked: [titles[n] for n in names if n in titles] for asked, names in experiment.panels.items()}
        panels = {asked: {row: curves[row] for row in names} for asked, names in named.items() if names}
        caption = f"Validation {noun} by epoch, one question a panel"
        found["panels.svg"] = Illustration(caption, contrasts.panels, (title, panels, f"validation {noun}"))
    elif curves or not any(item.results for item in rows):
        caption = f"Validation {noun} by epoch of fine-tuning"
        arguments = (title, curves, f"validation {noun}")
        found["validation_curves.svg"] = Illustration(caption, figures.validation_curves, arguments)
    compared = [item for item in alone if item.row.name in experiment.weights]
    weights = {item.row.title: held[0] for item in compared if (held := _held(item, "weights"))}
    if weights:
        found["weights.svg"] = Illustration("How large the networks' weights are", contrasts.weights, (title, weights))
    for name, caption in PICTURES.items():
        packed: dict[str, Any] = {}
        for item in alone:
            held = _held(item, name) if item.row.drawn else []
            if held and held[0] not in packed.values():  # rows that share a stack share them
                packed[item.row.title] = held[0]
        if packed:
            arguments = (title, {row: unpacked(pictures) for row, pictures in packed.items()})
            found[f"{name}.svg"] = Illustration(caption, getattr(figures, name), arguments)
    codes = {item.row.title: held[0] for item in alone if (held := _held(item, "codes"))}
    if codes:
        found["codes.svg"] = Illustration("Two-dimensional codes of test images", figures.codes, (title, codes))
    matrices = {item.row.title: _held(item, "confusion") for item in alone if item.row.drawn}
    confusion = {row: np.asarray(held[0]) for row, held in matrices.items() if held}
    if confusion:
        arguments = (title, confusion, experiment.classes)
        found["confusion.svg"] = Illustration("Confusion matrices on test images", figures.confusion, arguments)
    return found


PICTURES = {
    "filters": "First-layer filters",
    "samples": "Samples",
    "reconstructions": "Test images and their reconstructions",
}
"""Pictures that results may hold, which are also the functions that draw them, and their captions."""


MANY = 10
"""Seeds of one row from which on their distribution is drawn, in place of their mean."""


def _tests(item: Summary) -> list[float]:
    return [line[f"test_{item.measure}"] for line in item.finite]


def _names(rows: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(item.row.series for item in rows if item.row.series))


def _held(item: Summary, name: str) -> list:
    """What the finite seeds hold by this name."""
    return [line[name] for line in item.finite if line.get(name)]
