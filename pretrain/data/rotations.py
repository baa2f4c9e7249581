"""Rotated copies of images, made where they are used: more training rows, none of them stored."""

from __future__ import annotations

import jax
import numpy as np
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.data.frames import move


@struct.dataclass
class Rotations:
    """Turns every row's image about its centre by an angle drawn from ``-degrees .. degrees``, by bilinear
    interpolation, zeros coming in from outside. It runs on the device: inside a compiled step, and under a vmap.

    Attributes:
        shape: (height, width) of a row.
        degrees: the largest angle, for all members of a population.
    """

    shape: tuple[int, int] = struct.field(pytree_node=False)
    degrees: float | Array = 15.0

    def __post_init__(self) -> None:
        check_sizes(height=self.shape[0], width=self.shape[1])
        if (shape := np.shape(self.degrees)) != ():
            raise ValueError(f"degrees is one angle for all members; got an array of shape {shape}: run once for each")

    def __call__(self, x: Array, key: Array) -> Array:
        """Returns the rows ``[rows, height * width]``, each turned.

        Raises:
            ValueError: if ``x`` is no matrix of such rows.
        """
        height, width = self.shape
        if x.ndim != 2 or x.shape[1] != height * width:
            raise ValueError(
                f"x must have shape [rows, {height * width}] for images of {height} x {width} pixels; got "
                f"{tuple(x.shape)}: give the shape of one row as (height, width)"
            )
        angles = jax.random.uniform(key, x.shape[:1], minval=-1.0, maxval=1.0) * self.degrees
        turned = jax.vmap(lambda image, angle: move(image, 0.0, 0.0, angle))(x.reshape(-1, height, width), angles)
        return turned.reshape(x.shape)
