"""Each preprocessing of NORB against a plain computation of the same, and random shifts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrain import Batch
from pretrain.data import (
    Shifts,
    Splits,
    contrast_normalised,
    foveated,
    global_contrast_normalised,
    shrunk,
    standardised_pairs,
    unfoveated,
    whitened,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "no_surroundings")


# ---------------------------------------------------------------- preprocessing


def images(side: int = 12, rows: int = 3) -> np.ndarray:
    return np.random.RandomState(2).randint(0, 256, (rows, 2, side, side)).astype(np.uint8)


def test_shrunk_is_the_mean_of_each_block() -> None:
    x = images()
    expected = np.zeros((3, 2, 4, 4))
    for down in range(4):
        for right in range(4):
            block = x[:, :, 3 * down : 3 * down + 3, 3 * right : 3 * right + 3].astype(np.float64)
            expected[:, :, down, right] = block.mean(axis=(2, 3)) / 255
    found = shrunk(x)
    assert (found.shape, found.dtype) == ((3, 32), np.float32)
    np.testing.assert_allclose(found, expected.reshape(3, -1), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(shrunk)(jnp.asarray(x)), found, rtol=1e-6)
    np.testing.assert_allclose(shrunk(x / 255), found, rtol=1e-6)  # floating point: as it is
    assert shrunk(np.full((1, 2, 96, 96), 255, np.uint8)).shape == (1, 2048)
    with pytest.raises(ValueError, match="factor must divide the images' 12 x 12 pixels; got 5"):
        shrunk(x, 5)
    with pytest.raises(ValueError, match=r"\[rows, eyes, height, width\]; got \(3, 288\)"):
        shrunk(x.reshape(3, -1))


def plain_foveation(image: np.ndarray, rings: tuple[int, ...]) -> list[float]:
    """Block by block, over the whole image again for each ring: one whose distance to the edge is the ring's."""
    values, start, side = [], 0, len(image)
    for ring in rings:
        for down in range(start, side - start, ring):
            for right in range(start, side - start, ring):
                if start in (down, right) or side - start - ring in (down, right):
                    values.append(image[down : down + ring, right : right + ring].mean())
        start += ring
    return values + [image[down, right] for down in range(start, side - start) for right in range(start, side - start)]


