"""Preprocessing of images with several eyes, ``[rows, eyes, height, width]``: pure functions.

`shrunk` and `foveated` make rows of features: of NumPy arrays on the host; of JAX arrays on the device, also inside a
compiled step. `global_contrast_normalised` makes images of either; `contrast_normalised` does on the host alone. Grey
levels, which are integers, are divided by 255; floating-point images are taken as they are, so one may follow another:
``foveated(contrast_normalised(images))``.

`standardised_pairs` and `whitened` fit a map on the training rows of a data set and apply it to all three parts, on the
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from pretrain.data.splits import Splits
from pretrain.layers import Dense, Rescaling
from pretrain.moments import inverse_root, mean_of_rows, moments

RINGS = (8, 4, 2, 2)
"""Widths, from the outside in, of the rings that `foveated` pools: of a 96 x 96 image the inner 64 x 64 are kept."""

FLOOR = 1e-4
"""The least deviation that contrast is divided by: a fortieth of a grey level of 255."""


def unit(images: Any) -> Any:
    """Returns float32 images: grey levels (integers) divided by 255, anything else as it is."""
    xp = images.__array_namespace__()
    grey_levels = xp.isdtype(images.dtype, "integral")
    images = images.astype(xp.float32)
    return images / 255 if grey_levels else images


def shrunk(images: Any, factor: int = 3) -> Any:
    """Returns smaller images: the means of blocks of ``factor`` x ``factor`` pixels. A NORB pair becomes 2 x 32 x 32.

    Args:
        images: ``[rows, eyes, height, width]``.
        factor: divides height and width.

    Returns:
        ``[rows, eyes * height / factor * width / factor]`` float32, in [0, 1]: eye after eye, row by row.

    Raises:
        ValueError: if the images are not of such a size.
    """
    _, _, height, width = check_images(images)
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor must divide the images' {height} x {width} pixels; got {factor}")
    pixels = unit(images)
    total: Any = sum(pixels[:, :, down::factor, right::factor] for down in range(factor) for right in range(factor))
    return total.reshape(len(images), -1) / factor**2


def pooled_pixels(side: int, rings: Sequence[int]) -> list[NDArray[np.int64]]:
    """Returns which pixels, numbered row by row, each foveated value is the mean of.

    Args:
        side: of the image.
        rings: the rings' widths, from the outside in.

    Returns:
        For each ring ``[blocks, width^2]``, then for the centre ``[pixels, 1]``.

    Raises:
        ValueError: if such rings do not fit such an image.
    """
    inner, found = np.arange(side**2).reshape(side, side), []
    for width in rings:
        left = len(inner)
        if width < 1 or left % width or left <= 2 * width:
            raise ValueError(
                f"rings {tuple(rings)} do not fit images of side {side}: blocks {width} wide do not pave a ring around "
                f"a centre in the {left} pixels left: choose widths that divide what the rings before them leave"
            )
        n = left // width
        blocks = inner.reshape(n, width, n, width).swapaxes(1, 2).reshape(n, n, -1)
        outermost = np.ones((n, n), bool)
        outermost[1:-1, 1:-1] = False
        found.append(blocks[outermost])
        inner = inner[width:-width, width:-width]
    return [*found, inner.reshape(-1, 1)]


def foveated(images: Any, rings: Sequence[int] = RINGS) -> Any:
    """Returns images sharp in the middle and coarse at the edges, as a retina has them.

    Around a centre that is kept lie rings, one block wide, of square blocks as large as the ring is wide; each block is
    replaced by its mean. Of 96 x 96 pixels there remain 44 + 76 + 140 + 132 + 64 x 64 = 4,488 values: 8,976 a pair.

    Args:
        images: ``[rows, eyes, side, side]``.
        rings: the rings' widths, from the outside in.

    Returns:
        ``[rows, eyes * values]`` float32, in [0, 1]: eye after eye; of each the rings from the outside in, then the
        centre; of each of these row by row.

    Raises:
        ValueError: if the images are not of such a size.
    """
    _, eyes, height, width = check_images(images)
    if height != width:
        raise ValueError(f"images must be square; got {height} x {width} pixels: crop or pad them")
    xp, pixels = images.__array_namespace__(), unit(images).reshape(len(images), eyes, -1)
    pooled = [xp.take(pixels, numbers, axis=2).mean(axis=-1) for numbers in pooled_pixels(height, rings)]
    return xp.concat(pooled, axis=2).reshape(len(images), -1)


def unfoveated(x: Any, eyes: int = 2, side: int = 96, rings: Sequence[int] = RINGS) -> Any:
    """Returns the pictures of foveated rows, each value spread over its block: the inverse, but for what was averaged.

    Args:
        x: ``[rows, eyes * values]``, as `foveated` orders them: examples, samples or weights.
        eyes: images a row.
        side: of an image, in pixels.
        rings: the rings' widths, from the outside in.

    Returns:
        ``[rows, eyes, side, side]``

    Raises:
        ValueError: if the rows are not of such a size.
    """
    pooled, n_values, value = pooled_pixels(side, rings), 0, np.empty(side**2, np.int64)
    for numbers in pooled:
        value[numbers] = n_values + np.arange(len(numbers))[:, None]
        n_values += len(numbers)
    if x.ndim != 2 or x.shape[1] != eyes * n_values:
        raise ValueError(
            f"x must have shape [rows, {eyes * n_values}] for {eyes} eyes of side {side}; got {tuple(x.shape)}: give "
            "the eyes, the side and the rings by which the rows were made"
        )
    return x.reshape(len(x), eyes, n_values)[:, :, value].reshape(len(x), eyes, side, side)


def global_contrast_normalised(images: Any) -> Any:
    """Returns images of mean 0 and standard deviation 1, each by itself: how bright and how strong the light is, which
    tells nothing of the object, is gone. A flat image becomes 0 (see `FLOOR`).

    Args:
        images: ``[rows, eyes, height, width]``.

    Returns:
        ``[rows, eyes, height, width]`` float32.

    Raises:
        ValueError: if these are no images.

    Reference: Goodfellow, Bengio & Courville, *Deep learning* (2016), section 12.2.1.1.
    """
    check_images(images)
    x = unit(images)
    x = x - x.mean(axis=(2, 3), keepdims=True)
    xp = images.__array_namespace__()
    return x / xp.maximum(xp.sqrt(xp.square(x).mean(axis=(2, 3), keepdims=True)), FLOOR)


def contrast_normalised(images: Any, width: int = 9, sigma: float = 2.0) -> NDArray[np.float32]:
    """Local contrast normalisation, each eye by itself, on the host. With the mean over a Gaussian window written <.>,

    ::

        v = x - <x>        y = v / max(c, sqrt(<v^2>))        c: the mean of sqrt(<v^2>) over the image

    At the border the window is cut off, and its weights are scaled to sum to 1.

    Args:
        images: ``[rows, eyes, height, width]``.
        width: of the window, in pixels; an odd number.
        sigma: standard deviation of the window, in pixels.

    Returns:
        ``[rows, eyes, height, width]`` float32, about 0; a flat image becomes 0 (see `FLOOR`).

    Raises:
        ValueError: if these are no images or no window.

    Reference: Jarrett, Kavukcuoglu, Ranzato & LeCun, *What is the best multi-stage architecture for object
    recognition?*, ICCV 2009.
    """
    from scipy.ndimage import correlate1d  # a quarter of a second, for this function alone

    check_images(images)
    if width < 1 or width % 2 == 0 or sigma <= 0:
        raise ValueError(f"the window needs an odd width and a positive sigma; got width {width} and sigma {sigma}")
    window = np.exp(-0.5 * np.square((np.arange(width) - width // 2) / sigma))
    x = unit(np.asarray(images))

    def weighted(values: Any) -> Any:
        down = correlate1d(values, window, axis=2, mode="constant")
        return correlate1d(down, window, axis=3, mode="constant")

    weight = weighted(np.ones((1, 1, *x.shape[2:]), np.float32))
    x -= weighted(x) / weight
    deviation = np.sqrt(weighted(np.square(x)) / weight)
    typical = deviation.mean(axis=(2, 3), keepdims=True)
    return x / np.maximum(np.maximum(deviation, typical), np.float32(FLOOR))


def check_images(images: Any) -> tuple[int, int, int, int]:
    """Returns the shape of images.

    Raises:
        ValueError: if they are not ``[rows, eyes, height, width]``.
    """
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape [rows, eyes, height, width]; got {tuple(images.shape)}: reshape rows of pixels"
        )
    return images.shape


def standardised_pairs(splits: Splits, eyes: int = 2) -> tuple[Splits, Rescaling]:
    """Standardises with one mean a feature and one variance an eye, so that features keep their relative contrast.

    ::

        z_i = (x_i - mean_i) / sqrt(variance of i's eye)        the mean, over features, of their variances

    Args:
        splits: rows of ``[eyes * values]`` features, eye after eye.
        eyes: images a row.

    Returns:
        The three parts, and the map that made them, fitted on the training rows alone. It may be called on other rows;
        its inverse is ``z * deviation + mean``.

    Raises:
        ValueError: if the features do not divide among the eyes.
    """
    x = jnp.asarray(splits.train.x)
    if eyes < 1 or x.shape[-1] % eyes:
        raise ValueError(f"{x.shape[-1]} features do not divide among {eyes} eyes: give the images a row as eyes")
    mean, variance = _pair_moments(x)
    eye_variance = variance.reshape(eyes, -1).mean(axis=1)
    deviation = jnp.where(eye_variance > 0.0, jnp.sqrt(eye_variance), 1.0)
    layer = Rescaling(mean, jnp.repeat(deviation, x.shape[-1] // eyes))
    return Splits(*(batch._replace(x=_rescaled(layer, batch.x)) for batch in splits)), layer


@jax.jit
def _pair_moments(x: Array) -> tuple[Array, Array]:
    mean = mean_of_rows(x)
    return mean, jnp.square(x - mean).mean(axis=0)


@jax.jit
def _rescaled(layer: Rescaling, x: Array) -> Array:
    return layer(x)


def whitened(splits: Splits, epsilon: float = 0.01) -> tuple[Splits, Dense]:
    """Whitens without turning: the training rows' covariance becomes the identity, each feature stays itself (ZCA).

    ::

        z = (x - mean) V (L + epsilon)^-1/2 V'        covariance of the training rows = V L V'

    Costs ``rows features^2 + features^3`` operations and ``features^2`` floats: seconds for 2,048 features.

    Args:
        splits: rows of features.
        epsilon: added to the variances L, in their units: noise below it is not blown up. The default suits
            standardised features. With 0, directions without variance become 0.

    Returns:
        The three parts, and the map that made them (``weights`` are symmetric), fitted on the training rows alone.

    Raises:
        ValueError: if ``epsilon`` is negative.

    Reference: Bell & Sejnowski, *The "independent components" of natural scenes are edge filters*, Vision Research
    37:3327-3338 (1997).
    """
    if epsilon < 0:
        raise ValueError(f"epsilon is added to variances and must be at least 0; got {epsilon}")
    x = jnp.asarray(splits.train.x)
    mean, covariance = moments(lambda rows: rows, x, mean_of_rows(x))
    variances, directions = jnp.linalg.eigh(covariance)
    scale = inverse_root(jnp.maximum(variances, 0.0) + epsilon)
    weights = jnp.matmul(directions * scale, directions.T, precision="highest")
    layer = Dense(weights, -jnp.matmul(mean, weights, precision="highest"), "linear")
    return Splits(*(batch._replace(x=_turned(mean, weights, batch.x)) for batch in splits)), layer


@jax.jit
def _turned(mean: Array, weights: Array, x: Array) -> Array:
    return jnp.matmul(x - mean, weights, precision="highest")
