"""Exact partition functions and annealed importance sampling, against sums over all states in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbn import exact_log_z, log_weights, machine, single, with_labels
from enumeration import SIGMAS, binary
from scipy.special import logsumexp
from scipy.stats import binom

from pretrain import member
from pretrain.generative import (
    annealed_importance_sampling,
    average_log_probability,
    class_log_weights,
    log_partition,
    temperatures,
)
from pretrain.generative.ais import _softplus_increment, summarise
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- the exact partition function


@pytest.mark.parametrize(
    ("n_binary", "n_hidden", "n_classes", "scale"),
    [(6, 4, 0, 0.7), (3, 6, 4, 0.7), (6, 4, 2, 60.0)],
)
def test_log_partition_is_the_sum_over_all_pairs_of_states(
    n_binary: int, n_hidden: int, n_classes: int, scale: float
) -> None:
    """Whichever side is enumerated, with and without label units, and where the weights overflow an exponential."""
    params = machine(n_binary + n_classes, n_hidden, scale)
    expected = exact_log_z(params, n_classes)
    if scale > 1.0:
        assert expected > np.log(np.finfo(np.float32).max)
    np.testing.assert_allclose(log_partition(single(params), n_classes), expected, rtol=2e-6)


def test_log_partition_of_many_blocks() -> None:
    """4,096 visible states in four blocks, against the hidden states summed in float64."""
    params, hidden = machine(12, 13, 0.5), binary(13)
    summed = np.logaddexp(0.0, hidden @ params.weights.T + params.visible_bias).sum(axis=1)
    expected = logsumexp(hidden @ params.hidden_bias + summed)
    np.testing.assert_allclose(log_partition(single(params)), expected, rtol=1e-6)


def test_log_partition_refuses_what_it_cannot_enumerate() -> None:
    with pytest.raises(ValueError, match=r"2\*\*21 states: 21 binary visible and 22 hidden .* at most 20"):
        log_partition(single(machine(21, 22)))
    with pytest.raises(ValueError, match=r"2\*\*21 states: 21 binary visible"):
        log_partition(single(machine(31, 22)), n_classes=10)
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 3\).*pretrain\.member"):
        log_partition(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), single(machine(3, 3))))
    with pytest.raises(ValueError, match=r"n_classes must be from 0 to 2.*got 3"):
        log_partition(single(machine(3, 3)), n_classes=3)
    with pytest.raises(ValueError, match="Gaussian visible units"):
        log_partition(single(machine(3, 3))._replace(log_variance=jnp.zeros(3)))


def test_class_log_weights_are_those_of_the_visible_layer_with_each_label() -> None:
    params, x = machine(7, 4), binary(4)
    expected = log_weights(params, with_labels(4, 3)).reshape(16, 3)
    np.testing.assert_allclose(class_log_weights(single(params), single(x), 3), expected, rtol=1e-5)


# ---------------------------------------------------------------- annealed importance sampling


def test_temperatures_are_the_published_schedule_at_every_length() -> None:
    for count in (2, 145, 1_000, 14_500):
        betas = temperatures(count)
        assert (betas.shape, betas.dtype, betas[0], betas[-1]) == ((count,), np.float32, 0.0, 1.0)
        assert (np.diff(betas) > 0).all()
    assert abs((betas < 0.5).sum() - 500) <= 1
    assert abs((betas < 0.9).sum() - 4_500) <= 1
    np.testing.assert_allclose(np.diff(betas)[[0, 2_000, 10_000]], [1e-3, 1e-4, 1e-5], rtol=0.01)
    with pytest.raises(ValueError, match="at least 2"):
        temperatures(1)


def test_weight_increments_of_close_temperatures_do_not_cancel() -> None:
    """14,500 of them add up to what the first and the last temperature give, for inputs of every size."""
    x = np.float32([-200.0, -30.0, -1.0, 0.0, 1e-3, 1.0, 30.0, 200.0])
    betas = temperatures()
    increments = np.asarray(_softplus_increment(x[:, None], betas[:-1], betas[1:]), np.float64)
    expected = np.logaddexp(0.0, betas[1:] * np.float64(x)[:, None]) - np.logaddexp(
        0.0, betas[:-1] * np.float64(x)[:, None]
    )
    np.testing.assert_allclose(increments, expected, rtol=3e-6, atol=1e-30)
    np.testing.assert_allclose(increments.sum(axis=1), np.logaddexp(0.0, np.float64(x)) - np.log(2.0), rtol=1e-6)


N_BINARY, N_HIDDEN, RUNS, N_CHAINS = 5, 4, 400, 100


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [0, 3])
def test_ais_interval_covers_the_exact_log_partition_and_its_error_is_neither_too_small_nor_too_large(
    n_classes: int,
) -> None:
    """A population of 400 estimates, 200 each of two machines: the misses of three sigma are as rare as a binomial test
    allows, the standardised error has unit spread, the mean of the estimates of Z is Z, and a member is what it is
    alone.
    """
    machines = [machine(N_BINARY + n_classes, N_HIDDEN, scale) for scale in (0.6, 0.9)]
    exact = np.repeat([exact_log_z(params, n_classes) for params in machines], RUNS // 2)
    population = jax.tree.map(lambda *leaves: single(np.repeat(leaves, RUNS // 2, axis=0)), *machines)
    base = single(np.linspace(-1.0, 1.0, N_BINARY + n_classes))
    keys = jax.random.split(jax.random.key(n_classes), RUNS)
    estimates = jax.vmap(lambda params, key: estimate(params, key, base, n_classes))(population, keys)
    log_z, error = np.asarray(estimates.log_z, np.float64), np.asarray(estimates.standard_error, np.float64)
    low, high = np.asarray(estimates.interval).T
    assert (error > 0.005).all()  # there is something to estimate
    assert (error < 0.3).all()

    misses = int(((exact < low) | (exact > high)).sum())
    assert binom.sf(misses - 1, RUNS, 0.0027) > 1e-4, f"{misses} of {RUNS} intervals miss"
    relative = np.exp(log_z - exact)
    standardised = (relative - 1.0) / (relative * error)
    assert abs(standardised.std() - 1.0) < SIGMAS / np.sqrt(2 * RUNS)
    assert abs(relative.mean() - 1.0) < SIGMAS * relative.std() / np.sqrt(RUNS)

    assert estimates.log_weights.shape == (RUNS, N_CHAINS)
    np.testing.assert_allclose(logsumexp(estimates.log_weights, axis=1) - np.log(N_CHAINS), log_z, rtol=1e-5)
    assert ((estimates.effective_sample_size > 1) & (estimates.effective_sample_size < N_CHAINS)).all()
    alone = estimate(single(machines[1]), keys[-1], base, n_classes)
    for one, own in zip(alone, member(estimates, -1), strict=True):
        np.testing.assert_allclose(one, own, rtol=1e-4)


def estimate(params: RBMParams, key: jax.Array, base: jax.Array, n_classes: int) -> Any:
    return annealed_importance_sampling(params, key, temperatures(100), base, N_CHAINS, n_classes)


def test_ais_is_unbiased_however_few_the_temperatures() -> None:
    """Four temperatures and very many chains: any slip between the weights and the transitions shows."""
    params = machine(N_BINARY + 3, N_HIDDEN, 0.9)
    found = annealed_importance_sampling(
        single(params), jax.random.key(8), [0.0, 0.4, 0.7, 1.0], n_chains=30_000, n_classes=3
    )
    assert float(found.standard_error) < 0.01
    assert abs(np.expm1(float(found.log_z) - exact_log_z(params, 3))) < SIGMAS * float(found.standard_error)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_ais_from_the_machine_itself_has_no_variance(n_classes: int) -> None:
    """Without weights the base with its visible biases is the machine, but for hidden biases, a constant factor."""
    params = machine(N_BINARY + n_classes, N_HIDDEN)
    params = params._replace(weights=np.zeros_like(params.weights))
    exact = exact_log_z(params, n_classes)
    found = estimate(single(params), jax.random.key(0), single(params.visible_bias), n_classes)
    np.testing.assert_allclose(found.log_z, exact, rtol=1e-6)
    np.testing.assert_allclose(found.interval, [exact, exact], rtol=1e-5)
    assert float(found.standard_error) < 1e-6
    np.testing.assert_allclose(found.effective_sample_size, N_CHAINS, rtol=1e-5)


def test_ais_summary_of_known_weights() -> None:
    """Weights 1, 2, 3: mean 2, standard deviation 1. One chain that carries all leaves no lower bound."""
    found = jax.jit(summarise)(jnp.log(jnp.array([1.0, 2.0, 3.0])) + 500.0)
    error = 1.0 / (2.0 * np.sqrt(3.0))
    np.testing.assert_allclose(found.log_z, 500.0 + np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-4)
    np.testing.assert_allclose(found.interval, 500 + np.log(2) + np.log1p([-3 * error, 3 * error]), rtol=1e-6)
    np.testing.assert_allclose(found.effective_sample_size, 36.0 / 14.0, rtol=1e-4)
    alone = jax.jit(summarise)(jnp.array([0.0, 100.0, 0.0]))
    assert float(alone.interval[0]) == -np.inf
    np.testing.assert_allclose(alone.effective_sample_size, 1.0, rtol=1e-6)
    np.testing.assert_allclose(alone.standard_error, 1.0, rtol=1e-6)


def test_ais_refuses_wrong_sizes() -> None:
    params, key = single(machine(5, 4)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"base_bias must have shape \(5,\).*\(4,\)"):
        annealed_importance_sampling(params, key, temperatures(5), jnp.zeros(4))
    with pytest.raises(ValueError, match="n_chains must be at least 2"):
        annealed_importance_sampling(params, key, temperatures(5), n_chains=1)
    for betas in (np.linspace(0.0, 0.5, 9), np.linspace(1.0, 0.0, 9), [0.0, 0.5, 0.5, 1.0], [1.0]):
        with pytest.raises(ValueError, match=r"betas must rise from 0 to 1"):
            annealed_importance_sampling(params, key, betas)


def test_average_log_probability_is_that_of_the_enumerated_machine() -> None:
    params, rows = machine(6, 4), binary(6)[[3, 7, 50]]
    exact = (log_weights(params, rows) - exact_log_z(params, 0)).mean()
    np.testing.assert_allclose(
        average_log_probability(single(params), single(rows), exact_log_z(params, 0)), exact, rtol=1e-5
    )
