"""The binary RBM that can be enumerated: its distribution, gradients and chains; scikit-learn's free energies."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_rbm import arrays, as_params
from enumeration import SIGMAS, binary, numbers_of
from scipy.special import expit, logsumexp
from scipy.stats import chi2
from sklearn.neural_network import BernoulliRBM as SklearnRBM

from pretrain import CD, PCD, Batch, BernoulliRBM
from pretrain.draws import unit_uniform
from pretrain.learners.rbm import RBMParams, free_energy, hidden_probabilities, sample, visible_probabilities
from pretrain.samplers import gibbs_chain

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_VISIBLE, N_HIDDEN = 6, 4
VISIBLE, HIDDEN = binary(N_VISIBLE), binary(N_HIDDEN)


def rbm_arrays() -> tuple[np.ndarray, ...]:
    """Weights, visible and hidden biases in float64 of a machine that is neither trivial nor slow to mix."""
    return arrays(N_VISIBLE, N_HIDDEN, scale=0.5)


def rbm_params() -> RBMParams:
    return as_params(*rbm_arrays())


def log_joint() -> np.ndarray:
    """Minus the energy of every pair of states, ``[64, 16]``, in float64."""
    weights, visible_bias, hidden_bias = rbm_arrays()
    return (VISIBLE @ visible_bias)[:, None] + HIDDEN @ hidden_bias + VISIBLE @ weights @ HIDDEN.T


def log_partition() -> float:
    return float(logsumexp(log_joint()))


def visible_distribution() -> np.ndarray:
    """P(v) of the 64 states."""
    return np.exp(logsumexp(log_joint(), axis=1) - log_partition())


def transition() -> np.ndarray:
    """The Gibbs chain's P(v' | v), ``[64, 64]``, rows sum to one."""
    joint = np.exp(log_joint() - log_partition())
    return (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T


def expected_statistics(distribution: np.ndarray) -> RBMParams:
    """-dF/dtheta, averaged over visible states of the given probabilities."""
    weights, _, hidden_bias = rbm_arrays()
    hidden = expit(VISIBLE @ weights + hidden_bias)
    return RBMParams((VISIBLE * distribution[:, None]).T @ hidden, distribution @ VISIBLE, distribution @ hidden)


def data_rows(n_rows: int) -> np.ndarray:
    """Rows far from the model's distribution: three patterns."""
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]], float)
    return patterns[np.arange(n_rows) % 3]


@pytest.mark.parametrize("shape", [(7,), (100, 500), (3, 5, 11)])
def test_draws_are_those_of_jax_to_the_bit(shape: tuple[int, ...]) -> None:
    for seed in range(3):
        key = jax.random.fold_in(jax.random.key(seed), 12345)
        np.testing.assert_array_equal(unit_uniform(key, shape), jax.random.uniform(key, shape))
    keys = jax.random.split(jax.random.key(9), 4)
    vmapped = jax.vmap(lambda key: unit_uniform(key, shape))(keys)
    np.testing.assert_array_equal(vmapped[3], jax.random.uniform(keys[3], shape))
    other = jax.random.key(1, impl="rbg")
    np.testing.assert_array_equal(unit_uniform(other, shape), jax.random.uniform(other, shape))


def test_free_energy_is_minus_log_sum_over_hidden_states() -> None:
    np.testing.assert_allclose(free_energy(rbm_params(), VISIBLE), -logsumexp(log_joint(), axis=1), rtol=1e-5)


def test_partition_function_is_the_same_summed_over_visible_and_over_hidden_states() -> None:
    """With hidden states summed out in closed form, with visible ones, and over all pairs."""
    params = rbm_params()
    over_visible = logsumexp(-np.asarray(free_energy(params, VISIBLE), np.float64))
    transposed = RBMParams(params.weights.T, params.hidden_bias, params.visible_bias)
    over_hidden = logsumexp(-np.asarray(free_energy(transposed, HIDDEN), np.float64))
    np.testing.assert_allclose([over_visible, over_hidden], log_partition(), rtol=1e-6)


