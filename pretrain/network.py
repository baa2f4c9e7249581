"""Trained networks: what a stack becomes, and how it is used, saved, checked and handed on.

A saved network is one ``.npz`` file: a JSON header that names the format and of each layer its kind and choices, and
the arrays. It is read without pickle, and everything in it is checked, against what the kind of layer declares
(`pretrain.layers.KINDS`), before it is believed.
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
from pretrain.layers import ACTIVATIONS, KINDS, Dense, compose
from pretrain.types import Batch

FORMAT, VERSION = "pretrain-network", 1
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


def _in_blocks(network: Any, x: Any) -> np.ndarray:
    layers = network.encoder if isinstance(network, Unrolled) else network.layers
    for array, dimensions in getattr(layers[0], "shapes", {}).items():
        shape = getattr(layers[0], array).shape
        if len(shape) != len(dimensions):
            raise ValueError(
                f"this is a population of {shape[0]} networks: take one with pretrain.member(network, index)"
            )
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
        ValueError: if ``x`` does not fit the network, it is no classifier, or it has diverged.
    """
    logits = _logits(network, x)
    if not np.isfinite(logits).all():
        raise ValueError("the network's outputs are NaN or infinite, it has diverged: train it at a lower rate")
    return logits.argmax(axis=-1).astype(np.int32)


def _logits(network: Network, x: Any) -> np.ndarray:
    if not isinstance(network, Network) or not network.head:
        raise ValueError("this network has no output layer of classes: fine-tune a Classifier on it first")
    return _in_blocks(network, x)


def evaluate(network: Network, batch: Batch) -> float:
    """Misclassified rows of a labelled batch, in percent; NaN of a network that has diverged.

    Raises:
        ValueError: if the batch does not fit the network.
    """
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


def save(network: Network | Unrolled, path: str | os.PathLike[str]) -> None:
    """Writes one network to one ``.npz`` file, whole or not at all.

    Raises:
        ValueError: if it is no network, a population, holds NaN or infinity, or there is no such folder.
    """
    if not isinstance(network, Network | Unrolled):
        raise ValueError(
            f"save keeps a Network or an Unrolled; got {type(network).__name__}: give pretrained.network(0) of a "
            "stack, pretrain.member(tuned.params, 0) of what fine_tune returned, Network(dbn.layers()) of a DBN; all "
            "else are pytrees of arrays, which numpy.savez keeps"
        )
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
        header[part] = [_specification(layer) for layer in layers]
        for i, layer in enumerate(layers):
            arrays |= {f"{part}.{i}.{array}": np.asarray(getattr(layer, array)) for array in layer.shapes}
            _check_layer(f"{part}.{i}", header[part][i], arrays)
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


def _specification(layer: Any) -> dict[str, Any]:
    """A layer's kind and choices, as they stand in the header."""
    return {"kind": type(layer).__name__} | {choice: getattr(layer, choice) for choice in layer.choices}


def _layers(part: str, specifications: list[dict[str, Any]], entries: dict[str, np.ndarray]) -> tuple[Any, ...]:
    layers = []
    for i, specification in enumerate(specifications):
        _check_layer(f"{part}.{i}", specification, entries)
        kind = KINDS[specification["kind"]]
        arrays = {array: jnp.asarray(entries.pop(f"{part}.{i}.{array}")) for array in kind.shapes}
        layers.append(kind(**arrays, **{choice: specification[choice] for choice in kind.choices}))
    return tuple(layers)


def _check_layer(name: str, specification: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Checks a layer, in a file or on its way there, against what its kind declares."""
    if specification["kind"] not in KINDS:
        raise ValueError(f"{name} has the unknown kind {specification['kind']!r}")
    kind = KINDS[specification["kind"]]
    if unexpected := specification.keys() - {"kind", *kind.choices}:
        raise ValueError(f"{name} has the unexpected fields {sorted(unexpected)}")
    for choice, allowed in kind.choices.items():
        value = specification[choice]
        if allowed is int:
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} has the {choice} {value!r}, expected a whole number of at least 1")
        elif value not in allowed:
            raise ValueError(f"{name} has the unknown {choice} {value!r}; known: {', '.join(allowed)}")
    missing = [entry for entry in (f"{name}.{array}" for array in kind.shapes) if entry not in arrays]
    if missing:
        raise ValueError(f"missing arrays {missing}")
    found = {array: arrays[f"{name}.{array}"] for array in kind.shapes}
    _check_shapes(name, kind.shapes, {array: value.shape for array, value in found.items()})
    for array, value in found.items():
        if value.dtype != np.float32:
            raise ValueError(f"{name}.{array} is {value.dtype}, expected float32")
        if not np.isfinite(value).all():
            raise ValueError(f"{name}.{array} holds NaN or infinity")


def _check_shapes(name: str, expected: dict[str, tuple[str, ...]], found: dict[str, tuple[int, ...]]) -> None:
    extra = {len(found[array]) - len(dimensions) for array, dimensions in expected.items()}
    sizes: dict[str, set[int]] = {}
    for array, dimensions in expected.items():
        for dimension, size in zip(dimensions, found[array], strict=False):
            sizes.setdefault(dimension, set()).add(size)
    if extra != {0} or any(len(seen) != 1 for seen in sizes.values()):
        *but_last, last = (f"{array} {shape}" for array, shape in found.items())
        fix = ": take one member of the population first" if extra == {1} else ""
        raise ValueError(f"{name} has {', '.join(but_last)} and {last}{fix}")


def _check_chain(layers: tuple[Any, ...]) -> None:
    if not layers:
        raise ValueError("it has no layers")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if below.n_out != above.n_in:
            raise ValueError(f"layer {i} has {below.n_out} units but layer {i + 1} takes {above.n_in} inputs")
