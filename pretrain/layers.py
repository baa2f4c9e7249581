"""Layers: callable pytrees, passed up from one learner to the next.

A layer owns its arrays as leaves and its choices (the activation) as static fields, so that it can be differentiated,
vmapped over members, saved and restored like any other pytree. Each kind declares the dimensions of its arrays
(``shapes``) and what its static fields may be (``choices``), by which a saved network is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.kernels import KERNELS
from pretrain.moments import BLOCK
from pretrain.types import Batch, Layer


def linear(x: Array) -> Array:
    """The identity: logits, and real-valued reconstructions."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "linear": linear,
}
"""The activations a layer may name. Names, not functions, are stored, so that a saved network can be checked."""

Shapes = dict[str, tuple[str, ...]]
"""Array to its dimensions; equal names are equal sizes."""

Choices = dict[str, Collection[str] | type[int]]
"""Static field to the names it may hold, or ``int``: a whole number of at least 1."""


@struct.dataclass
class Dense:
    """An affine map and an activation: ``activation(x @ weights + bias)``.

    Attributes:
        weights: ``[n_in, n_out]``.
        bias: ``[n_out]``.
        activation: a key of `ACTIVATIONS`.
    """

    weights: Array
    bias: Array
    activation: str = struct.field(pytree_node=False, default="sigmoid")

    shapes: ClassVar[Shapes] = {"weights": ("n_in", "n_out"), "bias": ("n_out",)}
    choices: ClassVar[Choices] = {"activation": ACTIVATIONS}
    fixed: ClassVar[bool] = False

    @property
    def n_in(self) -> int:
        """Input features, whether or not there is a member axis."""
        return self.weights.shape[-2]

    @property
    def n_out(self) -> int:
        """Units, likewise."""
        return self.weights.shape[-1]

    def preactivation(self, x: Array) -> Array:
        """Maps ``[..., n_in]`` to ``[..., n_out]``, before the activation."""
        return x @ self.weights + self.bias

    def __call__(self, x: Array) -> Array:
        return ACTIVATIONS[self.activation](self.preactivation(x))


def side_by_side(layer: Any) -> int | None:
    """How many members a layer has: 0 of one alone, without a member axis; None if it does not say by its ``shapes``
    how many dimensions its arrays have.
    """
    for array, dimensions in getattr(layer, "shapes", {}).items():
        shape = getattr(layer, array).shape
        return 0 if len(shape) == len(dimensions) else shape[0]
    return None


@struct.dataclass
class KernelMap:
    """An affine map of kernels with landmarks: ``k(x, landmarks) @ projection + bias``.

    It stays as it is while a network is fine-tuned: it is differentiable in ``x``, but its own arrays get zero
    gradients. Many rows pass in blocks, so that their kernels are never all held at once.

    Attributes:
        landmarks: ``[landmarks, n_in]``.
        projection: ``[landmarks, n_out]``.
        bias: ``[n_out]``.
        gamma: the kernel's scale.
        coef0: the polynomial kernel's constant.
        kernel: a key of `pretrain.kernels.KERNELS`.
        degree: of the polynomial kernel.
    """

    landmarks: Array
    projection: Array
    bias: Array
    gamma: Array
    coef0: Array
    kernel: str = struct.field(pytree_node=False, default="rbf")
    degree: int = struct.field(pytree_node=False, default=2)

    shapes: ClassVar[Shapes] = {
        "landmarks": ("landmarks", "n_in"),
        "projection": ("landmarks", "n_out"),
        "bias": ("n_out",),
        "gamma": (),
        "coef0": (),
    }
    choices: ClassVar[Choices] = {"kernel": KERNELS, "degree": int}
    fixed: ClassVar[bool] = True

    @property
    def n_in(self) -> int:
        """Input features, whether or not there is a member axis."""
        return self.landmarks.shape[-1]

    @property
    def n_out(self) -> int:
        """Components, likewise."""
        return self.projection.shape[-1]

    def __call__(self, x: Array) -> Array:
        """Maps ``[..., n_in]`` to ``[..., n_out]``."""
        own = jax.lax.stop_gradient(self)

        def components(x: Array) -> Array:
            kernels = KERNELS[own.kernel](x, own.landmarks, own.gamma, own.coef0, own.degree)
            return jnp.matmul(kernels, own.projection, precision="highest") + own.bias

        return _in_blocks(components, x)


@struct.dataclass
class Rescaling:
    """A shift and a scale of each feature: ``(x - mean) / deviation``. It stays as it is while a network is fine-tuned.

    Attributes:
        mean: ``[n_in]``.
        deviation: ``[n_in]``.
    """

    mean: Array
    deviation: Array

    shapes: ClassVar[Shapes] = {"mean": ("n_in",), "deviation": ("n_in",)}
    choices: ClassVar[Choices] = {}
    fixed: ClassVar[bool] = True
    activation: ClassVar[str] = "linear"

    @property
    def n_in(self) -> int:
        """Features, whether or not there is a member axis."""
        return self.mean.shape[-1]

    n_out = n_in

    def preactivation(self, x: Array) -> Array:
        """Maps ``[..., n_in]`` to itself."""
        own = jax.lax.stop_gradient(self)
        return (x - own.mean) / own.deviation

    def __call__(self, x: Array) -> Array:
        return self.preactivation(x)


