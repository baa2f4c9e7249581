"""The sparse encoding symmetric machine: a linear encoder and decoder that share their weights, and sparse codes on
which the two agree.

::

    encoder        enc(x) = W^T x + b
    decoder        dec(z) = W l(z) + c              l(z) = 1 / (1 + exp(-gain z))
    energy         E(x, z) = |x - dec(z)|^2 + a_c |z - enc(x)|^2 + a_s sum_j log(1 + l(z_j)^2) + a_r |W|_1
    code of a row  z <- z - relaxation_rate dE/dz,  n_relaxations times from z = enc(x)
    update         dE/dW, dE/db, dE/dc at that code, which is held

|W|_1 sums absolute weights. The code that is passed up is l(enc(x)): no relaxation is needed once the encoder has
learned to predict where it ends. Reference: Ranzato, Boureau & LeCun, *Sparse feature learning for deep belief
networks*, NIPS 2007; a relative without shared weights: Ranzato, Poultney, Chopra & LeCun, *Efficient learning of
sparse representations with an energy-based model*, NIPS 2006.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import Dense, uniform
from pretrain.types import Batch, Inputs, Metrics


class SESMParams(NamedTuple):
    """Attributes: ``weights`` W [visible, hidden], ``bias`` b [hidden], ``decoder_bias`` c [visible]."""

    weights: Array
    bias: Array
    decoder_bias: Array


@struct.dataclass
class SESM:
    """A sparse encoding symmetric machine and how it is trained.

    Attributes:
        n_hidden: code units.
        code: a_c, how closely codes follow the encoder.
        sparsity: a_s, on the codes.
        weight_l1: a_r, on the weights; a gain of the weights is no way round the sparsity.
        gain: of the logistic; the larger, the nearer the codes are to 0 and 1.
        relaxation_rate: step size of the relaxation. Too large a one raises the energy; the larger the weights, the
            gain or ``code``, the smaller it must be.
        n_relaxations: steps of the relaxation.
        initial_scale: initial weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
    """

    n_hidden: int = struct.field(pytree_node=False)
    code: float | Array = 1.0
    sparsity: float | Array = 0.2
    weight_l1: float | Array = 1e-3
    gain: float | Array = 1.0
    relaxation_rate: float | Array = 0.1
    n_relaxations: int = struct.field(pytree_node=False, default=5)
    initial_scale: float | Array = 1.0

    needs = ()

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden, n_relaxations=self.n_relaxations)

    @property
    def inputs(self) -> Inputs:
        return "real"

    def init(self, key: Array, data: Batch) -> tuple[SESMParams, Any]:
        """Uniform weights, zero code biases; the decoder's biases are each feature's mean."""
        weights = uniform(key, data.x.shape[-1], self.n_hidden, self.initial_scale)
        return SESMParams(weights, jnp.zeros((self.n_hidden,)), data.x.mean(axis=0)), ()

    def encode(self, params: SESMParams, x: Array) -> Array:
        """``enc(x)``: ``[..., visible]`` to the code ``[..., hidden]``, before the logistic."""
        return x @ params.weights + params.bias

    def _code_energy(self, params: SESMParams, x: Array, z: Array, predicted: Array) -> Array:
        """``[...]`` the terms of E that depend on z, given ``predicted = enc(x)``."""
        active = jax.nn.sigmoid(self.gain * z)
        reconstruction = jnp.square(x - self.decoder(params)(active)).sum(axis=-1)
        distance = jnp.square(z - predicted).sum(axis=-1)
        return reconstruction + self.code * distance + self.sparsity * jnp.log1p(jnp.square(active)).sum(axis=-1)

    def energy(self, params: SESMParams, x: Array, z: Array) -> Array:
        """``E(x, z)`` of each row, ``[...]``."""
        weights = self.weight_l1 * jnp.abs(params.weights).sum()
        return self._code_energy(params, x, z, self.encode(params, x)) + weights

    def relax(self, params: SESMParams, x: Array) -> Array:
        """The code ``[..., hidden]`` of each row after `n_relaxations` steps down its energy, from ``enc(x)``."""
        predicted = self.encode(params, x)
        slope = jax.grad(lambda z: self._code_energy(params, x, z, predicted).sum())

        def step(_: Any, z: Array) -> Array:
            return z - self.relaxation_rate * slope(z)

        return jax.lax.fori_loop(0, self.n_relaxations, step, predicted)

    def gradient(self, params: SESMParams, state: Any, batch: Batch, key: Array) -> tuple[SESMParams, Any, Metrics]:
        """The gradient of the mean energy at the relaxed codes, held; reports that ``energy``."""
        z = self.relax(params, batch.x)
        energy, grads = jax.value_and_grad(lambda params: self.energy(params, batch.x, z).mean())(params)
        return grads, state, {"energy": energy}

    def evaluate(self, params: SESMParams, batch: Batch, key: Array) -> Metrics:
        """Means over rows: the squared ``reconstruction_error`` from the encoder's code, summed over features, and the
        ``energy`` of that code.
        """
        reconstruction = self.decoder(params)(self.layer(params)(batch.x))
        return {
            "reconstruction_error": jnp.square(batch.x - reconstruction).sum(axis=-1).mean(),
            "energy": self.energy(params, batch.x, self.encode(params, batch.x)).mean(),
        }

    def layer(self, params: SESMParams) -> Dense:
        """``l(enc(x))``, the gain in its weights."""
        return Dense(self.gain * params.weights, self.gain * params.bias, "sigmoid")

    def decoder(self, params: SESMParams) -> Dense:
        """From ``l(z)`` to ``dec(z)``."""
        return Dense(params.weights.T, params.decoder_bias, "linear")
