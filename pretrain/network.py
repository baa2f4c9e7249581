"""Trained networks: what a stack becomes, and how it is used, checked and handed on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from pretrain import struct
from pretrain.checks import check_examples, check_labels
from pretrain.layers import ACTIVATIONS, Dense, compose, side_by_side
from pretrain.population import member
from pretrain.types import Batch

ROWS = 10_000
"""Rows pushed through a network at a time."""


@struct.dataclass
class Network:
    """Layers applied from the bottom up.

    Attributes:
        layers: of any kind in `pretrain.layers.KINDS`.
        head: whether the last layer gives a classifier's logits, rather than a code.
    """

    layers: tuple[Any, ...]
    head: bool = struct.field(pytree_node=False, default=False)

    def __call__(self, x: Array) -> Array:
        return compose(self.layers, x)


@struct.dataclass
class Unrolled:
    """An encoder and the decoder that mirrors it (a deep autoencoder).

    Attributes:
        encoder: layers from the input to the code.
        decoder: layers from the code to the reconstruction.
    """

    encoder: tuple[Any, ...]
    decoder: tuple[Any, ...]

    def encode(self, x: Array) -> Array:
        """The code of each row."""
        return compose(self.encoder, x)

    def reconstruct(self, x: Array) -> Array:
        """The reconstruction of each row."""
        return compose(self.decoder, self.encode(x))

    def __call__(self, x: Array) -> Array:
        return self.reconstruct(x)

    @property
    def encoder_network(self) -> Network:
        """The encoder alone."""
        return Network(self.encoder)


@jax.jit
def _apply(network: Any, x: Array) -> Array:
    return network(x)


def _check(network: Any) -> None:
    """Raises: ValueError: of what holds networks and is none."""
    if not isinstance(network, Network | Unrolled):
        raise ValueError(
            f"a {type(network).__name__} is no network: give pretrain.member(tuned.params, 0) of what fine_tune "
            "returned, pretrained.network(0) of a stack"
        )


def lower_layers(network: Network | Unrolled) -> tuple[Any, ...]:
    """The layers that a row goes through first, all of a network's."""
    return network.encoder if isinstance(network, Unrolled) else network.layers


def _in_blocks(network: Any, x: Any) -> np.ndarray:
    layers = lower_layers(network)
    if members := side_by_side(layers[0]):
        raise ValueError(f"this is a population of {members} networks: take one with pretrain.member(network, index)")
    x = np.asarray(x) if not isinstance(x, jax.Array) else x
    check_examples(x)
    if x.shape[-1] != layers[0].n_in:
        raise ValueError(f"the network takes {layers[0].n_in} features; x has {x.shape[-1]}")
    return np.concatenate([np.asarray(_apply(network, jnp.asarray(x[i : i + ROWS]))) for i in range(0, len(x), ROWS)])


def encode(network: Network | Unrolled, x: Any, depth: int | None = None) -> np.ndarray:
    """The codes ``[rows, units]`` after the lowest ``depth`` layers.

    Args:
        network: a stack, a classifier, or an unrolled autoencoder.
        x: ``[rows, features]``.
        depth: how many layers; default: all that code, so not a classifier's output.

    Raises:
        ValueError: if ``x`` or ``depth`` does not fit the network.
    """
    _check(network)
    layers = lower_layers(network)
    if depth is None:
        depth = len(layers) - (isinstance(network, Network) and network.head)
    if not 1 <= depth <= len(layers):
        raise ValueError(f"depth must lie in 1..{len(layers)}; got {depth}")
    return _in_blocks(Network(layers[:depth]), x)


def reconstruct(network: Unrolled, x: Any) -> np.ndarray:
    """Reconstructions ``[rows, features]`` of ``x`` by an unrolled autoencoder.

    Raises:
        ValueError: if ``x`` does not fit the network, or it is no autoencoder.
    """
    if not isinstance(network, Unrolled):
        raise ValueError(
            f"a {type(network).__name__} does not reconstruct: unroll a pretrained stack (pretrain.unroll)"
        )
    return _in_blocks(network, x)


def predict(network: Network, x: Any) -> np.ndarray:
    """The most probable label of each row: ``[rows]`` int32.

    Raises:
        ValueError: if ``x`` does not fit the network, it is no classifier, or it has diverged.
    """
    logits = _logits(network, x)
    if not np.isfinite(logits).all():
        raise ValueError("the network's outputs are NaN or infinite, it has diverged: train it at a lower rate")
    return logits.argmax(axis=-1).astype(np.int32)


def _logits(network: Network, x: Any) -> np.ndarray:
    _check(network)
    if not isinstance(network, Network) or not network.head:
        raise ValueError("this network has no output layer of classes: fine-tune a Classifier on it first")
    return _in_blocks(network, x)


def evaluate(network: Network, batch: Batch) -> Any:
    """Misclassified rows of a labelled batch, in percent, a float; NaN of a network that has diverged. Of a population
    each member's, ``[members]``, one after the other.

    Raises:
        ValueError: if the batch does not fit the network.
    """
    _check(network)
    if members := side_by_side(lower_layers(network)[0]):
        return np.array([evaluate(member(network, index), batch) for index in range(members)])
    logits, labels = _logits(network, batch.x), None if batch.y is None else np.asarray(batch.y)
    check_labels(labels, len(batch.x), network.layers[-1].n_out)
    return float(100.0 * (logits.argmax(axis=-1) != labels).mean()) if np.isfinite(logits).all() else float("nan")


class FixedModule(nnx.Module):
    """A layer that is not trained, in flax: its arrays are an `nnx.Variable` but no `nnx.Param`."""

    def __init__(self, layer: Any) -> None:
        self.layer = nnx.Variable(layer)

    def __call__(self, x: Array) -> Array:
        return self.layer.get_value()(x)


def to_nnx(network: Network) -> nnx.Sequential:
    """The same network as a `flax.nnx.Sequential` of linear layers and activations, for further work in flax; fixed
    layers (`KernelMap`, `Rescaling`) are wrapped in a `FixedModule`.
    """
    modules: list[Any] = []
    for layer in network.layers:
        if not isinstance(layer, Dense):
            modules.append(FixedModule(layer))
            continue
        linear = nnx.Linear(layer.n_in, layer.n_out, rngs=nnx.Rngs(0))
        linear.kernel[...] = layer.weights
        assert linear.bias is not None
        linear.bias[...] = layer.bias
        modules.append(linear)
        if layer.activation != "linear":
            modules.append(ACTIVATIONS[layer.activation])
    return nnx.Sequential(*modules)
