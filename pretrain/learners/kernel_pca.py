"""Kernel principal components, in closed form; stacked, a deep network of kernel layers.

With landmarks ``L`` (training rows; all of them, or a sample), the eigenvectors ``V`` and eigenvalues ``S`` of
``k(L, L)``, and the mean ``m`` and covariance ``C = U diag(v) U^T`` of ``phi`` over *all* training rows::

    features     phi(x) = k(x, L) V S^(-1/2)                 phi(x).phi(y) = k(x, y) on the span of the landmarks
    components   z(x)   = (phi(x) - m) U                     the leading columns of U; variances v

With all rows as landmarks this is exact kernel PCA, with a sample its Nystroem approximation. Neither ``phi`` nor the
kernel of all rows with all landmarks is ever held at once: rows pass in blocks.

float32 resolves eigenvalues to a few times 1e-7 of the largest. Directions with less than `FLOOR` times the largest
eigenvalue of ``k(L, L)`` (per landmark, of ``C`` likewise) are left out; components beyond the rank are zero.

References: Schoelkopf, Smola & Mueller, *Nonlinear component analysis as a kernel eigenvalue problem*, Neural
Computation 10:1299-1319 (1998); Williams & Seeger, *Using the Nystroem method to speed up kernel machines*, NIPS 2000;
stacked: Cho & Saul, *Kernel methods for deep learning*, NIPS 2009.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.kernels import KERNELS
from pretrain.layers import KernelMap
from pretrain.moments import inverse_root, leading, moments, signs
from pretrain.types import Batch, Inputs

FLOOR = 1e-5
"""The least eigenvalue that counts, relative to the largest: some eighty float32 roundings."""


class KernelPCAParams(NamedTuple):
    """Attributes: ``map`` gives the components; ``variances`` [components] are theirs before they are normalised, 0
    beyond the rank.
    """

    map: KernelMap
    variances: Array


@struct.dataclass
class KernelPCA:
    """Kernel principal components: a `pretrain.types.Solver`.

    It takes about ``landmarks^3 + rows * landmarks * (features + 2 landmarks)`` multiplications.

    Attributes:
        n_components: components, at most as many as landmarks.
        kernel: a key of `pretrain.kernels.KERNELS`.
        degree: of the polynomial kernel.
        n_landmarks: so many training rows, drawn without replacement, span the components; None: all rows do.
        normalise: whether components are scaled to variance 1 over the training rows, so that the next layer's kernel
            does not see the leading few alone.
        gamma: the kernel's scale; None: ``1 / (features * variance of all entries of x)``.
        coef0: the polynomial kernel's constant.
    """

    n_components: int = struct.field(pytree_node=False)
    kernel: str = struct.field(pytree_node=False, default="rbf")
    degree: int = struct.field(pytree_node=False, default=2)
    n_landmarks: int | None = struct.field(pytree_node=False, default=None)
    normalise: bool = struct.field(pytree_node=False, default=True)
    gamma: float | Array | None = None
    coef0: float | Array = 1.0

    needs = ()

    def __post_init__(self) -> None:
        check_sizes(n_components=self.n_components, degree=self.degree)
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {self.kernel!r}")
        if self.n_landmarks is not None:
            check_sizes(n_landmarks=self.n_landmarks)
            _check_components(self.n_components, self.n_landmarks, "landmarks")
        if isinstance(self.gamma, int | float) and not 0.0 < self.gamma < float("inf"):
            raise ValueError(f"gamma must be a positive number; got {self.gamma}: give None for the scale of the data")
        if isinstance(self.coef0, int | float) and not 0.0 <= self.coef0 < float("inf"):
            raise ValueError(f"coef0 must be 0 or more; got {self.coef0}: below 0 the kernel is no inner product")

    @property
    def inputs(self) -> Inputs:
        return "real"

    def solve(self, key: Array, data: Batch) -> KernelPCAParams:
        """The components of all training rows.

        Raises:
            ValueError: if there are fewer rows than landmarks or components.
        """
        x = data.x
        rows, n_features = x.shape
        if self.n_landmarks is not None and self.n_landmarks > rows:
            raise ValueError(f"n_landmarks {self.n_landmarks} is larger than the {rows} training rows: choose fewer")
        _check_components(self.n_components, rows, "training rows")
        landmarks = x
        if self.n_landmarks is not None:
            landmarks = x[jax.random.choice(key, rows, (self.n_landmarks,), replace=False)]
        variance = x.var()
        scale = 1.0 / (n_features * jnp.where(variance > 0.0, variance, 1.0))
        gamma = scale if self.gamma is None else jnp.asarray(self.gamma, jnp.float32)
        coef0 = jnp.asarray(self.coef0, jnp.float32)

        def kernel(x: Array) -> Array:
            return KERNELS[self.kernel](x, landmarks, gamma, coef0, self.degree)

        gram = kernel(landmarks)
        values, vectors = jnp.linalg.eigh(gram)
        floor = FLOOR * values[-1]
        whitening = vectors * inverse_root(jnp.where(values > floor, values, 0.0))

        def features(x: Array) -> Array:
            return _product(kernel(x), whitening)

        mean, covariance = moments(features, x, _product(gram.mean(axis=0), whitening))
        variances, directions = leading(covariance, self.n_components)
        variances = jnp.where(variances > floor / landmarks.shape[0], variances, 0.0)
        directions = directions * (inverse_root(variances) if self.normalise else variances > 0.0)
        projection = _product(whitening, directions)
        sign = signs(projection)
        bias = -_product(mean, directions) * sign
        return KernelPCAParams(
            KernelMap(landmarks, projection * sign, bias, gamma, coef0, self.kernel, self.degree), variances
        )

    def layer(self, params: KernelPCAParams) -> KernelMap:
        """The map to the components; it stays as it is while a network is fine-tuned."""
        return params.map


def _check_components(n_components: int, limit: int, of: str) -> None:
    if n_components > limit:
        raise ValueError(f"n_components {n_components} is larger than the {limit} {of}: choose at most {limit}")


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
