"""Logistic autoregression: every input is predicted from all the others by logistic regression.

::

    x_hat = sigmoid(x W + b),   W square with a zero diagonal,   L = cross-entropy(x, x_hat)

A convex problem. The hidden layer of equal size keeps W and b. A smaller one, of k units, keeps the k leading
directions of A = [b | W^T] = U S V': unit j gets the weights S_j V'[j, 1:] and the bias S_j V'[j, 0]. Units cannot
outnumber inputs. The null diagonal may be filled, once trained, with the largest absolute weight of each regression,
so that a unit of the equal-sized layer sees its own input too.

Reference: Larochelle, Bengio, Louradour & Lamblin, JMLR 10:1-40 (2009), section 4.2 ("stacked logistic
autoregressions"). The reduction by singular vectors is that of the authors' own library, PLearn (``StackedSVDNet``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import Dense, logit_mean
from pretrain.types import Batch, Inputs, Metrics


class AutoregressionParams(NamedTuple):
    """Attributes: ``weights`` [features, features], column i predicts feature i, zero diagonal; ``bias`` [features]."""

    weights: Array
    bias: Array


@struct.dataclass
class LogisticAutoregression:
    """One layer of logistic autoregression.

    Attributes:
        n_hidden: units of the layer passed up, at most the number of inputs.
        fill_diagonal: whether the trained null diagonal is filled with the largest absolute weight of each regression.
    """

    n_hidden: int = struct.field(pytree_node=False)
    fill_diagonal: bool = struct.field(pytree_node=False, default=False)

    needs = ()

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden)

    @property
    def inputs(self) -> Inputs:
        return "unit"

    def init(self, key: Array, data: Batch) -> tuple[AutoregressionParams, Any]:
        """Zero weights and the logit of each feature's mean as bias; the problem is convex.

        Raises:
            ValueError: if there are more units than inputs.
        """
        n_features = data.x.shape[-1]
        if self.n_hidden > n_features:
            raise ValueError(
                f"a logistic autoregression of {n_features} inputs has at most {n_features} units; got "
                f"n_hidden={self.n_hidden}: layer sizes must not increase"
            )
        return AutoregressionParams(jnp.zeros((n_features, n_features)), logit_mean(data.x)), ()

    def _loss(self, params: AutoregressionParams, x: Array) -> Array:
        preactivation = x @ params.weights + params.bias
        return optax.sigmoid_binary_cross_entropy(preactivation, x).sum(axis=-1).mean()

    def gradient(self, params: AutoregressionParams, state: Any, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        """The gradient of the mean cross-entropy, zero on the diagonal."""
        loss, grads = jax.value_and_grad(self._loss)(params, batch.x)
        off_diagonal = 1.0 - jnp.eye(grads.weights.shape[0])
        return grads._replace(weights=grads.weights * off_diagonal), state, {"loss": loss}

    def evaluate(self, params: AutoregressionParams, batch: Batch, key: Array) -> Metrics:
        """``loss``: the mean cross-entropy in nats, summed over features."""
        return {"loss": self._loss(params, batch.x)}

    def layer(self, params: AutoregressionParams) -> Dense:
        """The hidden layer: W and b themselves, or their leading singular directions."""
        weights, bias = params
        n_features = bias.shape[0]
        if self.fill_diagonal:
            weights = weights + jnp.diag(jnp.abs(weights).max(axis=0))
        if self.n_hidden == n_features:
            return Dense(weights, bias, "sigmoid")
        joined = jnp.concatenate([bias[:, None], weights.T], axis=1)
        _, scales, directions = jnp.linalg.svd(joined, full_matrices=False)
        leading = (scales[:, None] * directions)[: self.n_hidden]
        return Dense(leading[:, 1:].T, leading[:, 0], "sigmoid")
