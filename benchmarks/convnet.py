"""A small convolutional network in flax: the reader's modern reference beside the layers of 2009.

Two convolutions of 5 x 5, each rectified and pooled over 2 x 2, then a rectified hidden layer under dropout and a
softmax output, trained on the cross-entropy by the loop that trains everything.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.learners.classifier import classification, drop
from pretrain.types import Batch, Inputs, Metrics, Needs

BLOCK = 500
"""Rows whose feature maps are held at once where nothing is learned."""


class Convolution(nnx.Module):
    """A convolution whose output is as large as its input, as a linear map of patches.

    The same numbers as `flax.nnx.Conv`, whose gradients XLA's CPU backend computes far more slowly inside a scan.
    """

    def __init__(self, n_in: int, n_out: int, side: int, rngs: nnx.Rngs):
        self.side = side
        self.linear = nnx.Linear(side * side * n_in, n_out, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Maps ``[rows, height, width, n_in]`` to ``[rows, height, width, n_out]``."""
        height, width = images.shape[1:3]
        reach = self.side // 2
        padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        patches = [padded[:, i : i + height, j : j + width] for i in range(self.side) for j in range(self.side)]
        return self.linear(jnp.concatenate(patches, axis=-1))


def pooled(images: Array) -> Array:
    """The largest of every 2 x 2 values."""
    rows, height, width, channels = images.shape
    return images.reshape(rows, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


class Module(nnx.Module):
    """The network: images ``[rows, height, width, eyes]`` to logits."""

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, int], n_hidden: int, n_classes: int, key: Any):
        rngs = nnx.Rngs(key)
        eyes, height, width = shape
        self.first = Convolution(eyes, channels[0], 5, rngs)
        self.second = Convolution(channels[0], channels[1], 5, rngs)
        self.hidden = nnx.Linear(height // 4 * (width // 4) * channels[1], n_hidden, rngs=rngs)
        self.output = nnx.Linear(n_hidden, n_classes, rngs=rngs)

    def code(self, images: Array) -> Array:
        """The hidden layer, ``[rows, n_hidden]``."""
        for convolution in (self.first, self.second):
            images = pooled(jax.nn.relu(convolution(images)))
        return jax.nn.relu(self.hidden(images.reshape(len(images), -1)))


@struct.dataclass
class ConvLayer:
    """The network as a layer: rows ``[rows, eyes * height * width]`` to logits ``[rows, n_classes]``."""

    graph: Any = struct.field(pytree_node=False)
    state: Any
    shape: tuple[int, int, int] = struct.field(pytree_node=False)

    def code(self, x: Array) -> Array:
        """The hidden layer, ``[rows, n_hidden]``."""
        images = x.reshape(-1, *self.shape).transpose(0, 2, 3, 1)
        return nnx.merge(self.graph, self.state).code(images)

    def head(self, code: Array) -> Array:
        """The output layer."""
        return nnx.merge(self.graph, self.state).output(code)

    def __call__(self, x: Array) -> Array:
        return self.head(self.code(x))


@struct.dataclass
class ConvNet:
    """A convolutional classifier, a `pretrain.types.Learner`.

    Attributes:
        n_classes: labels are ``0 .. n_classes - 1``.
        shape: eyes, height and width of an input; both sides multiples of 4.
        channels: of the two convolutions.
        n_hidden: units of the hidden layer.
        dropout: probability of dropping one of these while training.
    """

    n_classes: int = struct.field(pytree_node=False)
    shape: tuple[int, int, int] = struct.field(pytree_node=False)
    channels: tuple[int, int] = struct.field(pytree_node=False, default=(16, 32))
    n_hidden: int = struct.field(pytree_node=False, default=128)
    dropout: float | Array = 0.5

    def __post_init__(self) -> None:
        check_sizes(n_classes=self.n_classes, n_hidden=self.n_hidden)
        if len(self.shape) != 3 or any(side < 4 or side % 4 for side in self.shape[1:]):
            raise ValueError(f"shape must be (eyes, height, width), both sides multiples of 4; got {self.shape}")

    @property
    def inputs(self) -> Inputs:
        return "real"

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("labels",)

    def _module(self, key: Any) -> Module:
        return Module(self.shape, self.channels, self.n_hidden, self.n_classes, key)

    def init(self, key: Array, data: Batch) -> tuple[Any, Any]:
        """Flax's own initialisation (LeCun's normal, zero biases)."""
        n_in = data.x.shape[-1]
        if n_in != self.shape[0] * self.shape[1] * self.shape[2]:
            raise ValueError(f"the network takes images of {self.shape}; got {n_in} features")
        return nnx.to_pure_dict(nnx.split(self._module(key))[1]), ()

    def layer(self, params: Any) -> ConvLayer:
        """The whole network."""
        graph, state = nnx.split(nnx.eval_shape(lambda: self._module(jax.random.key(0))))
        nnx.replace_by_pure_dict(state, params)
        return ConvLayer(graph, state, self.shape)

    def gradient(self, params: Any, state: Any, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        """The gradient of the mean cross-entropy, under dropout; reports ``loss`` in nats and ``error`` in percent."""

        def objective(params: Any) -> tuple[Array, Metrics]:
            layer = self.layer(params)
            measures = classification(layer.head(drop(layer.code(batch.x), key, self.dropout)), batch.y)
            return measures["loss"], measures

        grads, measures = jax.grad(objective, has_aux=True)(params)
        return grads, state, measures

    def evaluate(self, params: Any, batch: Batch, key: Array) -> Metrics:
        """``error`` in percent and ``loss``, the mean cross-entropy in nats."""
        layer = self.layer(params)
        logits = jax.lax.map(lambda row: layer(row[None])[0], batch.x, batch_size=BLOCK)
        return classification(logits, batch.y)
