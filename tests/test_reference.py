"""Against things that know the answer: enumeration, finite differences, scikit-learn, and loops written by hand."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import expit, logsumexp
from scipy.stats import chi2
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import BernoulliRBM as SklearnRBM

from pretrain import (
    CD,
    PCD,
    Autoencoder,
    Batch,
    BernoulliRBM,
    Classifier,
    Constant,
    DeepAutoencoder,
    Dense,
    Gaussian,
    Inverse,
    Linear,
    LogisticAutoregression,
    Masking,
    Momentum,
    Network,
    NoCorruption,
    Pretrained,
    SaltPepper,
    Sgd,
    Stage,
    fit,
    member,
    unroll,
)
from pretrain.draws import unit_uniform
from pretrain.learners.autoencoder import AutoencoderParams
from pretrain.learners.logistic_autoregression import AutoregressionParams
from pretrain.learners.rbm import RBMParams, free_energy, hidden_probabilities, sample, visible_probabilities
from pretrain.samplers import gibbs_chain

pytestmark = pytest.mark.usefixtures("quick_compilation")

# ---------------------------------------------------------------- the RBM that can be enumerated

N_VISIBLE, N_HIDDEN = 6, 4
VISIBLE = np.array(list(itertools.product([0.0, 1.0], repeat=N_VISIBLE)))
HIDDEN = np.array(list(itertools.product([0.0, 1.0], repeat=N_HIDDEN)))
SIGMAS = 5.0
"""Bounds of random tests, in standard errors: passed but once in 1.7 million by chance."""


def rbm_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, visible and hidden biases in float64 of a machine that is neither trivial nor slow to mix."""
    random = np.random.default_rng(0)
    return tuple(0.5 * random.standard_normal(shape) for shape in ((N_VISIBLE, N_HIDDEN), N_VISIBLE, N_HIDDEN))


def rbm_params() -> RBMParams:
    return RBMParams(*(jnp.asarray(a, jnp.float32) for a in rbm_arrays()))


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


def states(visible: Any) -> np.ndarray:
    """The number of each row in `VISIBLE`."""
    return (np.asarray(visible) @ 2 ** np.arange(N_VISIBLE)[::-1]).astype(int)


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
        return -log_p[states(rows)].mean()

    exact = jax.jit(jax.grad(negative_log_likelihood))(rbm_params())
    difference = jax.jit(jax.grad(lambda p, q: free_energy(p, rows).mean() - q @ free_energy(p, VISIBLE)))
    closed = difference(rbm_params(), jnp.asarray(visible_distribution()))
    data = np.bincount(states(rows), minlength=len(VISIBLE)) / len(rows)
    statistics = jax.tree.map(np.subtract, expected_statistics(visible_distribution()), expected_statistics(data))
    for a, b, c in zip(exact[:3], closed[:3], statistics[:3], strict=True):
        np.testing.assert_allclose(a, c, atol=1e-6)
        np.testing.assert_allclose(b, c, atol=1e-6)


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

    data = np.bincount(states(rows), minlength=len(VISIBLE)) / n_rows
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
    counts, expected = np.bincount(states(chains), minlength=len(VISIBLE)), n_chains * probabilities
    assert expected.min() > 5  # the usual condition of the chi-squared approximation
    assert (np.square(counts - expected) / expected).sum() < chi2.isf(2.9e-7, len(VISIBLE) - 1)


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


# ---------------------------------------------------------------- gradients


@pytest.fixture
def x64():
    """Double precision, for finite differences."""
    with jax.enable_x64(True):
        yield


LABELS = np.array([0, 1, 2, 2, 1, 0, 2])
DIFFERENTIABLE = {
    "tied": Autoencoder(3),
    "untied": Autoencoder(3, tied=False, activation="tanh"),
    "tied-squared-masking": Autoencoder(3, loss="squared_error", corruption=Masking(0.3)),
    "untied-squared-gaussian": Autoencoder(3, tied=False, loss="squared_error", corruption=Gaussian(0.3)),
    "autoregression": LogisticAutoregression(4),
    "classifier": Classifier(3, (3,), output_scale=1.0),
    "deep": DeepAutoencoder((3, 2)),
    "deep-squared": DeepAutoencoder((3, 2), loss="squared_error"),
}


