"""Penalties on the code of an autoencoder: what keeps it sparse, or insensitive to its input.

::

    KL sparsity  weight * sum_j [t log(t / m_j) + (1 - t) log((1 - t) / (1 - m_j))]    m_j: mean of h_j over the batch
    L1           weight * sum_j |h_j|
    contractive  weight * |dh/dx|_F^2 = weight * sum_j s_j^2 sum_i W_ij^2    s_j: slope of the activation of unit j

The last two are means over the rows of the batch. References: Ng, *Sparse autoencoder*, CS294A lecture notes (2011);
Rifai, Vincent, Muller, Glorot & Bengio, *Contractive auto-encoders*, ICML 2011. Each is a pytree whose numbers are
leaves: a population of weights is one vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.layers import Dense

SMALLEST_MEAN = 1e-6
"""Mean activations are kept so far from 0 and 1, where the divergence is infinite."""

SLOPES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda code: code * (1.0 - code),
    "tanh": lambda code: 1.0 - jnp.square(code),
    "relu": lambda code: (code > 0.0).astype(code.dtype),
    "linear": jnp.ones_like,
}
"""The derivative of each of `pretrain.layers.ACTIVATIONS`, from the activation itself."""


class Penalty(Protocol):
    """A term that is added to the loss: a scalar from the encoder, its input ``[batch, features]`` and that one's code
    ``[batch, units]``.
    """

    def __call__(self, layer: Dense, x: Array, code: Array, /) -> Array: ...


def _check_weight(weight: float | Array) -> None:
    if isinstance(weight, int | float) and weight < 0.0:
        raise ValueError(f"a penalty's weight must be at least 0; got {weight}")


@struct.dataclass
class NoPenalty:
    """None: a plain or a denoising autoencoder."""

    def __call__(self, layer: Dense, x: Array, code: Array) -> Array:
        return jnp.zeros(())


@struct.dataclass
class KLSparsity:
    """The divergence of each unit's mean activation over the batch from a target, summed over units, in nats.

    Attributes:
        target: the mean activation that is sought, in (0, 1). Codes must lie in (0, 1): sigmoid units.
        weight: factor on the divergence.
    """

    target: float | Array = 0.05
    weight: float | Array = 0.1

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if isinstance(self.target, int | float) and not 0.0 < self.target < 1.0:
            raise ValueError(f"the target of KLSparsity is a mean activation between 0 and 1; got {self.target}")

    def __call__(self, layer: Dense, x: Array, code: Array) -> Array:
        mean = jnp.clip(code.mean(axis=0), SMALLEST_MEAN, 1.0 - SMALLEST_MEAN)
        on = self.target * (jnp.log(self.target) - jnp.log(mean))
        off = (1.0 - self.target) * (jnp.log1p(-self.target) - jnp.log1p(-mean))
        return self.weight * (on + off).sum()


@struct.dataclass
class L1:
    """The sum of absolute codes, mean over rows.

    Attributes:
        weight: factor on the sum.
    """

    weight: float | Array = 0.1

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    def __call__(self, layer: Dense, x: Array, code: Array) -> Array:
        return self.weight * jnp.abs(code).sum(axis=-1).mean()


@struct.dataclass
class Contractive:
    """The squared Frobenius norm of the Jacobian of the code by the input, mean over rows.

    It takes no Jacobian: a product of ``[batch, units]`` and ``[units]``.

    Attributes:
        weight: factor on the norm.
    """

    weight: float | Array = 0.1

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    def __call__(self, layer: Dense, x: Array, code: Array) -> Array:
        slopes = SLOPES[layer.activation](code)
        return self.weight * (jnp.square(slopes) @ jnp.square(layer.weights).sum(axis=0)).mean()
