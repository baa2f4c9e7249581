"""The precision of matrix products: float32, or their factors rounded to fewer bits, as tensor cores take them.

A tensor core rounds both factors, multiplies the rounded ones exactly and adds in float32. A CPU has nothing of the
kind. There the factors of every product, those of the gradient too, are rounded to nearest before a product in float32:
the same numbers but for how sums are ordered and rounded, and no faster. So what a precision does to a table can be
measured anywhere.

Products for which the package itself asks for the highest precision (covariances, kernels) are never rounded.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import mlir

Preset = lax.DotAlgorithmPreset

PRECISIONS = {"float32": "float32", "tf32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}
"""JAX's name of each (its own ``bfloat16`` is TF32 on NVIDIA's). Parameters, sums and samples are float32 always."""

MANTISSA_BITS = {Preset.TF32_TF32_F32: 10, Preset.BF16_BF16_F32: 7}
"""What is left of float32's 23; all eight bits of the exponent are."""


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """Every matrix product that asks for no precision of its own is compiled in one of the `PRECISIONS`.

    Raises:
        KeyError: there is no such precision.
    """
    if precision != "float32" and jax.default_backend() == "cpu":
        _teach_the_cpu()
    with jax.default_matmul_precision(PRECISIONS[precision]):
        yield


@functools.cache
def _teach_the_cpu() -> None:
    """From now on a CPU's products of float32 know the two kinds of rounding; all others are what they were."""
    product = mlir._platform_specific_lowerings["cpu"][lax.dot_general_p].rule

    def lowered(ctx: Any, lhs: Any, rhs: Any, *, precision: Any, **how: Any) -> Any:
        bits = MANTISSA_BITS.get(precision) if isinstance(precision, Preset) else None
        if bits is None:
            return product(ctx, lhs, rhs, precision=precision, **how)

        def rounded(*factors: jax.Array) -> jax.Array:
            if all(factor.dtype == jnp.float32 for factor in factors):
                factors = tuple(lax.reduce_precision(factor, exponent_bits=8, mantissa_bits=bits) for factor in factors)
            return lax.dot_general_p.bind(*factors, precision=(lax.Precision.HIGHEST,) * 2, **how)

        return mlir.lower_fun(rounded, multiple_results=False)(ctx, lhs, rhs)

    mlir.register_lowering(lax.dot_general_p, lowered, platform="cpu")