@pytest.mark.parametrize("learner", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE.keys())
@pytest.mark.usefixtures("x64")
def test_gradient_agrees_with_finite_differences(learner: Any) -> None:
    """Central differences of the loss it reports, one parameter at a time: their error is of the order of 1e-10."""
    random, key, step = np.random.default_rng(1), jax.random.key(1), 1e-5
    batch = Batch(jnp.asarray(random.random((7, 4))), jnp.asarray(LABELS))
    shapes, _ = jax.eval_shape(learner.init, key, batch)
    start = jax.tree.map(lambda leaf: jnp.asarray(0.5 * random.standard_normal(leaf.shape)), shapes)

    @jax.jit
    def automatic_and_numeric(start: Any) -> Any:
        flat, unravel = ravel_pytree(start)
        moves = step * jnp.eye(len(flat))
        loss = jax.vmap(lambda flat: learner.gradient(unravel(flat), (), batch, key)[2]["loss"])
        differences = (loss(flat + moves) - loss(flat - moves)) / (2 * step)
        return learner.gradient(start, (), batch, key)[0], unravel(differences)

    grads, numeric = automatic_and_numeric(start)
    if isinstance(learner, LogisticAutoregression):  # the diagonal is no parameter
        np.testing.assert_array_equal(np.diag(grads.weights), 0.0)
        numeric = numeric._replace(weights=numeric.weights * (1 - np.eye(4)))
    assert jax.tree.structure(grads) == jax.tree.structure(start)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(numeric), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


def test_tied_gradient_is_the_sum_of_both_uses() -> None:
    random = np.random.default_rng(0)
    weights, bias, decoder_bias = (jnp.asarray(random.standard_normal(s), jnp.float32) for s in ((4, 3), 3, 4))
    batch = Batch(jnp.asarray(random.random((7, 4)), jnp.float32))

    @jax.jit
    def gradient(learner: Autoencoder, params: AutoencoderParams) -> Any:
        grads, _, metrics = learner.gradient(params, (), batch, jax.random.key(0))
        return grads, metrics["loss"]

    tied, loss = gradient(Autoencoder(3), AutoencoderParams(weights, bias, None, decoder_bias))
    transposed = jnp.asarray(np.asarray(weights).T)
    untied, same = gradient(Autoencoder(3, tied=False), AutoencoderParams(weights, bias, transposed, decoder_bias))
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    both = np.asarray(untied.weights) + np.asarray(untied.decoder_weights).T
    np.testing.assert_allclose(tied.weights, both, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tied.bias, untied.bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tied.decoder_bias, untied.decoder_bias, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- convergence to known optima


def full_gradient(learner: Any, params: Any, batch: Batch) -> float:
    """The largest entry of the gradient over all rows: how far from a stationary point."""
    grads, _, _ = learner.gradient(params, (), batch, jax.random.key(0))
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads))


def trained(learner: Any, optimizer: Any, batch: Batch, epochs: int) -> Any:
    """The parameters after so many full-batch updates."""
    return member(fit.run(learner, optimizer, batch, epochs=epochs, batch_size=len(batch.x), chunk=epochs).params, 0)


@pytest.mark.parametrize("tied", [True, False])
def test_linear_autoencoder_is_principal_component_analysis(tied: bool) -> None:
    """At its optimum it has PCA's reconstruction error, and its decoder spans PCA's subspace; no loss is lower."""
    random = np.random.default_rng(0)
    scales, rotation = np.array([1.5, 1.0, 0.4, 0.3, 0.2]), np.linalg.qr(random.standard_normal((5, 5)))[0]
    x = (random.standard_normal((50, 5)) * scales @ rotation + 0.5).astype(np.float32)
    batch, pca = Batch(jnp.asarray(x)), PCA(2).fit(x)
    learner = Autoencoder(2, tied=tied, loss="squared_error", activation="linear")
    params = trained(learner, Momentum(0.02, momentum=0.9), batch, 2000)
    assert full_gradient(learner, params, batch) < 1e-4
    optimum = np.square(x - pca.inverse_transform(pca.transform(x))).sum(axis=1).mean()
    np.testing.assert_allclose(learner.evaluate(params, batch, jax.random.key(0))["loss"], optimum, rtol=1e-4)
    directions = np.linalg.qr(np.asarray(learner.decoder(params).weights).T)[0]
    cosines = np.linalg.svd(pca.components_ @ directions, compute_uv=False)
    np.testing.assert_allclose(cosines, 1.0, atol=1e-4)


