"""Where pairs come from: neighbours against scikit-learn, moved images and sequences against numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pretrain import Batch, data
from pretrain.data.frames import move, moved, sequence, with_frames
from pretrain.data.neighbours import neighbours, with_neighbours

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- neighbours


def expected_neighbours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's distances to the k nearest other rows ``[rows, k]``, and to all, infinite to the row itself."""
    distances, rows = NearestNeighbors(n_neighbors=len(x) - 1, algorithm="brute").fit(x).kneighbors()
    everyone = np.full((len(x), len(x)), np.inf)
    np.put_along_axis(everyone, rows, distances, axis=1)
    return distances[:, :k], everyone


@pytest.mark.parametrize(("k", "block"), [(5, 500), (40, 37)])
def test_neighbours_are_scikit_learns(k: int, block: int) -> None:
    """Of digits far from the origin, where the expanded square would lose its figures; the last block overlaps."""
    x = np.asarray(data.digits().train.x[:300], np.float64)
    found = neighbours((x + 1000.0).astype(np.float32), k, block)
    assert (found.shape, found.dtype) == ((300, k), np.int32)
    distances, everyone = expected_neighbours(x, k)
    np.testing.assert_allclose(np.take_along_axis(everyone, found, axis=1), distances, rtol=1e-3)
    assert all(len(set(row)) == k for row in found)
    assert not (found == np.arange(300)[:, None]).any()


def test_of_equal_distances_the_lower_row_is_nearer() -> None:
    """Many duplicates, and many more rows at equal distance than are asked for; distances are whole numbers."""
    x = np.random.default_rng(0).integers(0, 2, (200, 4)).astype(np.float64)
    x -= x.mean(axis=0).round()
    full = np.square(x[:, None] - x).sum(axis=2)
    np.fill_diagonal(full, np.inf)
    expected = np.argsort(full, axis=1, kind="stable")[:, :30]
    assert (np.take_along_axis(full, expected, axis=1)[:, 0] == 0).all()
    found = neighbours(x, 30)
    np.testing.assert_array_equal(np.take_along_axis(full, found, 1), np.take_along_axis(full, expected, 1))
    same = np.diff(np.take_along_axis(full, found, 1), axis=1) == 0
    assert (np.diff(found, axis=1)[same] > 0).all()


def test_every_other_row_may_be_asked_for() -> None:
    found = neighbours(np.array([[0.0], [1.0], [3.0], [7.0]], np.float32), 3)
    np.testing.assert_array_equal(found, [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]])


def test_with_neighbours_keeps_rows_and_labels() -> None:
    batch = Batch(jnp.float32([[0.0], [1.0], [3.0]]), jnp.int32([0, 1, 2]))
    paired = with_neighbours(batch, 1)
    assert paired.x is batch.x
    assert paired.y is batch.y
    np.testing.assert_array_equal(paired.pair, [[1], [0], [1]])


def test_impossible_neighbours_are_refused() -> None:
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"k=4 neighbours need at least 5 rows; got 4: choose k at most 3"):
        neighbours(x, 4)
    with pytest.raises(ValueError, match=r"k must be a whole number of at least 1; got 0"):
        neighbours(x, 0)
    with pytest.raises(ValueError, match=r"\[rows, features\], shared by all members; got shape \(1, 4, 2\)"):
        neighbours(x[None], 1)


# ---------------------------------------------------------------- frames


def image(height: int = 6, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).random((height, width), np.float32)


def test_an_image_that_does_not_move_is_itself() -> None:
    np.testing.assert_array_equal(jax.jit(move)(jnp.asarray(image(4, 7)), 0.0, 0.0, 0.0), image(4, 7))


def test_a_shift_by_whole_pixels_is_numpys() -> None:
    """Two down and one to the left, with zeros where the image came from."""
    expected = np.roll(image(5, 6), (2, -1), axis=(0, 1))
    expected[:2], expected[:, -1] = 0.0, 0.0
    np.testing.assert_array_equal(jax.jit(move)(jnp.asarray(image(5, 6)), 2.0, -1.0, 0.0), expected)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6])