@pytest.mark.parametrize(("side", "rings", "n_values"), [(12, (2, 2, 1), 20 + 12 + 12 + 4), (96, (8, 4, 2, 2), 4488)])
def test_foveated_keeps_the_centre_and_pools_rings(side: int, rings: tuple[int, ...], n_values: int) -> None:
    x = images(side, 2)
    expected = [[plain_foveation(eye / 255, rings) for eye in row] for row in x]
    found = foveated(x, rings)
    assert found.dtype == np.float32
    assert found.shape == (2, 2 * n_values)
    np.testing.assert_allclose(found, np.reshape(expected, (2, -1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(foveated, static_argnums=1)(jnp.asarray(x), rings), found, rtol=1e-6)
    pictures = unfoveated(found, 2, side, rings)
    assert pictures.shape == x.shape
    np.testing.assert_allclose(foveated(pictures, rings), found, rtol=1e-6)  # a block of its mean has that mean
    edge = sum(rings)
    np.testing.assert_array_equal(
        pictures[:, :, edge:-edge, edge:-edge], (x / np.float32(255))[:, :, edge:-edge, edge:-edge]
    )
    np.testing.assert_allclose(pictures[:, :, : rings[0], : rings[0]].std(axis=(2, 3)), 0, atol=1e-6)


def test_foveation_that_does_not_fit_is_refused() -> None:
    assert foveated(images(96, 1)).shape == (1, 8976)
    with pytest.raises(ValueError, match=r"rings \(5,\) do not fit"):
        foveated(images(), (5,))
    with pytest.raises(ValueError, match=r"rings \(6,\) do not fit"):
        foveated(images(), (6,))
    with pytest.raises(ValueError, match="must be square; got 12 x 9"):
        foveated(images()[:, :, :, :9])
    with pytest.raises(ValueError, match=r"x must have shape \[rows, 8976\]"):
        unfoveated(np.zeros((1, 4488), np.float32))


def test_brightness_and_contrast_of_an_image_do_not_tell() -> None:
    x = images(7, 3)
    found = global_contrast_normalised(x)
    assert found.dtype == np.float32
    for eye, got in zip(x.reshape(-1, 49).astype(np.float64), np.asarray(found).reshape(-1, 49), strict=True):
        np.testing.assert_allclose(got, (eye - eye.mean()) / eye.std(), atol=1e-5)
    np.testing.assert_allclose(global_contrast_normalised(0.2 + x.astype(np.float32) / 500), found, atol=1e-4)
    np.testing.assert_allclose(jax.jit(global_contrast_normalised)(jnp.asarray(x)), found, atol=1e-5)
    np.testing.assert_allclose(global_contrast_normalised(np.full((1, 2, 9, 9), 77, np.uint8)), 0, atol=1e-2)


def test_contrast_is_normalised_within_the_window() -> None:
    """Pixel by pixel, with the window's weights written out and cut at the border."""
    x, width, sigma = images(7, 2) / 255, 5, 1.5
    x[1] *= 0.01  # less contrast; the result must not tell

    def means(eye: np.ndarray) -> np.ndarray:
        place = np.arange(7)
        near = np.abs(place[:, None] - place) <= width // 2
        weights = near * np.exp(-np.square(place[:, None] - place) / (2 * sigma**2))
        window = np.einsum("id,jr->ijdr", weights, weights)
        return np.einsum("ijdr,dr->ij", window / window.sum(axis=(2, 3), keepdims=True), eye)

    found = contrast_normalised(x, width, sigma)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    for eye, got in zip(x.reshape(-1, 7, 7), found.reshape(-1, 7, 7), strict=True):
        centred = eye - means(eye)
        deviation = np.sqrt(means(np.square(centred)))
        np.testing.assert_allclose(got, centred / np.maximum(deviation, deviation.mean()), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(contrast_normalised(np.full((1, 2, 9, 9), 77, np.uint8)), 0, atol=1e-2)
    grey = images(7, 1)
    np.testing.assert_array_equal(contrast_normalised(grey), contrast_normalised(grey / np.float32(255)))
    with pytest.raises(ValueError, match="odd width and a positive sigma; got width 4"):
        contrast_normalised(x, 4)


def correlated(rows: int, features: int = 6) -> Splits:
    """Three parts with means, scales and correlations; the two eyes differ in scale."""
    random = np.random.RandomState(3)
    mixing = random.normal(size=(features, features)) * np.repeat([1.0, 5.0], features // 2)
    draw = lambda n: jnp.asarray(random.normal(size=(n, features)) @ mixing + 10 * np.arange(features), jnp.float32)  # noqa: E731
    return Splits(*(Batch(draw(n), jnp.arange(n)) for n in (rows, 20, 30)))


def test_pairs_are_standardised_by_feature_and_eye() -> None:
    splits = correlated(200)
    found, layer = standardised_pairs(splits)
    x = np.asarray(splits.train.x, np.float64)
    mean = x.mean(axis=0)
    deviation = np.sqrt([((x - mean)[:, eye] ** 2).mean() for eye in (slice(0, 3), slice(3, 6))]).repeat(3)
    assert deviation[5] > 2 * deviation[0]
    for batch, before in zip(found, splits, strict=True):
        np.testing.assert_allclose(batch.x, (before.x - mean) / deviation, atol=1e-5)
        np.testing.assert_array_equal(batch.x, jax.jit(lambda layer, x: layer(x))(layer, before.x))
        np.testing.assert_allclose(batch.x * layer.deviation + layer.mean, before.x, atol=1e-4)
        assert batch.y is before.y
    one_eye = np.sqrt(((x - mean) ** 2).mean())
    np.testing.assert_allclose(standardised_pairs(splits, eyes=1)[1].deviation, np.full(6, one_eye), rtol=1e-5)
    with pytest.raises(ValueError, match="6 features do not divide among 4 eyes"):
        standardised_pairs(splits, eyes=4)


def test_whitened_training_rows_have_the_identity_for_covariance() -> None:
    splits = correlated(400)
    found, layer = whitened(splits, epsilon=0.0)
    np.testing.assert_allclose(np.cov(np.asarray(found.train.x).T, bias=True), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(np.asarray(found.train.x).mean(axis=0), 0, atol=1e-4)
    assert np.abs(np.cov(np.asarray(found.test.x).T) - np.eye(6)).max() > 0.05  # by the training rows alone
    np.testing.assert_allclose(layer.weights, layer.weights.T, atol=1e-6)  # no turning
    x = np.asarray(splits.train.x, np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    matrix = vectors / np.sqrt(values + 0.7) @ vectors.T
    found, layer = whitened(splits, epsilon=0.7)
    for batch, before in zip(found, splits, strict=True):
        np.testing.assert_allclose(batch.x, (before.x - x.mean(axis=0)) @ matrix, atol=1e-3)
        np.testing.assert_allclose(layer(before.x), batch.x, atol=1e-3)
        assert batch.y is before.y
    flat = splits._replace(train=splits.train._replace(x=splits.train.x.at[:, 2].set(1.0)))
    assert np.isfinite(np.asarray(whitened(flat, epsilon=0.0)[0].train.x)).all()
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        whitened(splits, epsilon=-1)


# ---------------------------------------------------------------- shifts

SHAPE = (2, 5, 7)


def moved_by(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Both eyes rolled, then what came in from the other side replaced by the edge."""
    image = np.roll(image, (down, right), axis=(1, 2))
    if down > 0:
        image[:, :down] = image[:, down : down + 1]
    if down < 0:
        image[:, down:] = image[:, down - 1 : down]
    if right > 0:
        image[:, :, :right] = image[:, :, right : right + 1]
    if right < 0:
        image[:, :, right:] = image[:, :, right - 1 : right]
    return image


def test_shifts_roll_both_eyes_alike_and_repeat_the_edge() -> None:
    x = np.random.RandomState(4).permutation(600 * 70).reshape(600, *SHAPE).astype(np.float32)
    found = np.asarray(jax.jit(Shifts(SHAPE, pixels=2))(jnp.asarray(x.reshape(600, -1)), jax.random.key(0)))
    counts = np.zeros((5, 5), int)
    for before, after in zip(x, found.reshape(x.shape), strict=True):
        matching = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(moved_by(before.copy(), down, right), after)
        ]
        assert len(matching) == 1
        counts[matching[0][0] + 2, matching[0][1] + 2] += 1
    assert counts.min() > 0
    assert ((counts - 24) ** 2 / 24).sum() < 60  # chi-squared, 24 degrees of freedom: exceeded once in 17,000


def test_shifts_are_a_static_pytree_and_vmap_over_members() -> None:
    shifts = Shifts(SHAPE, pixels=2)
    assert jax.tree.leaves(shifts) == []
    assert hash(shifts) == hash(Shifts(SHAPE, pixels=2))
    x = jnp.arange(2 * 4 * 70, dtype=jnp.float32).reshape(2, 4, 70)
    keys = jax.random.split(jax.random.key(1), 2)
    together = jax.vmap(shifts)(x, keys)
    for member in range(2):
        np.testing.assert_array_equal(together[member], shifts(x[member], keys[member]))
    np.testing.assert_array_equal(Shifts(SHAPE, pixels=0)(x[0], keys[0]), x[0])
    assert shifts(x[0].astype(jnp.uint8), keys[0]).dtype == jnp.uint8


def test_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[rows, 70\] for 2 images of 5 x 7 pixels a row; got \(4, 71\)"):
        Shifts(SHAPE)(jnp.zeros((4, 71)), jax.random.key(0))
    with pytest.raises(ValueError, match="pixels must be a whole number of at least 0; got -1"):
        Shifts(SHAPE, pixels=-1)
    with pytest.raises(ValueError, match="height must be a whole number of at least 1; got 0"):
        Shifts((2, 0, 7))
