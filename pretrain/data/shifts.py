"""Shifted copies of images, made where they are used: more examples without labels, none of them stored.

With a whole number of pixels down and right drawn for every row, the pixel at p of each of its images is

::

    q = clip(p - shift)        into the image: what comes in at an edge is the pixel at that edge, repeated

Both eyes of a stereo pair move alike, so that the disparity stays what it was.

Reference: Salakhutdinov & Hinton, *Deep Boltzmann machines*, AISTATS 2009: shifted NORB images as unlabelled data.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes


@struct.dataclass
class Shifts:
    """Moves every row's images by a whole number of pixels, drawn from ``-pixels .. pixels`` in each direction.

    It draws and gathers on the device: inside a compiled step, and under a vmap, it costs one gather.

    Attributes:
        shape: (eyes, height, width) of a row.
        pixels: the farthest shift; 0 moves nothing.
    """

    shape: tuple[int, int, int] = struct.field(pytree_node=False)
    pixels: int = struct.field(pytree_node=False, default=6)

    def __post_init__(self) -> None:
        eyes, height, width = self.shape
        check_sizes(eyes=eyes, height=height, width=width)
        if not isinstance(self.pixels, int) or self.pixels < 0:
            raise ValueError(f"pixels must be a whole number of at least 0; got {self.pixels!r}")

    def __call__(self, x: Array, key: Array) -> Array:
        """Returns the rows ``[rows, eyes * height * width]``, each moved.

        Raises:
            ValueError: if ``x`` is no matrix of such rows.
        """
        eyes, height, width = self.shape
        if x.ndim != 2 or x.shape[1] != math.prod(self.shape):
            raise ValueError(
                f"x must have shape [rows, {math.prod(self.shape)}] for {eyes} images of {height} x {width} pixels a "
                f"row; got {tuple(x.shape)}: give the shape of one row as (eyes, height, width)"
            )
        down, right = jax.random.randint(key, (2, len(x), 1), -self.pixels, self.pixels + 1)
        rows = jnp.clip(jnp.arange(height) - down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) - right, 0, width - 1)
        pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(-1, 1, height * width)
        images = x.reshape(-1, eyes, height * width)
        return jnp.take_along_axis(images, pixels, axis=2, mode="promise_in_bounds").reshape(x.shape)