def test_conditional_probabilities_are_those_of_the_enumerated_joint() -> None:
    joint = np.exp(log_joint())
    given_visible = joint @ HIDDEN / joint.sum(axis=1, keepdims=True)
    given_hidden = joint.T @ VISIBLE / joint.sum(axis=0)[:, None]
    np.testing.assert_allclose(hidden_probabilities(rbm_params(), VISIBLE), given_visible, rtol=1e-5)
    np.testing.assert_allclose(visible_probabilities(rbm_params(), HIDDEN), given_hidden, rtol=1e-5)


def test_likelihood_gradient_is_data_minus_model_free_energy_gradient() -> None:
    """The gradient that CD approximates, against jax.grad of the likelihood enumerated over all pairs of states."""
    rows = data_rows(30)

    def negative_log_likelihood(params: RBMParams) -> jax.Array:
        joint = (VISIBLE @ params.visible_bias)[:, None] + HIDDEN @ params.hidden_bias
        joint = joint + VISIBLE @ params.weights @ HIDDEN.T
        log_p = jax.nn.logsumexp(joint, axis=1) - jax.nn.logsumexp(joint)
        return -log_p[numbers_of(rows)].mean()

    exact = jax.jit(jax.grad(negative_log_likelihood))(rbm_params())
    difference = jax.jit(jax.grad(lambda p, q: free_energy(p, rows).mean() - q @ free_energy(p, VISIBLE)))
    closed = difference(rbm_params(), jnp.asarray(visible_distribution()))
    data = np.bincount(numbers_of(rows), minlength=len(VISIBLE)) / len(rows)
    statistics = jax.tree.map(np.subtract, expected_statistics(visible_distribution()), expected_statistics(data))
    for a, b, c in zip(exact[:3], closed[:3], statistics[:3], strict=True):
        np.testing.assert_allclose(a, c, atol=1e-6)
        np.testing.assert_allclose(b, c, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 10])
def test_contrastive_divergence_is_unbiased_for_its_own_chain(k: int) -> None:
    """CD-k's mean is data minus the k-step chain, whose distribution the transition matrix gives; at k = 10 that *is*
    the likelihood gradient, to less than the samples can tell.
    """
    n_rows, params, key = 30_000, rbm_params(), jax.random.key(k)
    learner = BernoulliRBM(N_HIDDEN, sampler=CD(k), sample_visible=True)
    rows = jnp.asarray(data_rows(n_rows), jnp.float32)
    grads, _, _ = learner.gradient(params, (), Batch(rows), key)
    (visible, total), _ = gibbs_chain(learner, params, learner.hidden_input(params, rows), key, k, sampled=True)
    visible, hidden = np.asarray(visible, np.float64), expit(np.asarray(total, np.float64))
    samples = (visible[:, :, None] * hidden[:, None, :], visible, hidden)
    errors = [per_chain.std(axis=0) / np.sqrt(n_rows) for per_chain in samples]

    data = np.bincount(numbers_of(rows), minlength=len(VISIBLE)) / n_rows
    after = data @ np.linalg.matrix_power(transition(), k)
    expected = jax.tree.map(np.subtract, expected_statistics(after), expected_statistics(data))
    for estimate, truth, error in zip(grads[:3], expected[:3], errors, strict=True):
        assert (error > 0).all()
        assert (np.abs(estimate - truth) < SIGMAS * error).all()
    exact = jax.tree.map(np.subtract, expected_statistics(visible_distribution()), expected_statistics(data))
    bias = max(np.abs(a - b).max() for a, b in zip(expected[:3], exact[:3], strict=True))
    smallest = min(error.min() for error in errors)
    assert bias < 0.1 * smallest if k == 10 else bias > 5 * SIGMAS * smallest


