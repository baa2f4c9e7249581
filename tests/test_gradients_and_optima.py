"""Gradients against finite differences in float64, and optima against PCA and logistic regression of scikit-learn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import assert_agree, automatic_and_numeric
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from pretrain import (
    Autoencoder,
    Batch,
    Classifier,
    DeepAutoencoder,
    Gaussian,
    LogisticAutoregression,
    Masking,
    Momentum,
    fit,
    member,
)
from pretrain.learners.autoencoder import AutoencoderParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- gradients


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
    """Central differences of the loss it reports, one parameter at a time."""
    random = np.random.default_rng(1)
    batch = Batch(jnp.asarray(random.random((7, 4))), jnp.asarray(LABELS))
    grads, numeric = automatic_and_numeric(learner, batch, random)
    if isinstance(learner, LogisticAutoregression):  # the diagonal is no parameter
        np.testing.assert_array_equal(np.diag(grads.weights), 0.0)
        numeric = numeric._replace(weights=numeric.weights * (1 - np.eye(4)))
    assert_agree(grads, numeric)


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


@pytest.mark.slow
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