def test_logistic_autoregression_is_a_logistic_regression_a_feature() -> None:
    """The same L2 penalty: weight_decay/2 |W|^2 on the mean loss is C = 1/(rows * weight_decay). The diagonal, which
    momentum and decay touch too, stays exactly zero.
    """
    random, n_rows, n_features, weight_decay = np.random.default_rng(0), 60, 4, 0.02
    latent = random.standard_normal((n_rows, 2)) @ random.standard_normal((2, n_features))
    x = (latent + random.standard_normal((n_rows, n_features)) > 0).astype(np.float32)
    batch, learner = Batch(jnp.asarray(x)), LogisticAutoregression(n_features)
    x = x.astype(np.float64)  # or scikit-learn, too, optimises in single precision
    params = trained(learner, Momentum(0.5, weight_decay=weight_decay), batch, 1000)
    np.testing.assert_array_equal(np.diag(params.weights), 0.0)
    for i in range(n_features):
        others = np.arange(n_features) != i
        peer = LogisticRegression(C=1 / (n_rows * weight_decay), tol=1e-8, max_iter=1000).fit(x[:, others], x[:, i])
        np.testing.assert_allclose(np.asarray(params.weights)[others, i], peer.coef_[0], atol=1e-3)
        np.testing.assert_allclose(params.bias[i], peer.intercept_[0], atol=1e-3)


