"""Corruptions of an input, for denoising autoencoders (Vincent, Larochelle, Bengio & Manzagol, ICML 2008; JMLR 2010).

Each is a pytree whose one number is a leaf: a population of noise levels is one vmap.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pretrain import struct
from pretrain.draws import unit_uniform


class Corruption(Protocol):
    """A random map ``[..., features] -> [..., features]``."""

    def __call__(self, x: Array, key: Array, /) -> Array: ...


def _check_rate(rate: Any) -> None:
    if isinstance(rate, list | tuple):
        raise ValueError(f"rate must be a number, or an array of one a member; got {rate!r}: numpy.array(...)")
    if isinstance(rate, int | float | np.ndarray) and not (((rates := np.asarray(rate)) >= 0.0) & (rates <= 1.0)).all():
        raise ValueError(f"a corruption rate is a probability, from 0 to 1; got {rate}")


@struct.dataclass
class NoCorruption:
    """The identity: a plain autoencoder."""

    def __call__(self, x: Array, key: Array) -> Array:
        return x


@struct.dataclass
class Masking:
    """Sets each value to 0 with probability ``rate``."""

    rate: float | Array = 0.25

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __call__(self, x: Array, key: Array) -> Array:
        return x * (unit_uniform(key, x.shape) >= self.rate)


@struct.dataclass
class SaltPepper:
    """Sets each value, with probability ``rate``, to 0 or 1 at even odds."""

    rate: float | Array = 0.25

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __call__(self, x: Array, key: Array) -> Array:
        u = unit_uniform(key, x.shape)  # below rate/2: pepper; below rate: salt
        return jnp.where(u < self.rate, (u >= self.rate / 2).astype(x.dtype), x)


@struct.dataclass
class Gaussian:
    """Adds N(0, ``std``^2) to each value; the result may leave [0, 1]."""

    std: float | Array = 0.25

    def __call__(self, x: Array, key: Array) -> Array:
        return x + self.std * jax.random.normal(key, x.shape)
