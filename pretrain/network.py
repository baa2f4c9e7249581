"""Trained networks: what a stack becomes, and how it is used, saved, checked and handed on.

A saved network is one ``.npz`` file: a JSON header that names the format and each layer, and the arrays. It is read
without pickle, and everything in it is checked before it is believed.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax import Array

from pretrain.checks import check_examples, check_labels
from pretrain.layers import ACTIVATIONS, Dense, compose
from pretrain.types import Batch

FORMAT, VERSION = "pretrain-network", 1
ROWS = 10_000
"""Rows pushed through a network at a time."""


@struct.dataclass
class Network:
    """Layers applied from the bottom up.

    Attributes:
        layers: `pretrain.layers.Dense` layers.
        head: whether the last layer gives a classifier's logits, rather than a code.
    """

    layers: tuple[Dense, ...]
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

    encoder: tuple[Dense, ...]
    decoder: tuple[Dense, ...]

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


def _in_blocks(network: Any, x: Any) -> np.ndarray:
    layers = network.encoder if isinstance(network, Unrolled) else network.layers
    weights = layers[0].weights
    if weights.ndim != 2:
        raise ValueError(
            f"this is a population of {weights.shape[0]} networks: take one with pretrain.member(network, index)"
        )
    x = np.asarray(x) if not isinstance(x, jax.Array) else x
    check_examples(x)
    if x.shape[-1] != weights.shape[0]:
        raise ValueError(f"the network takes {weights.shape[0]} features; x has {x.shape[-1]}")
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
    layers = network.encoder if isinstance(network, Unrolled) else network.layers
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
        ValueError: if ``x`` does not fit the network, or it is no classifier.
    """
    if not isinstance(network, Network) or not network.head:
        raise ValueError("this network has no output layer of classes: fine-tune a Classifier on it first")
    return _in_blocks(network, x).argmax(axis=-1).astype(np.int32)


def evaluate(network: Network, batch: Batch) -> float:
    """Misclassified rows of a labelled batch, in percent.

    Raises:
        ValueError: if the batch does not fit the network.
    """
    predicted, labels = predict(network, batch.x), None if batch.y is None else np.asarray(batch.y)
    check_labels(labels, len(batch.x), network.layers[-1].weights.shape[-1])
    return float(100.0 * (predicted != labels).mean())


def to_nnx(network: Network) -> nnx.Sequential:
    """The same network as a `flax.nnx.Sequential` of linear layers and activations, for further work in flax."""
    modules: list[Any] = []
    for layer in network.layers:
        linear = nnx.Linear(*layer.weights.shape, rngs=nnx.Rngs(0))
        linear.kernel[...] = layer.weights
        assert linear.bias is not None
        linear.bias[...] = layer.bias
        modules.append(linear)
        if layer.activation != "linear":
            modules.append(ACTIVATIONS[layer.activation])
    return nnx.Sequential(*modules)


def save(network: Network | Unrolled, path: str | os.PathLike[str]) -> None:
    """Writes one network to one ``.npz`` file, whole or not at all.

    Raises:
        ValueError: if it is a population, holds NaN or infinity, or there is no such folder.
    """
    parts = (
        {"encoder": network.encoder, "decoder": network.decoder}
        if isinstance(network, Unrolled)
        else {"layers": network.layers}
    )
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if isinstance(network, Network):
        header["head"] = network.head
    arrays = {}
    for part, layers in parts.items():
        header[part] = [{"kind": "Dense", "activation": layer.activation} for layer in layers]
        for i, layer in enumerate(layers):
            arrays |= {f"{part}.{i}.weights": np.asarray(layer.weights), f"{part}.{i}.bias": np.asarray(layer.bias)}
            _check_layer(f"{part}.{i}", layer.activation, arrays)
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"there is no folder {target.parent} to save {target.name} in: make it first")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, delete=False) as file:
        try:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.umask(mask := os.umask(0))
            os.chmod(file.name, 0o666 & ~mask)
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def load(path: str | os.PathLike[str]) -> Network | Unrolled:
    """Reads a network that `save` wrote.

    Raises:
        ValueError: if the file is not such a file, is damaged, or its layers do not fit each other; the message says
        what.
    """
    try:
        with zipfile.ZipFile(path):  # np.load also reads other kinds of file
            pass
        with np.load(path, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        header = json.loads(str(entries.pop("header")))
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is not a saved network, or is damaged: {error}") from error
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise ValueError(
            f"{path} has format {header.get('format')!r} version {header.get('version')!r}; "
            f"expected {FORMAT!r} {VERSION}"
        )
    try:
        parts = {
            part: _layers(part, header[part], entries) for part in ("layers", "encoder", "decoder") if part in header
        }
        if entries:
            raise ValueError(f"unexpected arrays {sorted(entries)}")
        if set(parts) == {"layers"}:
            _check_chain(parts["layers"])
            return Network(parts["layers"], head=bool(header["head"]))
        if set(parts) == {"encoder", "decoder"}:
            _check_chain((*parts["encoder"], *parts["decoder"]))
            return Unrolled(parts["encoder"], parts["decoder"])
        raise ValueError(f"the header names the parts {sorted(parts)}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def _layers(part: str, specifications: list[dict[str, str]], entries: dict[str, np.ndarray]) -> tuple[Dense, ...]:
    layers = []
    for i, specification in enumerate(specifications):
        if specification["kind"] != "Dense":
            raise ValueError(f"{part}.{i} has the unknown kind {specification['kind']!r}")
        _check_layer(f"{part}.{i}", specification["activation"], entries)
        weights, bias = entries.pop(f"{part}.{i}.weights"), entries.pop(f"{part}.{i}.bias")
        layers.append(Dense(jnp.asarray(weights), jnp.asarray(bias), specification["activation"]))
    return tuple(layers)


def _check_layer(name: str, activation: str, arrays: dict[str, np.ndarray]) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name} has the unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    missing = [entry for entry in (f"{name}.weights", f"{name}.bias") if entry not in arrays]
    if missing:
        raise ValueError(f"missing arrays {missing}")
    weights, bias = arrays[f"{name}.weights"], arrays[f"{name}.bias"]
    if weights.ndim != 2 or bias.shape != weights.shape[1:]:
        fix = ": take one member of the population first" if weights.ndim == 3 else ""
        raise ValueError(f"{name} has weights {weights.shape} and bias {bias.shape}{fix}")
    for entry, array in (("weights", weights), ("bias", bias)):
        if array.dtype != np.float32:
            raise ValueError(f"{name}.{entry} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}.{entry} holds NaN or infinity")


def _check_chain(layers: tuple[Dense, ...]) -> None:
    if not layers:
        raise ValueError("it has no layers")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if below.weights.shape[1] != above.weights.shape[0]:
            raise ValueError(
                f"layer {i} has {below.weights.shape[1]} units but layer {i + 1} takes {above.weights.shape[0]} inputs"
            )
