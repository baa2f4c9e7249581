"""Slow, decorrelated features: units that change little from frame to frame, and each tells something else.

With z_i and z_i' the outputs of unit i on a frame and on the next, d_i its mean squared difference, v_i its variance
and c_ij covariances::

    z = sigmoid(x W + b)
    L = sum_i (d_i + 2 e) / (v_i + e) + decorrelation * sum_{i != j} c_ij^2 / ((v_i + e) (v_j + e))

Moments are those of the minibatch, over frames and next frames together. Three solutions without content are shut out:
a unit that shrinks (d_i falls, but so does v_i: the quotient is free of scale), a unit that is constant, and copies of
the slowest unit (the second sum). The small e = `NOISE` stands for noise of that variance in every output, drawn anew
for every frame: the quotient of a constant unit is then 2, that of noise and the largest of unrelated frames, and never
0/0. (With e in the denominator only it would be 0: the best.)

The size of the minibatch matters. The correlations of n units over N pairs of frames cannot all vanish if n > 2N - 1
(of units that hardly change, n > N - 1), and chance alone puts each square between 1/(2N) and 1/N: with batches much
smaller than the layer the second sum is mostly noise.

Reference: Bergstra & Bengio, *Slow, decorrelated features for pretraining complex cell-like networks*, NIPS 2009, whose
units are quadratic ones, in imitation of complex cells. Here a unit is a plain sigmoid one, so that it stacks with the
others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import ACTIVATIONS, Dense, uniform
from pretrain.types import Batch, Inputs, Metrics, Needs

NOISE = 1e-6
"""Variance that is added to every unit's."""


class SlowFeatureParams(NamedTuple):
    """Attributes: ``weights`` [features, hidden], ``bias`` [hidden]."""

    weights: Array
    bias: Array


def slowness_and_correlation(z: Array, following: Array) -> tuple[Array, Array]:
    """The two sums of the objective, from outputs ``[frames, units]`` and those of the next frames."""
    together = jnp.stack([z, following])
    centred = together - together.mean(axis=(0, 1))
    deviation = jnp.sqrt(jnp.square(centred).mean(axis=(0, 1)) + NOISE)
    scaled = (centred / deviation).reshape(-1, z.shape[-1])
    difference = (following - z) / deviation
    slowness = jnp.square(difference).mean(axis=0) + 2.0 * NOISE / jnp.square(deviation)
    correlation = scaled.T @ scaled / scaled.shape[0]
    return slowness.sum(), jnp.square(correlation * (1.0 - jnp.eye(z.shape[-1]))).sum()


@struct.dataclass
class SlowFeatures:
    """A layer of slow, decorrelated units.

    Attributes:
        n_hidden: units.
        decorrelation: weight of the squared correlations, beside the slowness. There are many more of them: where they
            outweigh it, units escape by being active on so few rows that most minibatches have none.
        activation: a key of `pretrain.layers.ACTIVATIONS`.
        initial_scale: initial weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
    """

    n_hidden: int = struct.field(pytree_node=False)
    decorrelation: float | Array = 0.1
    activation: str = struct.field(pytree_node=False, default="sigmoid")
    initial_scale: float | Array = 1.0

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")

    @property
    def inputs(self) -> Inputs:
        return "real"

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("pairs",)

    def init(self, key: Array, data: Batch) -> tuple[SlowFeatureParams, Any]:
        """Uniform weights and zero biases."""
        weights = uniform(key, data.x.shape[-1], self.n_hidden, self.initial_scale)
        return SlowFeatureParams(weights, jnp.zeros((self.n_hidden,))), ()

    def gradient(self, params: SlowFeatureParams, state: Any, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        """The gradient of the objective on this minibatch; reports what `evaluate` does."""

        def objective(params: SlowFeatureParams) -> tuple[Array, Metrics]:
            measures = self.evaluate(params, batch, key)
            return measures["loss"], measures

        grads, measures = jax.grad(objective, has_aux=True)(params)
        return grads, state, measures

    def evaluate(self, params: SlowFeatureParams, batch: Batch, key: Array) -> Metrics:
        """``loss`` and its parts ``slowness`` (over units; 2 each if unrelated), ``correlation`` (over pairs)."""
        assert batch.pair is not None
        layer = self.layer(params)
        slowness, correlation = slowness_and_correlation(layer(batch.x), layer(batch.pair))
        loss = slowness + self.decorrelation * correlation
        return {"loss": loss, "slowness": slowness, "correlation": correlation}

    def layer(self, params: SlowFeatureParams) -> Dense:
        """The layer of units."""
        return Dense(params.weights, params.bias, self.activation)
