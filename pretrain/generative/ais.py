"""Annealed importance sampling of the partition function of an RBM.

Between a base machine whose ``Z`` is known (no weights, visible biases ``a``) and the machine itself lies a path of
RBMs, hidden units summed out::

    p*_t(v) = exp(v . ((1 - t) a + t b)) prod_j (1 + exp(t (c_j + (v W)_j)))        0 = t_0 < t_1 < ... < t_K = 1
    Z_0 = 2^hidden prod_i (1 + exp(a_i))

Each chain starts at a sample of the base and takes one Gibbs step at every temperature but the last; its weight, and
the estimate from all chains, which is unbiased for ``Z`` whatever the number of temperatures::

    log w = sum_k log p*_{t_k}(v_k) - log p*_{t_{k-1}}(v_k),        v_{k+1} ~ T_{t_k}(. | v_k)
    Z = Z_0 mean(w),        standard error of Z / Z = std(w) / (mean(w) sqrt(chains))

That error is an estimate from the same weights: it is to be trusted where many chains carry weight (the effective
sample size), not where one does. A softmax group of label units is supported: its factor in ``Z_0`` is
``sum_k exp(a_k)``. So are Gaussian visible units, of variances ``s^2``: in place of ``v . a`` stands
``-sum_i (v_i - a_i)^2 / (2 s_i^2)``, for ``b`` likewise, hidden units hear ``v / s^2``, and the factors in ``Z_0`` are
``sqrt(2 pi s_i^2)``. The cost is two matrix products of ``[chains, visible] x [visible, hidden]`` a temperature.

References: Neal, *Annealed importance sampling*, Statistics and Computing 11 (2001); Salakhutdinov & Murray, *On the
quantitative analysis of deep belief networks*, ICML 2008.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from pretrain.checks import check_sizes
from pretrain.generative.gibbs import check_machine, machine
from pretrain.learners.rbm import RBMParams
from pretrain.units import BernoulliUnits, Units, sample

PUBLISHED = 14_500
"""The number of temperatures of Salakhutdinov & Murray: 500 up to 0.5, 4,000 up to 0.9, 10,000 up to 1."""


class AISEstimate(NamedTuple):
    """What the weights say of ``Z``.

    Attributes:
        log_z: the estimate of ``log Z``, in nats.
        standard_error: of ``Z``, as a share of it; where it is small also of ``log Z``.
        interval: ``[2]`` the logarithms of ``Z`` minus and plus three standard errors; the lower is -inf where that is
            not positive.
        log_weights: ``[chains]`` the logarithm of each chain's own estimate of ``Z``, of which ``Z`` is the mean.
        effective_sample_size: ``(sum w)^2 / sum w^2``, from 1 to the number of chains.
    """

    log_z: Array
    standard_error: Array
    interval: Array
    log_weights: Array
    effective_sample_size: Array


def temperatures(count: int = PUBLISHED) -> np.ndarray:
    """Inverse temperatures ``[count]`` from 0 to 1, spaced as in the published schedule: ever closer towards 1.

    Raises:
        ValueError: fewer than two.
    """
    check_sizes(count=count)
    if count < 2:
        raise ValueError(f"count must be at least 2, for the base and the machine itself; got {count}")
    knots = np.array([0, 500, 4_500, PUBLISHED]) / PUBLISHED
    return np.interp(np.linspace(0.0, 1.0, count), knots, [0.0, 0.5, 0.9, 1.0]).astype(np.float32)


def _softplus_increment(x: Array, low: Array, high: Array) -> Array:
    """``softplus(high x) - softplus(low x)`` for ``low <= high``, without the cancellation where these are close."""
    magnitude, step = jnp.abs(x), high - low
    return step * jnp.maximum(x, 0.0) + jnp.log1p(jax.nn.sigmoid(-low * magnitude) * jnp.expm1(-step * magnitude))


def annealed_importance_sampling(
    params: RBMParams,
    key: Array,
    betas: Any,
    base_bias: Array | None = None,
    n_chains: int = 100,
    n_classes: int = 0,
    visible: Units = BernoulliUnits(),
) -> AISEstimate:
    """Estimates ``log Z`` of an RBM with Bernoulli hidden units; `jax.vmap` over ``params`` and ``key`` does so for a
    population.

    Args:
        params: the machine.
        key: a random key.
        betas: inverse temperatures, rising from 0 to 1 (`temperatures`).
        base_bias: ``[visible]`` the base's visible biases, label units included: best those of the data
            (`pretrain.layers.logit_mean`; of Gaussian units their mean; of label units the log of their share). None:
            zeros.
        n_chains: how many chains; at least two.
        n_classes: the last so many visible units are one softmax group of label units.
        visible: kind of the others, Bernoulli, Gaussian (with its variances where these were learned) or softmax.

    Raises:
        ValueError: if the sizes do not agree, the parameters are not of such a machine, or the temperatures do not rise
            from 0 to 1.
    """
    if not isinstance(betas, Tracer):
        steps = np.asarray(betas)
        if steps.ndim != 1 or steps.size < 2 or steps[0] != 0.0 or steps[-1] != 1.0 or (np.diff(steps) <= 0.0).any():
            raise ValueError(f"betas must rise from 0 to 1; got {steps}: take pretrain.generative.temperatures(count)")
    return _annealed(params, key, betas, base_bias, n_chains=n_chains, n_classes=n_classes, visible=visible)


@functools.partial(jax.jit, static_argnames=("n_chains", "n_classes", "visible"))
def _annealed(
    params: RBMParams, key: Array, betas: Any, base_bias: Array | None, *, n_chains: int, n_classes: int, visible: Units
) -> AISEstimate:
    check_machine(params, n_classes, visible)
    check_sizes(n_chains=n_chains)
    if n_chains < 2:
        raise ValueError(f"n_chains must be at least 2, to tell the error of the estimate; got {n_chains}")
    n_visible, n_hidden = params.weights.shape
    base = jnp.zeros((n_visible,)) if base_bias is None else jnp.asarray(base_bias)
    if base.shape != (n_visible,):
        raise ValueError(f"base_bias must have shape ({n_visible},), one a visible unit; got {tuple(base.shape)}")
    betas = jnp.asarray(betas, jnp.float32)
    rbm = machine(params, n_classes, visible)
    units, log_variance = rbm.visible_units, params.log_variance
    start = units.sample(jax.random.fold_in(key, 0), jnp.broadcast_to(base, (n_chains, n_visible)), log_variance)

    def anneal(carry: tuple[Array, Array], step: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        (values, log_weights), (low, high, index) = carry, step
        activation = rbm.hidden_input(params, values)
        energies = [units.energy(values, bias, log_variance) for bias in (base, params.visible_bias)]
        log_weights += (high - low) * (energies[0] - energies[1])
        log_weights += _softplus_increment(activation, low, high).sum(axis=-1)
        hidden_key, visible_key = jax.random.split(jax.random.fold_in(key, index))
        hidden = sample(hidden_key, jax.nn.sigmoid(high * activation))
        total = high * rbm.visible_input(params, hidden) + (1.0 - high) * base
        return (units.sample(visible_key, total, log_variance), log_weights), None

    steps = (betas[:-1], betas[1:], jnp.arange(1, betas.shape[0]))
    (_, log_weights), _ = jax.lax.scan(anneal, (start, jnp.zeros((n_chains,))), steps)
    log_z_base = n_hidden * jnp.log(2.0) + units.visible_log_partition(base, base, log_variance)
    return summarise(log_weights + log_z_base)


def summarise(log_weights: Array) -> AISEstimate:
    """The estimate from the logarithms ``[chains]`` of the chains' own estimates of ``Z``."""
    n_chains = log_weights.shape[0]
    largest = log_weights.max()
    weights = jnp.exp(log_weights - largest)
    mean = weights.mean()
    log_z = largest + jnp.log(mean)
    error = weights.std(ddof=1) / (mean * jnp.sqrt(n_chains))
    below, above = 1.0 - 3.0 * error, 1.0 + 3.0 * error
    interval = log_z + jnp.stack([jnp.where(below > 0.0, jnp.log(jnp.maximum(below, 1e-30)), -jnp.inf), jnp.log(above)])
    return AISEstimate(log_z, error, interval, log_weights, n_chains * mean**2 / jnp.square(weights).mean())


def average_log_probability(
    params: RBMParams, x: Array, log_z: Array, n_classes: int = 0, visible: Units = BernoulliUnits()
) -> Array:
    """The mean of ``log p(x) = -F(x) - log Z`` over rows ``[rows, visible]``, in nats; of Gaussian units a density.

    Label units, if there are any, are part of ``x`` (`join_labels`). An error of ``log_z`` is one of this mean, with
    the opposite sign.

    Raises:
        ValueError: if the parameters are not of such a machine.
    """
    check_machine(params, n_classes, visible)
    return -machine(params, n_classes, visible).free_energy(params, x).mean() - log_z
