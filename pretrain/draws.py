"""Uniform draws: those of `jax.random.uniform`, to the bit, in a form that XLA fuses with what uses them.

JAX runs the rounds of its default generator, Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror & Shaw, *Parallel
random numbers: as easy as 1, 2, 3*, SC 2011), as a loop on the CPU, through memory; a Gibbs step then waits for its
draws. Here the rounds are written out, element by element. A test holds the two to the same bits.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(key: Array, low: Array) -> Array:
    """32 random bits for each counter ``(0, low)``: the two output words of Threefry-2x32-20, joined by exclusive or.

    Args:
        key: the two words of the key, uint32 ``[2]``.
        low: counters, uint32, of any shape.
    """
    words = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    left, right = jnp.broadcast_to(words[0], low.shape), low + words[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            left = left + right
            right = ((right << rotation) | (right >> (32 - rotation))) ^ left
        left = left + words[(block + 1) % 3]
        right = right + words[(block + 2) % 3] + jnp.uint32(block + 1)
    return left ^ right


def unit_uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Float32 draws from U[0, 1), in steps of 2**-23.

    Args:
        key: a typed key; of another generator than Threefry, or for 2**32 draws or more, JAX's own draws are returned.
        shape: of the result.
    """
    if jax.random.key_impl(key) != "threefry2x32" or not jax.config.values["jax_threefry_partitionable"]:
        return jax.random.uniform(key, shape)
    size = math.prod(shape)
    if size >= 2**32:
        return jax.random.uniform(key, shape)
    bits = threefry(jax.random.key_data(key), jax.lax.iota(jnp.uint32, size).reshape(shape))
    mantissa = (bits >> 9) | jnp.uint32(0x3F800000)  # a float in [1, 2)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