def test_quarter_turns_are_numpys(quarters: int, size: int) -> None:
    turned = jax.jit(move)(jnp.asarray(image(size, size)), 0.0, 0.0, 90.0 * quarters)
    np.testing.assert_allclose(turned, np.rot90(image(size, size), quarters), atol=1e-5)


def test_a_shift_by_half_a_pixel_is_the_mean_of_two() -> None:
    padded = np.pad(image(), ((1, 0), (0, 0)))
    np.testing.assert_allclose(
        jax.jit(move)(jnp.asarray(image()), 0.5, 0.0, 0.0), (padded[1:] + padded[:-1]) / 2, rtol=1e-6
    )


def test_frames_move_at_the_stated_speed_in_all_directions() -> None:
    """The centre of mass of a spot moves by the shift; an image's slope turns by the rotation, either way."""
    n, size = 400, 15
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    spot = np.float32(np.exp(-(x**2 + y**2) / 4)).reshape(1, -1).repeat(n, 0)
    later = np.asarray(moved(spot, (size, size), jax.random.key(0), shift=1.5, rotation=0.0)).reshape(n, size, size)
    mass = later.sum(axis=(1, 2))
    centre = np.stack([(later * y).sum(axis=(1, 2)) / mass, (later * x).sum(axis=(1, 2)) / mass], axis=1)
    np.testing.assert_allclose(np.hypot(*centre.T), 1.5, rtol=0.01)
    quadrants = np.bincount((centre > 0) @ [1, 2], minlength=4)
    assert (np.abs(quadrants - n / 4) < 5 * np.sqrt(n * 3 / 16)).all()

    bar = np.float32(np.exp(-(y**2) / 2 - x**2 / 18)).reshape(1, -1).repeat(n, 0)
    later = np.asarray(moved(bar, (size, size), jax.random.key(1), shift=0.0, rotation=10.0)).reshape(n, size, size)
    xy, xx, yy = ((later * moment).sum(axis=(1, 2)) for moment in (x * y, x * x, y * y))
    angle = np.rad2deg(np.arctan2(2 * -xy, xx - yy) / 2)  # y points down
    np.testing.assert_allclose(np.abs(angle), 10.0, rtol=0.05)
    assert abs((angle > 0).sum() - n / 2) < 5 * np.sqrt(n / 4)


def test_frames_stay_in_the_unit_interval_and_are_the_batch_partners() -> None:
    batch = Batch(jnp.ones((1001, 12)), jnp.zeros(1001, jnp.int32))  # more rows than are moved at a time
    paired = with_frames(batch, (3, 4), jax.random.key(0), 0.3, 20.0)
    assert paired.pair is not None
    assert (paired.pair.shape, paired.pair.dtype) == ((1001, 12), jnp.float32)
    assert float(paired.pair.min()) >= 0.0
    assert float(paired.pair.max()) <= 1.0
    assert paired.y is batch.y
    np.testing.assert_array_equal(paired.pair, moved(batch.x, (3, 4), jax.random.key(0), 0.3, 20.0))
    assert (np.asarray(paired.pair) != moved(batch.x, (3, 4), jax.random.key(1), 0.3, 20.0)).any()


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[rows, 12\] for images of 3 x 4 pixels; got \(2, 13\)"):
        moved(np.zeros((2, 13), np.float32), (3, 4), jax.random.key(0))


def test_a_sequence_pairs_each_frame_with_the_next() -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    batch = sequence(x)
    np.testing.assert_array_equal(batch.x, x)
    assert batch.pair is not None
    assert batch.pair.dtype == jnp.int32
    np.testing.assert_array_equal(batch.pair, [[1], [2], [3], [2]])


@pytest.mark.parametrize("shape", [(1, 3), (2, 4, 3)])
def test_what_is_no_sequence_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[time, features\] with at least 2 frames; got \("):
        sequence(np.zeros(shape, np.float32))
