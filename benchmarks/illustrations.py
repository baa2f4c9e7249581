"""Which figures a table has: those for which its results hold something to draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import contrasts, figures
from benchmarks.experiment import Experiment
from benchmarks.pictures import unpacked
from benchmarks.summary import Summary


def draw(folder: Path, title: str, experiment: Experiment, rows: Sequence[Summary]) -> dict[str, str]:
    """Draws the figures into a folder and returns their captions by file name."""
    drawn = {}
    noun = experiment.task.noun
    series = {name: [item for item in rows if item.row.series == name] for name in _names(rows)}
    errors = {name: {i.row.level: _tests(i) for i in items if i.finite} for name, items in series.items()}
    if any(len(values) >= MANY for by_level in errors.values() for values in by_level.values()):
        figures.histograms(folder / "histograms.svg", title, errors, experiment.level, f"test {noun}, percent")
        figures.boxes(folder / "boxes.svg", title, errors, experiment.level, f"test {noun}, percent")
        drawn["histograms.svg"] = f"Histograms of test {noun}s over seeds"
        drawn["boxes.svg"] = f"Test {noun}s over seeds, by {experiment.level}"
    if series:
        ours = {n: {i.row.level: i.estimate("test") for i in items if i.finite} for n, items in series.items()}
        published = {n: {i.row.level: i.row.published.test for i in items} for n, items in series.items()}
        figures.levels(folder / "levels.svg", title, ours, published, experiment.level, f"test {noun}, percent")
        drawn["levels.svg"] = f"Test {noun} by {experiment.level}"
    alone = [item for item in rows if not item.row.series]
    curves = {item.row.title: found for item in alone if (found := _held(item, "valid_curve"))}
    if experiment.panels:
        titles = {item.row.name: item.row.title for item in alone if item.row.title in curves}
        panels = {
            asked: {titles[name]: curves[titles[name]] for name in names if name in titles}
            for asked, names in experiment.panels.items()
        }
        panels = {asked: found for asked, found in panels.items() if found}
        contrasts.panels(folder / "panels.svg", title, panels, f"validation {noun}")
        drawn["panels.svg"] = f"Validation {noun} by epoch, one question a panel"
    elif curves or not any(item.results for item in rows):
        figures.validation_curves(folder / "validation_curves.svg", title, curves, f"validation {noun}")
        drawn["validation_curves.svg"] = f"Validation {noun} by epoch of fine-tuning"
    compared = [item for item in alone if item.row.name in experiment.weights]
    weights = {item.row.title: found[0] for item in compared if (found := _held(item, "weights"))}
    if weights:
        contrasts.weights(folder / "weights.svg", title, weights)
        drawn["weights.svg"] = "How large the networks' weights are"
    for name, caption in PICTURES.items():
        pictures = {item.row.title: unpacked(found[0]) for item in alone if (found := _held(item, name))}
        if pictures:
            getattr(figures, name)(folder / f"{name}.svg", title, pictures)
            drawn[f"{name}.svg"] = caption
    codes = {item.row.title: found[0] for item in alone if (found := _held(item, "codes"))}
    if codes:
        figures.codes(folder / "codes.svg", title, codes)
        drawn["codes.svg"] = "Two-dimensional codes of test images"
    confusion = {item.row.title: np.asarray(found[0]) for item in alone if (found := _held(item, "confusion"))}
    if confusion:
        figures.confusion(folder / "confusion.svg", title, confusion, experiment.classes)
        drawn["confusion.svg"] = "Confusion matrices on test images"
    return drawn


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
