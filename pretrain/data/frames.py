"""Frame pairs: an image and the same image a moment later, or the consecutive frames of a sequence.

Where there is no film, a small rigid motion of each image stands for the next frame. The frame at pixel p (its offset
from the image's centre) is the image at

::

    q = R(-angle) (p - shift)

by bilinear interpolation, with zeros outside the image.

References: Mobahi, Collobert & Weston, ICML 2009 (films of turning objects); Bergstra & Bengio, NIPS 2009 (moving
digits).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain.checks import check_examples, check_sizes
from pretrain.types import Batch

BLOCK = 1_000
"""Images that are moved at a time."""


def move(image: Array, down: Array | float, right: Array | float, degrees: Array | float) -> Array:
    """One image ``[height, width]`` turned counter-clockwise about its centre, then shifted, in pixels."""
    height, width = image.shape
    middle = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height)[:, None] - middle[0] - down
    x = jnp.arange(width)[None, :] - middle[1] - right
    cosine, sine = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    where = [cosine * y + sine * x + middle[0], cosine * x - sine * y + middle[1]]
    moved = jax.scipy.ndimage.map_coordinates(image, where, order=1, mode="constant", cval=0.0)
    return jnp.clip(moved, jnp.minimum(image.min(), 0.0), jnp.maximum(image.max(), 0.0))  # but for rounding, it is


def moved(x: Any, shape: tuple[int, int], key: Array, shift: float = 1.0, rotation: float = 5.0) -> Array:
    """Returns each image a frame later, ``[rows, height * width]`` float32: in [0, 1] where ``x`` is.

    Every image moves at the stated speeds, each in its own direction: a uniform one for the shift; clockwise or
    counter-clockwise, at even odds, for the rotation.

    Args:
        x: ``[rows, height * width]`` images.
        shape: (height, width).
        key: of the random directions.
        shift: in pixels a frame.
        rotation: in degrees a frame, about the centre of the image.

    Raises:
        ValueError: if ``x`` is no matrix of such images.
    """
    check_examples(x, "x")
    check_sizes(height=shape[0], width=shape[1])
    if x.ndim != 2 or x.shape[1] != shape[0] * shape[1]:
        raise ValueError(
            f"x must have shape [rows, {shape[0] * shape[1]}] for images of {shape[0]} x {shape[1]} pixels; got "
            f"{tuple(x.shape)}: give the shape of one image"
        )
    return _moved(jnp.asarray(x, jnp.float32), key, shift, rotation, shape=(int(shape[0]), int(shape[1])))


@functools.partial(jax.jit, static_argnames=("shape",))
def _moved(x: Array, key: Array, shift: Array, rotation: Array, *, shape: tuple[int, int]) -> Array:
    towards, turn = jax.random.split(key)
    direction = jax.random.uniform(towards, x.shape[:1], maxval=2 * jnp.pi)
    sense = jax.random.rademacher(turn, x.shape[:1], jnp.float32)
    motions = shift * jnp.sin(direction), shift * jnp.cos(direction), rotation * sense
    frames = jax.lax.map(lambda each: move(*each), (x.reshape(-1, *shape), *motions), batch_size=BLOCK)
    return frames.reshape(x.shape)


def with_frames(batch: Batch, shape: tuple[int, int], key: Array, shift: float = 1.0, rotation: float = 5.0) -> Batch:
    """The batch with each image's next frame as ``pair``: ``[rows, features]``, see `moved`."""
    return batch._replace(pair=moved(batch.x, shape, key, shift, rotation))


def sequence(x: Any) -> Batch:
    """Returns a sequence of frames ``[time, features]`` as a batch whose ``pair`` is the next frame's row number,
    ``[time, 1]``. The last frame has no next: it is paired with the one before it.

    Raises:
        ValueError: if ``x`` is no matrix, or has fewer than two frames.
    """
    check_examples(x, "a sequence")
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(
            f"a sequence must have shape [time, features] with at least 2 frames; got {tuple(x.shape)}: give one "
            "sequence, one frame a row"
        )
    time = x.shape[0]
    return Batch(jnp.asarray(x, jnp.float32), pair=jnp.arange(1, time + 1).at[-1].set(time - 2)[:, None])
