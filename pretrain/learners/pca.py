"""Principal components, in closed form: the best linear code of its size.

With the mean ``m`` and the covariance ``C = U diag(v) U^T`` of the training rows::

    code             z = (x - m) U            whitened: divided by sqrt(v)
    reconstruction   x' = z U^T + m           of all linear ones of this size, the least squared error

References: Hotelling, Journal of Educational Psychology 24 (1933); Baldi & Hornik, Neural Networks 2:53-58 (1989): a
linear autoencoder learns no more than these.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import Dense
from pretrain.moments import inverse_root, leading, mean_of_rows, moments, signs
from pretrain.types import Batch, Inputs

FLOOR = 1e-5
"""The least variance that is whitened, relative to the largest; components with less become 0."""


class PCAParams(NamedTuple):
    """Attributes: ``mean`` [features], ``components`` [features, components] of length 1, ``variances`` [components],
    falling.
    """

    mean: Array
    components: Array
    variances: Array


@struct.dataclass
class PCA:
    """Principal components: a `pretrain.types.Solver`. Its layer is trained further by fine-tuning.

    Attributes:
        n_components: components, at most as many as features and as rows.
        whiten: whether each component is scaled to variance 1 over the training rows; those with less than `FLOOR`
            times the largest variance are 0.
    """

    n_components: int = struct.field(pytree_node=False)
    whiten: bool = struct.field(pytree_node=False, default=False)

    needs = ()

    def __post_init__(self) -> None:
        check_sizes(n_components=self.n_components)

    @property
    def inputs(self) -> Inputs:
        return "real"

    def solve(self, key: Array, data: Batch) -> PCAParams:
        """The components of all training rows; nothing is drawn.

        Raises:
            ValueError: if there are fewer rows or features than components.
        """
        rows, n_features = data.x.shape
        if self.n_components > min(rows, n_features):
            raise ValueError(
                f"n_components {self.n_components} is larger than the {rows} training rows or the {n_features} "
                f"features: choose at most {min(rows, n_features)}"
            )
        mean, covariance = moments(lambda x: x, data.x, mean_of_rows(data.x))
        variances, components = leading(covariance, self.n_components)
        return PCAParams(mean, components * signs(components), jnp.maximum(variances, 0.0))

    def _inverse_scale(self, params: PCAParams) -> Array:
        if not self.whiten:
            return jnp.ones_like(params.variances)
        return inverse_root(jnp.where(params.variances > FLOOR * params.variances[0], params.variances, 0.0))

    def layer(self, params: PCAParams) -> Dense:
        """The projection, linear."""
        weights = params.components * self._inverse_scale(params)
        return Dense(weights, -jnp.matmul(params.mean, weights, precision="highest"), "linear")

    def decoder(self, params: PCAParams) -> Dense:
        """The reconstruction, linear."""
        scale = self._inverse_scale(params)
        length = jnp.where(scale > 0.0, 1.0 / jnp.where(scale > 0.0, scale, 1.0), 0.0)
        return Dense(params.components.T * length[:, None], params.mean, "linear")