@pytest.mark.parametrize("persistent", [False, True])
def test_contrastive_divergence_statistic_is_the_gradient_of_its_surrogate(persistent: bool) -> None:
    """The closed form equals jax.grad of mean F(v0) - mean F(vk), the samples held constant."""
    params, key = rbm_params(), jax.random.key(3)
    learner = BernoulliRBM(N_HIDDEN, sampler=PCD(n_chains=20) if persistent else CD())
    v0 = jnp.asarray(data_rows(30), jnp.float32)
    state = sample(jax.random.key(4), jnp.full((20, N_VISIBLE), 0.5)) if persistent else ()
    grads, next_state, metrics = learner.gradient(params, state, Batch(v0), key)
    start = learner.hidden_input(params, state if persistent else v0)
    (vk, _), v1 = gibbs_chain(learner, params, start, key, 1, sampled=persistent)
    held = jax.lax.stop_gradient(vk)
    surrogate = jax.jit(jax.grad(lambda p, v0, vk: free_energy(p, v0).mean() - free_energy(p, vk).mean()))
    for closed, automatic in zip(grads[:3], surrogate(params, v0, held)[:3], strict=True):
        np.testing.assert_allclose(closed, automatic, atol=1e-6)
    if persistent:
        np.testing.assert_array_equal(next_state, vk)
    else:
        assert next_state == ()
        error = np.square(np.asarray(v0) - np.asarray(v1)).sum(axis=1).mean()
        np.testing.assert_allclose(metrics["reconstruction_error"], error, rtol=1e-5)


@pytest.mark.slow
def test_persistent_chains_sample_the_model() -> None:
    """Parameters held fixed, independent chains end up distributed as the enumerated model: a chi-squared test.

    After 15 steps the farthest starting state is within 1e-4 of the model in total variation, which moves 20,000 chains
    by at most two. The statistic may exceed its degrees of freedom as seldom as a normal variable exceeds 5 sigmas.
    """
    n_chains, n_steps, probabilities = 20_000, 15, visible_distribution()
    after = np.linalg.matrix_power(transition(), n_steps)
    assert 0.5 * np.abs(after - probabilities).sum(axis=1).max() < 1e-4
    learner = BernoulliRBM(N_HIDDEN, sampler=PCD(n_chains=n_chains))
    rows, params = Batch(jnp.asarray(data_rows(30), jnp.float32)), rbm_params()
    _, chains = learner.init(jax.random.key(0), rows)
    assert chains.shape == (n_chains, N_VISIBLE)
    for step in range(n_steps):
        _, chains, _ = learner.gradient(params, chains, rows, jax.random.key(step))
    counts, expected = np.bincount(numbers_of(chains), minlength=len(VISIBLE)), n_chains * probabilities
    assert expected.min() > 5  # the usual condition of the chi-squared approximation
    assert (np.square(counts - expected) / expected).sum() < chi2.isf(2.9e-7, len(VISIBLE) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sampling_is_unbiased_at_small_probabilities(dtype: Any) -> None:
    """P = 0.003, where uniform numbers drawn in bfloat16 would give 0.008."""
    n, p = 4_000_000, jnp.asarray(0.003, dtype)
    drawn = sample(jax.random.key(0), jnp.full((n,), p))
    assert drawn.dtype == jnp.float32
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert abs(np.asarray(drawn).mean(dtype=np.float64) - float(p)) < SIGMAS * np.sqrt(0.003 * 0.997 / n)


def test_free_energies_are_those_of_scikit_learn() -> None:
    params = rbm_params()
    peer = SklearnRBM(n_components=N_HIDDEN)
    peer.components_ = np.asarray(params.weights).T
    peer.intercept_hidden_, peer.intercept_visible_ = np.asarray(params.hidden_bias), np.asarray(params.visible_bias)
    np.testing.assert_allclose(free_energy(params, VISIBLE), peer._free_energy(VISIBLE), rtol=1e-5)
