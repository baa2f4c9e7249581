"""The restricted Boltzmann machine with Bernoulli units, trained by contrastive divergence.

Energy and free energy of visible ``v`` and hidden ``h``, both binary::

    E(v, h) = - v.b - h.c - v W h
    F(v)    = - log sum_h exp(-E(v, h)) = - v.b - sum_j softplus(c_j + (v W)_j)

The gradient of the mean negative log-likelihood is ``<dF/dtheta>_data - <dF/dtheta>_model``. CD-k replaces the model's
average by one over chains that start at the data and run k Gibbs steps; PCD keeps the chains from update to update::

    dW = - (<v0 h0> - <vk hk>),   db = - (<v0> - <vk>),   dc = - (<h0> - <hk>)

with hidden *probabilities* in these statistics and hidden *samples* inside the chain (they are the bottleneck). Written
this way a CD-1 update is five matrix products; the surrogate loss ``<F(v0)> - <F(vk)>`` gives the same gradient.

References: Hinton, *Training products of experts*, Neural Computation 14 (2002); Tieleman, ICML 2008 (PCD); Hinton, *A
practical guide to training restricted Boltzmann machines*, UTML TR 2010-003.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from pretrain.checks import check_sizes
from pretrain.draws import unit_uniform
from pretrain.layers import Dense, logit_mean
from pretrain.types import Batch, Metrics


class RBMParams(NamedTuple):
    """Attributes: ``weights`` [visible, hidden], ``visible_bias`` [visible], ``hidden_bias`` [hidden]."""

    weights: Array
    visible_bias: Array
    hidden_bias: Array


def hidden_probabilities(params: RBMParams, visible: Array) -> Array:
    """``P(h = 1 | v)``, ``[..., hidden]``."""
    return jax.nn.sigmoid(visible @ params.weights + params.hidden_bias)


def visible_probabilities(params: RBMParams, hidden: Array) -> Array:
    """``P(v = 1 | h)``, ``[..., visible]``."""
    return jax.nn.sigmoid(hidden @ params.weights.T + params.visible_bias)


def free_energy(params: RBMParams, visible: Array) -> Array:
    """``F(v)`` in nats, ``[...]``: minus the log of the unnormalised probability of ``visible``."""
    softplus = jax.nn.softplus(visible @ params.weights + params.hidden_bias)
    return -visible @ params.visible_bias - softplus.sum(axis=-1)


def sample(key: Array, probabilities: Array) -> Array:
    """Bernoulli samples as float32 zeros and ones, drawn in float32 (a bfloat16 draw is biased)."""
    return (unit_uniform(key, probabilities.shape) < probabilities).astype(jnp.float32)


@struct.dataclass
class BernoulliRBM:
    """A Bernoulli RBM and how it is trained.

    Attributes:
        n_hidden: hidden units.
        k: Gibbs steps an update.
        persistent: whether the chains go on from the last update (PCD) or restart at the data (CD).
        sample_visible: whether the chain passes visible samples or probabilities (mean-field, less noise). Persistent
            chains always pass samples: they are to reach the model's distribution.
        n_chains: persistent chains.
        initial_scale: standard deviation of the initial weights.
    """

    n_hidden: int = struct.field(pytree_node=False)
    k: int = struct.field(pytree_node=False, default=1)
    persistent: bool = struct.field(pytree_node=False, default=False)
    sample_visible: bool = struct.field(pytree_node=False, default=False)
    n_chains: int = struct.field(pytree_node=False, default=100)
    initial_scale: float | Array = 0.01

    unit_inputs = True
    needs_labels = False

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden, k=self.k, n_chains=self.n_chains)

    def init(self, key: Array, data: Batch) -> tuple[RBMParams, Any]:
        """Weights ~ N(0, initial_scale), hidden biases 0, visible biases the logit of each pixel's mean.

        Persistent chains start at samples of the visible biases.
        """
        n_visible = data.x.shape[-1]
        weights = self.initial_scale * jax.random.normal(key, (n_visible, self.n_hidden))
        params = RBMParams(weights, logit_mean(data.x), jnp.zeros((self.n_hidden,)))
        if not self.persistent:
            return params, ()
        means = jnp.broadcast_to(jax.nn.sigmoid(params.visible_bias), (self.n_chains, n_visible))
        return params, sample(jax.random.fold_in(key, 1), means)

    def gibbs(self, params: RBMParams, hidden: Array, key: Array) -> tuple[Array, Array]:
        """One step ``h -> v -> P(h | v)``: from hidden samples to (visible, hidden probabilities)."""
        visible = visible_probabilities(params, hidden)
        if self.sample_visible or self.persistent:
            visible = sample(key, visible)
        return visible, hidden_probabilities(params, visible)

    def chain(self, params: RBMParams, hidden: Array, key: Array) -> tuple[Array, Array, Array]:
        """``k`` Gibbs steps from hidden probabilities: (visible, hidden probabilities, visible of the first step)."""

        def step(index: Any, chain: tuple[Array, Array]) -> tuple[Array, Array]:
            hidden_key, visible_key = jax.random.split(jax.random.fold_in(key, index))
            return self.gibbs(params, sample(hidden_key, chain[1]), visible_key)

        first, hidden = step(0, (hidden, hidden))
        visible = first
        if self.k > 1:
            visible, hidden = jax.lax.fori_loop(1, self.k, step, (first, hidden))
        return visible, hidden, first

    def gradient(self, params: RBMParams, state: Any, batch: Batch, key: Array) -> tuple[RBMParams, Any, Metrics]:
        """The contrastive-divergence direction, the next chains, and a measure of this minibatch.

        The measure of CD is the squared ``reconstruction_error`` of the first step; of PCD the ``mean_gap``, the
        squared distance between the mean images of data and chains.
        """
        v0 = batch.x
        h0 = hidden_probabilities(params, v0)
        start = hidden_probabilities(params, state) if self.persistent else h0
        vk, hk, v1 = self.chain(params, start, key)
        state = vk if self.persistent else state
        rows, chains = v0.shape[0], vk.shape[0]
        grads = RBMParams(
            weights=vk.T @ hk / chains - v0.T @ h0 / rows,
            visible_bias=vk.mean(axis=0) - v0.mean(axis=0),
            hidden_bias=hk.mean(axis=0) - h0.mean(axis=0),
        )
        if self.persistent:  # the chains reconstruct nothing; how far their means are from the data's
            return grads, state, {"mean_gap": jnp.square(grads.visible_bias).sum()}
        return grads, state, {"reconstruction_error": jnp.square(v0 - v1).sum(axis=-1).mean()}

    def evaluate(self, params: RBMParams, batch: Batch, key: Array) -> Metrics:
        """``reconstruction_error`` (squared, summed over pixels, of a mean-field pass) and mean ``free_energy`` in
        nats.

        CD follows the gradient of neither; the gap of free energies between training and validation rows tells of
        overfitting (it needs no partition function).
        """
        reconstruction = visible_probabilities(params, hidden_probabilities(params, batch.x))
        return {
            "reconstruction_error": jnp.square(batch.x - reconstruction).sum(axis=-1).mean(),
            "free_energy": free_energy(params, batch.x).mean(),
        }

    def layer(self, params: RBMParams) -> Dense:
        """The recognition layer ``P(h = 1 | v)``."""
        return Dense(params.weights, params.hidden_bias, "sigmoid")

    def decoder(self, params: RBMParams) -> Dense:
        """The generative layer ``P(v = 1 | h)``."""
        return Dense(params.weights.T, params.visible_bias, "sigmoid")