def test_classifier_without_hidden_layers_is_multinomial_logistic_regression() -> None:
    """The same L2 penalty; biases agree up to the constant that softmax ignores."""
    random, n_rows, weight_decay = np.random.default_rng(0), 60, 0.02
    y = np.arange(n_rows) % 3
    x = (random.standard_normal((n_rows, 4)) + random.standard_normal((3, 4))[y]).astype(np.float32)
    batch, learner = Batch(jnp.asarray(x), jnp.asarray(y, jnp.int32)), Classifier(3)
    x = x.astype(np.float64)  # or scikit-learn, too, optimises in single precision
    output = trained(learner, Momentum(0.2, weight_decay=weight_decay), batch, 1000).layers[0]
    peer = LogisticRegression(C=1 / (n_rows * weight_decay), tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(output.weights, peer.coef_.T, atol=1e-3)
    np.testing.assert_allclose(output.bias - output.bias.mean(), peer.intercept_ - peer.intercept_.mean(), atol=1e-3)


# ---------------------------------------------------------------- the layers of logistic autoregression


def autoregression_arrays() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    weights = random.standard_normal((5, 5)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights, random.standard_normal(5).astype(np.float32)


def test_equal_sized_autoregression_layer_keeps_weights_and_bias() -> None:
    weights, bias = autoregression_arrays()
    layer = LogisticAutoregression(5).layer(AutoregressionParams(jnp.asarray(weights), jnp.asarray(bias)))
    np.testing.assert_array_equal(layer.weights, weights)
    np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize("n_hidden", [1, 3, 4])
def test_smaller_autoregression_layer_is_the_leading_rotated_preactivations(n_hidden: int) -> None:
    """A = [b | W^T] = U S V': S V' [1; x] = U^T A [1; x], the full preactivation rotated. Singular vectors have no
    sign, so each unit is compared up to one.
    """
    weights, bias = autoregression_arrays()
    layer = LogisticAutoregression(n_hidden).layer(AutoregressionParams(jnp.asarray(weights), jnp.asarray(bias)))
    x = np.random.default_rng(3).random((20, 5))
    full = x @ weights + bias
    rotation, scales, directions = np.linalg.svd(np.column_stack([bias, weights.T]).astype(float), full_matrices=False)
    expected = (full @ rotation)[:, :n_hidden]
    np.testing.assert_allclose(expected[0, 0], scales[0] * directions[0] @ np.append(1.0, x[0]))  # as the text says
    units = np.asarray(layer.preactivation(jnp.asarray(x, jnp.float32)))
    signs = np.sign((units * expected).sum(axis=0))
    np.testing.assert_allclose(units, signs * expected, atol=1e-5)


def test_filled_diagonal_holds_each_regressions_largest_absolute_weight() -> None:
    weights, bias = autoregression_arrays()
    learner = LogisticAutoregression(5, fill_diagonal=True)
    layer = learner.layer(AutoregressionParams(jnp.asarray(weights), jnp.asarray(bias)))
    np.testing.assert_array_equal(np.diag(layer.weights), np.abs(weights).max(axis=0))
    np.testing.assert_array_equal(np.asarray(layer.weights) * (1 - np.eye(5)), weights)


def test_autoregression_refuses_more_units_than_inputs() -> None:
    with pytest.raises(ValueError, match="at most 5 units; got n_hidden=6"):
        LogisticAutoregression(6).init(jax.random.key(0), Batch(jnp.full((3, 5), 0.5)))


# ---------------------------------------------------------------- corruptions

N_VALUES = 200_000


def corrupted(corruption: Any, value: float) -> np.ndarray:
    x = jnp.full((N_VALUES // 100, 100), value)
    noisy = corruption(x, jax.random.key(0))
    assert (noisy.shape, noisy.dtype) == (x.shape, x.dtype)
    assert not np.array_equal(noisy, corruption(x, jax.random.key(1)))
    return np.asarray(noisy)


def assert_rate(chosen: np.ndarray, rate: float) -> None:
    """A fraction within the binomial's `SIGMAS` standard errors."""
    assert abs(chosen.mean() - rate) < SIGMAS * np.sqrt(rate * (1 - rate) / chosen.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masking_zeros_its_rate_and_leaves_the_rest(rate: float) -> None:
    noisy = corrupted(Masking(rate), 0.7)
    assert set(np.unique(noisy)) == {np.float32(0.0), np.float32(0.7)}
    assert_rate(noisy == 0.0, rate)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_salt_and_pepper_sets_half_its_rate_to_each_end(rate: float) -> None:
    noisy = corrupted(SaltPepper(rate), 0.7)
    assert set(np.unique(noisy)) == {np.float32(0.0), np.float32(0.7), np.float32(1.0)}
    assert_rate(noisy == 0.0, rate / 2)
    assert_rate(noisy == 1.0, rate / 2)


def test_gaussian_adds_noise_of_its_standard_deviation() -> None:
    """The standard error of a mean is std/sqrt(n), that of a normal sample's standard deviation std/sqrt(2 n)."""
    noise = corrupted(Gaussian(0.3), 0.7) - np.float32(0.7)
    assert abs(noise.mean(dtype=np.float64)) < SIGMAS * 0.3 / np.sqrt(N_VALUES)
    assert abs(noise.std(dtype=np.float64) - 0.3) < SIGMAS * 0.3 / np.sqrt(2 * N_VALUES)


@pytest.mark.parametrize("corruption", [NoCorruption(), Masking(0.0), SaltPepper(0.0), Gaussian(0.0)])
def test_no_corruption_is_the_identity(corruption: Any) -> None:
    x = jax.random.uniform(jax.random.key(0), (20, 30))
    np.testing.assert_array_equal(corruption(x, jax.random.key(1)), x)


def test_full_corruption_leaves_nothing() -> None:
    x = jnp.full((20, 30), 0.5)
    assert not np.any(Masking(1.0)(x, jax.random.key(0)))
    assert set(np.unique(SaltPepper(1.0)(x, jax.random.key(0)))) == {0.0, 1.0}


# ---------------------------------------------------------------- optimiser recipes

STEPS_PER_EPOCH, N_EPOCHS = 3, 4
SCHEDULES = {
    "constant": (Constant(), lambda epoch: 1.0),
    "linear": (Linear(end=3.0, start=1.0), lambda epoch: min(1.0, max(0.0, (3.0 - epoch) / 2.0))),
    "inverse": (Inverse(0.5), lambda epoch: 1.0 / (1.0 + 0.5 * epoch)),
}


@pytest.mark.parametrize("schedule", SCHEDULES.keys())
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
def test_recipe_is_the_loop_written_by_hand(momentum: bool, schedule: str) -> None:
    """Weight decay enters the gradient of matrices only; momentum switches and rates fall at the stated epochs."""
    random, (declared, factor) = np.random.default_rng(0), SCHEDULES[schedule]
    start = {"weights": random.standard_normal((3, 2)), "bias": random.standard_normal(2)}
    gradients = [jax.tree.map(lambda a: random.standard_normal(a.shape), start) for _ in range(12)]
    assert len(gradients) == STEPS_PER_EPOCH * N_EPOCHS
    options = {"learning_rate": 0.3, "schedule": declared, "weight_decay": 0.1}
    recipe = Momentum(initial_momentum=0.4, momentum=0.8, switch_epoch=2.0, **options) if momentum else Sgd(**options)
    transform = recipe.build(STEPS_PER_EPOCH)

    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), start)
    state, path = transform.init(params), []
    for grads in gradients:
        updates, state = transform.update(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), grads), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        path.append(params)

    for name, decay in (("weights", 0.1), ("bias", 0.0)):
        value, velocity = start[name].copy(), np.zeros_like(start[name])
        for step, grads in enumerate(gradients):
            epoch = step / STEPS_PER_EPOCH
            kept = 0.0 if not momentum else 0.4 if epoch < 2.0 else 0.8
            velocity = kept * velocity + grads[name] + decay * value
            value = value - 0.3 * factor(epoch) * velocity
            np.testing.assert_allclose(path[step][name], value, rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {step}")


# ---------------------------------------------------------------- deep autoencoders


def test_deep_autoencoder_mirrors_its_encoder() -> None:
    data = Batch(jnp.full((3, 7), 0.5))
    params, state = jax.eval_shape(DeepAutoencoder((5, 3)).init, jax.random.key(0), data)
    assert state == ()
    assert [layer.weights.shape for layer in params.encoder] == [(7, 5), (5, 3)]
    assert [layer.weights.shape for layer in params.decoder] == [(3, 5), (5, 7)]
    assert [layer.bias.shape[0] for layer in (*params.encoder, *params.decoder)] == [5, 3, 5, 7]
    assert params.decoder[-1].activation == "sigmoid"
    linear, _ = jax.eval_shape(DeepAutoencoder((5, 3), loss="squared_error").init, jax.random.key(0), data)
    assert linear.decoder[-1].activation == "linear"


def test_unrolled_stack_is_a_mean_field_pass_up_and_down() -> None:
    """A population of two stacks of RBMs with arbitrary parameters; and the loss of the unrolled network by hand."""
    random, sizes, members = np.random.default_rng(0), (6, 4, 3), 2

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(random.standard_normal((members, *shape)), jnp.float32)

    params = tuple(RBMParams(normal(n, m), normal(n), normal(m)) for n, m in itertools.pairwise(sizes))
    layers = tuple(Dense(p.weights, p.hidden_bias, "sigmoid") for p in params)
    stages = tuple(Stage(BernoulliRBM(n), Sgd(), epochs=1) for n in sizes[1:])
    unrolled = unroll(Pretrained(layers, params, stages, ()))
    x = random.random((9, 6))
    for m in range(members):
        (w1, b1, c1), (w2, b2, c2) = (tuple(np.asarray(a[m], np.float64) for a in p[:3]) for p in params)
        code = expit(expit(x @ w1 + c1) @ w2 + c2)
        reconstruction = expit(expit(code @ w2.T + b2) @ w1.T + b1)
        network, rows = member(unrolled, m), jnp.asarray(x, jnp.float32)
        np.testing.assert_allclose(network.encode(rows), code, rtol=1e-5)
        np.testing.assert_allclose(network.reconstruct(rows), reconstruction, rtol=1e-5)
        measures = DeepAutoencoder(sizes[1:]).evaluate(network, Batch(rows), jax.random.key(0))
        entropy = -(x * np.log(reconstruction) + (1 - x) * np.log1p(-reconstruction)).sum(axis=1).mean()
        np.testing.assert_allclose(measures["loss"], entropy, rtol=1e-5)
        np.testing.assert_allclose(
            measures["squared_error"], np.square(x - reconstruction).sum(axis=1).mean(), rtol=1e-5
        )


def test_unroll_refuses_a_learner_without_decoder() -> None:
    stage = Stage(Classifier(2), Sgd(), epochs=1)
    layer = Dense(jnp.zeros((1, 4, 2)), jnp.zeros((1, 2)), "linear")
    with pytest.raises(ValueError, match="Classifier learns no decoder"):
        unroll(Pretrained((layer,), (Network((layer,)),), (stage,), ()))
