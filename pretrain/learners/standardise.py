"""Standardisation, in closed form: every feature to mean 0 and variance 1, as Gaussian units expect.

::

    z_i = (x_i - mean_i) / standard deviation_i        a constant feature: 0
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.layers import Rescaling
from pretrain.moments import mean_of_rows
from pretrain.types import Batch, Inputs


class StandardiseParams(NamedTuple):
    """Attributes: ``mean`` [features], and ``deviation`` [features]: the standard deviation, 1 of constant features."""

    mean: Array
    deviation: Array


@struct.dataclass
class Standardise:
    """Standardisation of each feature: a `pretrain.types.Solver`."""

    needs = ()

    @property
    def inputs(self) -> Inputs:
        return "real"

    def solve(self, key: Array, data: Batch) -> StandardiseParams:
        """Means and standard deviations over all training rows; nothing is drawn."""
        mean = mean_of_rows(data.x)
        variance = jnp.square(data.x - mean).mean(axis=0)
        return StandardiseParams(mean, jnp.where(variance > 0.0, jnp.sqrt(variance), 1.0))

    def layer(self, params: StandardiseParams) -> Rescaling:
        """The map to standardised features; it stays as it is while a network is fine-tuned."""
        return Rescaling(params.mean, params.deviation)

    def decoder(self, params: StandardiseParams) -> Rescaling:
        """Its inverse."""
        return Rescaling(-params.mean / params.deviation, 1.0 / params.deviation)