@struct.dataclass
class MeanField:
    """The input and, beside it, the mean-field posterior of the second hidden layer of a deep Boltzmann machine:
    ``[x, q(h2 = 1 | x)]``. It stays as it is while a network is fine-tuned.

    The machine (`pretrain.generative.dbm`) is stored as two sides, so that it may have any number of hidden layers: the
    odd ones, h1, h3, .., and the even ones, h2, h4, .., between which all its weights are::

        odd = sigmoid(x weights_in + even weights' + bias_odd),    even = sigmoid(odd weights + bias_even)

    is repeated ``steps`` times, from the pass up in which x counts twice. Many rows pass in blocks.

    Attributes:
        weights_in: ``[n_in, odd]``; zero beyond h1.
        weights: ``[odd, even]``.
        bias_odd: ``[odd]``.
        bias_even: ``[even]``.
        n_second: units of h2, the first of the even side.
        steps: how many sweeps over both sides; as many as bring the posteriors of such rows to rest.
    """

    weights_in: Array
    weights: Array
    bias_odd: Array
    bias_even: Array
    n_second: int = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)

    shapes: ClassVar[Shapes] = {
        "weights_in": ("n_in", "odd"),
        "weights": ("odd", "even"),
        "bias_odd": ("odd",),
        "bias_even": ("even",),
    }
    choices: ClassVar[Choices] = {"n_second": int, "steps": int}
    fixed: ClassVar[bool] = True

    @property
    def n_in(self) -> int:
        """Input features, whether or not there is a member axis."""
        return self.weights_in.shape[-2]

    @property
    def n_out(self) -> int:
        """Input features and units of the second hidden layer, likewise."""
        return self.n_in + min(self.n_second, self.bias_even.shape[-1])

    def __call__(self, x: Array) -> Array:
        """Maps ``[..., n_in]`` to ``[..., n_out]``."""
        own = jax.lax.stop_gradient(self)

        def joined(x: Array) -> Array:
            heard = x @ own.weights_in

            def up(odd: Array) -> Array:
                return jax.nn.sigmoid(odd @ own.weights + own.bias_even)

            def sweep(_: Any, even: Array) -> Array:
                return up(jax.nn.sigmoid(heard + even @ own.weights.T + own.bias_odd))

            even = jax.lax.fori_loop(0, own.steps, sweep, up(jax.nn.sigmoid(2.0 * heard + own.bias_odd)))
            return jnp.concatenate([x, even[..., : own.n_second]], axis=-1)

        return _in_blocks(joined, x)


def _in_blocks(function: Callable[[Array], Array], x: Array) -> Array:
    """A function of rows, of all rows of ``x`` ``[..., n_in]``: many of them block by block, to hold less at once."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= BLOCK:
        return function(x)
    return jax.lax.map(function, rows, batch_size=BLOCK).reshape(*x.shape[:-1], -1)


KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Dense, KernelMap, MeanField, Rescaling)}
"""The layers a saved network may hold."""


def uniform(key: Array, n_in: int, n_out: int, scale: Array | float = 1.0) -> Array:
    """Weights ``[n_in, n_out]`` drawn from U(-scale/sqrt(n_in), scale/sqrt(n_in)), the initialisation of 2009."""
    return jax.random.uniform(key, (n_in, n_out), minval=-1.0, maxval=1.0) * scale / jnp.sqrt(n_in)


def glorot(key: Array, n_in: int, n_out: int, scale: Array | float = 1.0) -> Array:
    """Weights ``[n_in, n_out]`` drawn from U(-scale a, scale a), a = sqrt(6/(n_in + n_out)): of variance
    2 scale^2/(n_in + n_out).

    Reference: Glorot & Bengio, *Understanding the difficulty of training deep feedforward neural networks*, AISTATS
    2010.
    """
    bound = jnp.sqrt(6.0 / (n_in + n_out))
    return jax.random.uniform(key, (n_in, n_out), minval=-1.0, maxval=1.0) * scale * bound


def he(key: Array, n_in: int, n_out: int, scale: Array | float = 1.0) -> Array:
    """Weights ``[n_in, n_out]`` drawn from N(0, 2 scale^2/n_in), for rectified linear units.

    Reference: He, Zhang, Ren & Sun, *Delving deep into rectifiers*, ICCV 2015.
    """
    return jax.random.normal(key, (n_in, n_out)) * scale * jnp.sqrt(2.0 / n_in)


INITIALIZATIONS: dict[str, Callable[..., Array]] = {"uniform": uniform, "glorot": glorot, "he": he}
"""The initial weights a learner may name: functions of (key, n_in, n_out, scale)."""


def logit_mean(x: Array) -> Array:
    """The logit of each feature's mean over rows ``[rows, features]`` in [0, 1]: the bias of a unit that predicts it.

    Means are kept within [1/(rows + 1), rows/(rows + 1)]: a pixel that is never on gets a finite bias.
    """
    rows = x.shape[0]
    mean = jnp.clip(x.mean(axis=0), 1.0 / (rows + 1), rows / (rows + 1))
    return jnp.log(mean) - jnp.log1p(-mean)


def compose(layers: Sequence[Layer], x: Array) -> Array:
    """Applies the layers from the bottom up: ``[..., n_in]`` to ``[..., n_out]``."""
    for layer in layers:
        x = layer(x)
    return x


def through(layers: Sequence[Layer], batch: Batch) -> Batch:
    """The batch as the next layer sees it: ``x`` and ``pair`` mapped; labels, and pairs by row number, kept."""
    if not layers:
        return batch
    pair = batch.pair
    if pair is not None and jnp.issubdtype(pair.dtype, jnp.floating):
        pair = compose(layers, pair)
    return batch._replace(x=compose(layers, batch.x), pair=pair)


def check_initialization(name: str) -> None:
    """Raises ValueError where it is no key of `INITIALIZATIONS`."""
    if name not in INITIALIZATIONS:
        raise ValueError(f"initialization must be one of {', '.join(INITIALIZATIONS)}; got {name!r}")
