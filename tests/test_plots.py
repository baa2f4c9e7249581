"""The figures: what is drawn, and that it is where a reader looks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pretrain import Dense, Network, Progress, Rescaling, plots

RANDOM = np.random.default_rng(0)
SHAPE = (4, 5)


def drawn(figure: Figure) -> np.ndarray:
    """The first picture of a figure, as it is given to be drawn: NaN where nothing is."""
    return np.ma.filled(np.ma.asarray(figure.axes[0].images[0].get_array(), dtype=float), np.nan)


def shrunk(picture: np.ndarray, rows: int) -> np.ndarray:
    """A picture that was enlarged to be drawn, at one number a pixel."""
    times = picture.shape[0] // rows
    return picture[::times, ::times]


def words(figure: Figure) -> str:
    """All titles, labels and legends."""
    texts = [figure.get_suptitle()]
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in axes.texts)]
        legend = axes.get_legend()
        texts += [] if legend is None else [text.get_text() for text in legend.get_texts()]
    return " | ".join(texts)


@pytest.mark.parametrize("kind", ["layer", "network", "standardised", "weights"])
def test_filters_are_evenly_spaced_columns_each_at_its_own_scale(kind: str) -> None:
    weights = RANDOM.normal(size=(20, 10)) * np.arange(1, 11)
    layer = Dense(jnp.asarray(weights), jnp.zeros(10))
    given: Any = {
        "layer": layer,
        "network": Network((layer, Dense(jnp.zeros((10, 2)), jnp.zeros(2)))),
        "standardised": Network((Rescaling(jnp.zeros(20), jnp.ones(20)), layer)),
        "weights": weights,
    }
    figure = plots.filters(given[kind], SHAPE, n=4)
    grid = shrunk(drawn(figure), 2 * 4 + 1)
    for place, unit in enumerate((0, 3, 6, 9)):
        top, left = 5 * (place // 2), 6 * (place % 2)
        expected = weights[:, unit].reshape(SHAPE) / np.abs(weights[:, unit]).max()
        np.testing.assert_allclose(grid[top : top + 4, left : left + 5], expected, rtol=1e-5)
    assert np.isnan(grid[4]).all()
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    assert "weights into 4 of 10 units" in words(figure)


def test_samples_have_one_scale_and_say_which() -> None:
    images = RANDOM.uniform(0.2, 0.8, size=(7, 20))
    figure = plots.samples(images, SHAPE, n=2)
    grid = shrunk(drawn(figure), 4)
    np.testing.assert_allclose(grid[:, :5], images[0].reshape(SHAPE))
    np.testing.assert_allclose(grid[:, 6:], images[1].reshape(SHAPE))
    assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
    assert "2 of 7 images" in words(figure)
    assert plots.samples(3 * images - 1, SHAPE).axes[0].images[0].get_clim() == (
        (3 * images - 1).min(),
        (3 * images - 1).max(),
    )


def test_reconstructions_lie_below_their_inputs() -> None:
    x = RANDOM.uniform(size=(12, 20))
    z = x[::-1]
    figure = plots.reconstructions(x, z, SHAPE)
    first, second, _ = figure.axes
    for axes, rows in ((first, range(10)), (second, range(10, 12))):
        grid = shrunk(np.ma.filled(np.ma.asarray(axes.images[0].get_array(), dtype=float), np.nan), 9)
        for place, row in enumerate(rows):
            np.testing.assert_allclose(grid[:4, 6 * place : 6 * place + 5], x[row].reshape(SHAPE))
            np.testing.assert_allclose(grid[5:, 6 * place : 6 * place + 5], z[row].reshape(SHAPE))
    assert np.isnan(grid[:, 12:]).all()  # the last strip is filled up with nothing
    above, below = first.texts
    assert (above.get_text(), below.get_text()) == ("input", "reconstruction")
    assert above.get_position()[1] > below.get_position()[1]
    assert f"squared error {np.square(x - z).sum(axis=1).mean():.3g}" in words(figure)


def test_activations_are_histograms_in_percent() -> None:
    codes = np.zeros((8, 4))
    codes[:, 0], codes[:4, 1] = 1.0, 1.0  # means 1, 0.5, 0, 0
    units, values = plots.activations(codes).axes
    heights = [[bar.get_height() for bar in axes.patches] for axes in (units, values)]
    assert [sum(h) for h in heights] == pytest.approx([100.0, 100.0])
    assert (heights[0][0], heights[0][20], heights[0][-1]) == (50.0, 25.0, 25.0)
    assert (heights[1][0], heights[1][-1]) == (62.5, 37.5)
    assert "share of units, percent" in words(units.figure)  # type: ignore[arg-type]


def history(members: int) -> dict[str, np.ndarray]:
    falling = np.linspace(9.0, 1.0, 6)[:, None] + np.arange(members)
    names = ("reconstruction_error", "train/free_energy", "valid/free_energy", "update_ratio", "dead_units")
    return {name: falling + i for i, name in enumerate(names)}


def test_few_members_are_lines_and_many_a_band() -> None:
    few = {axes.get_title(): axes for axes in plots.learning_curves(history(3)).axes}
    assert set(few) == {"free energy", "free-energy gap", "reconstruction error", "update ratio", "dead units"}
    assert len(few["reconstruction error"].lines) == 3
    assert few["update ratio"].get_yscale() == "log"
    np.testing.assert_array_equal(few["free-energy gap"].lines[2].get_ydata(), np.ones(6))
    np.testing.assert_array_equal(few["reconstruction error"].lines[1].get_xdata(), np.arange(1, 7))
    many = {axes.get_title(): axes for axes in plots.learning_curves(Progress(6, None, None, history(8), 0.0)).axes}  # type: ignore[arg-type]
    (line,), (band,) = many["reconstruction error"].lines, many["reconstruction error"].collections
    np.testing.assert_allclose(line.get_ydata(), history(8)["reconstruction_error"].mean(axis=1))
    heights = band.get_paths()[0].vertices[:, 1]  # type: ignore[index]
    assert (heights.min(), heights.max()) == (1.0, 16.0)


def test_curves_name_their_rows_units_and_what_diverged() -> None:
    seen = history(3) | {"valid/error": np.ones((6, 3)), "test/error": np.ones((6, 3))}
    seen["reconstruction_error"][3:, 1] = np.nan
    seen["test/error"][:] = np.nan  # no row of it has a label
    figure = plots.learning_curves(seen)
    text = words(figure)
    for expected in ("validation rows", "training rows", "training minibatches", "test", "percent", "nats", "epoch"):
        assert expected in text
    assert "3 members, 1 of them diverged: a line each" in text
    panels = {axes.get_title(): axes for axes in figure.axes}
    ours = np.ma.filled(panels["reconstruction error"].lines[1].get_ydata().astype(float), np.nan)  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.isnan(ours), [False] * 3 + [True] * 3)
    colours = {to_hex(line.get_color()).upper() for line in panels["free energy"].lines}  # type: ignore[arg-type]
    assert colours == {plots.COLOURS["train/"], plots.COLOURS["valid/"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.filters(np.ones((20, 3)), (3, 5)), "20 features are no picture of shape 3 x 5 = 15"),
        (lambda: plots.filters(np.ones((2, 20, 3)), SHAPE), "take one member of the population first"),
        (lambda: plots.samples(np.full((1, 20), np.nan), SHAPE), "images holds 20 values that are NaN or infinite"),
        (lambda: plots.reconstructions(np.ones((2, 20)), np.ones((3, 20)), SHAPE), "must have one shape"),
        (lambda: plots.activations(np.ones((0, 3))), "at least one row and column"),
        (lambda: plots.learning_curves({}), "the history is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_figures_are_saved_without_a_display_and_leave_pyplot_alone(tmp_path: Path) -> None:
    """And whoever draws none waits for neither matplotlib nor scikit-learn."""
    code = (
        "import sys, pretrain\n"
        "assert not {'matplotlib', 'sklearn'} & sys.modules.keys()\n"
        "assert pretrain.plots.filters\n"
        "import test_plots as t\n"
        "t.plots.learning_curves(t.history(2)).savefig(sys.argv[1])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    target = tmp_path / "curves.png"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=Path(__file__).parent, check=True)
    assert target.read_bytes().startswith(b"\x89PNG")
