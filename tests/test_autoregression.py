"""The layers of logistic autoregression against numpy's singular vectors of its weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrain import Batch, LogisticAutoregression
from pretrain.learners.logistic_autoregression import AutoregressionParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


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
