"""Trained models in files: networks, and the machines that sample.

A saved model is one ``.npz`` file: a JSON header that names the format and of each part of the model its blocks, of
each block its kind and choices; and the blocks' arrays. It is read without pickle, and everything in it is checked,
against what the kind declares, before it is believed. Blocks are the layers of networks (`pretrain.layers.KINDS`) and
what the generative models consist of besides.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pretrain.generative.dbm_params import DBMParams
from pretrain.generative.dbn import DBN
from pretrain.layers import KINDS, Choices, Shapes
from pretrain.learners.rbm import RBMParams
from pretrain.network import Network, Unrolled

FORMAT, VERSION = "pretrain-network", 1

Model = Network | Unrolled | DBN | DBMParams | RBMParams
"""What a file may hold."""


class Kind(NamedTuple):
    """Of a block: its arrays' dimensions, equal names for equal sizes, and what its choices may be."""

    shapes: Shapes
    choices: Choices


MACHINE: Shapes = {"weights": ("visible", "hidden"), "visible_bias": ("visible",), "hidden_bias": ("hidden",)}
MACHINES = {
    "RBM": Kind(MACHINE, {}),
    "RBM of learned variances": Kind(MACHINE | {"log_variance": ("features",)}, {}),
    "visible layer": Kind({"bias": ("units",)}, {}),
    "hidden layer": Kind({"weights": ("below", "units"), "bias": ("units",)}, {}),
}
"""What generative models consist of besides layers: an RBM; the layers of a deep Boltzmann machine."""


class Block(NamedTuple):
    """A part of a model, of a kind in `pretrain.layers.KINDS` or `MACHINES`."""

    kind: str
    arrays: dict[str, Any]
    choices: dict[str, Any]


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes one model to one ``.npz`` file, whole or not at all.

    Of a machine that samples its parameters are kept, `RBMParams`, `DBMParams` or a `DBN`; of what kind its units are,
    its `RBM` or `DBM` knows, which is written as easily as read.

    Raises:
        ValueError: if it is no such model, a population, holds NaN or infinity, or there is no such folder.
    """
    if not isinstance(model, Model):
        raise ValueError(
            "save keeps a Network, an Unrolled, a DBN, and the parameters of an RBM or a DBM; got "
            f"{type(model).__name__}: give pretrained.network(0) of a stack, pretrain.member(tuned.params, 0) of what "
            "run or fine_tune returned; a stack in training is kept by Checkpoints"
        )
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION} | _choices(model)
    arrays = {}
    for part, blocks in _parts(model).items():
        header[part] = [{"kind": block.kind} | block.choices for block in blocks]
        for i, block in enumerate(blocks):
            arrays |= {f"{part}.{i}.{array}": np.asarray(value) for array, value in block.arrays.items()}
            _check_block(f"{part}.{i}", header[part][i], arrays)
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


def load(path: str | os.PathLike[str]) -> Any:
    """Reads what `save` wrote: a `Network`, `Unrolled`, `DBN`, `DBMParams` or `RBMParams`.

    Raises:
        ValueError: if the file is not such a file, is damaged, or its parts do not fit each other; the message says
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
        raise ValueError(f"{path} is not a saved model, or is damaged: {error}") from error
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise ValueError(
            f"{path} has format {header.get('format')!r} version {header.get('version')!r}; "
            f"expected {FORMAT!r} {VERSION}"
        )
    try:
        parts = {part: _blocks(part, blocks, entries) for part, blocks in header.items() if isinstance(blocks, list)}
        if entries:
            raise ValueError(f"unexpected arrays {sorted(entries)}")
        return _model(parts, header)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


# --- models as blocks, and back ---


def _choices(model: Model) -> dict[str, Any]:
    if isinstance(model, Network):
        return {"head": model.head}
    return {"n_classes": model.n_classes} if isinstance(model, DBN) else {}


def _parts(model: Model) -> dict[str, list[Block]]:
    if isinstance(model, Network):
        return {"layers": _of_layers(model.layers)}
    if isinstance(model, Unrolled):
        return {"encoder": _of_layers(model.encoder), "decoder": _of_layers(model.decoder)}
    if isinstance(model, DBN):
        ways = {"recognition": _of_layers(model.recognition), "generative": _of_layers(model.generative)}
        return ways | {"top": [_of_machine(model.top)]}
    if isinstance(model, RBMParams):
        return {"machine": [_of_machine(model)]}
    hidden = zip(model.weights, model.biases[1:], strict=True)
    return {
        "visible": [Block("visible layer", {"bias": model.biases[0]}, {})],
        "hidden": [Block("hidden layer", {"weights": weights, "bias": bias}, {}) for weights, bias in hidden],
    }


def _of_layers(layers: Sequence[Any]) -> list[Block]:
    return [
        Block(
            type(layer).__name__,
            *({name: getattr(layer, name) for name in own} for own in (layer.shapes, layer.choices)),
        )
        for layer in layers
    ]


def _of_machine(params: RBMParams) -> Block:
    arrays = {name: value for name, value in params._asdict().items() if value is not None}
    return Block("RBM of learned variances" if "log_variance" in arrays else "RBM", arrays, {})


def _model(parts: dict[str, list[Block]], header: dict[str, Any]) -> Model:
    """The model of these parts, once they fit each other."""
    names = set(parts)
    if names == {"layers"}:
        layers = _layers(parts["layers"])
        _check_chain(layers)
        return Network(layers, head=bool(header["head"]))
    if names == {"encoder", "decoder"}:
        encoder, decoder = _layers(parts["encoder"]), _layers(parts["decoder"])
        _check_chain((*encoder, *decoder))
        return Unrolled(encoder, decoder)
    if names == {"recognition", "generative", "top"}:
        return _belief_network(parts, header["n_classes"])
    if names == {"machine"}:
        return _machine(parts["machine"])
    if names == {"visible", "hidden"}:
        return _deep_machine(parts)
    raise ValueError(f"the header names the parts {sorted(parts)}")


def _layers(blocks: list[Block]) -> tuple[Any, ...]:
    return tuple(KINDS[block.kind](**block.arrays, **block.choices) for block in blocks)


def _machine(blocks: list[Block]) -> RBMParams:
    (block,) = blocks
    params = RBMParams(**block.arrays)
    visible = len(params.visible_bias)
    if params.log_variance is not None and len(params.log_variance) > visible:
        raise ValueError(f"it has {len(params.log_variance)} variances of {visible} visible units")
    return params


def _belief_network(parts: dict[str, list[Block]], n_classes: Any) -> DBN:
    up, down, top = _layers(parts["recognition"]), _layers(parts["generative"]), _machine(parts["top"])
    if up:
        _check_chain(up)
    if [(layer.n_in, layer.n_out) for layer in up] != [(layer.n_out, layer.n_in) for layer in down]:
        raise ValueError("its layers up and its layers down are not of the same sizes")
    if type(n_classes) is not int or not 0 <= n_classes < len(top.visible_bias):
        raise ValueError(f"n_classes is {n_classes!r}, expected a whole number below the top's visible units")
    if up and up[-1].n_out + n_classes != len(top.visible_bias):
        raise ValueError(
            f"the highest layer has {up[-1].n_out} units and there are {n_classes} label units, but the top machine "
            f"has {len(top.visible_bias)} visible ones"
        )
    return DBN(up, down, top, n_classes)


def _deep_machine(parts: dict[str, list[Block]]) -> DBMParams:
    (visible,), hidden = parts["visible"], parts["hidden"]
    weights = tuple(block.arrays["weights"] for block in hidden)
    params = DBMParams(weights, (visible.arrays["bias"], *(block.arrays["bias"] for block in hidden)))
    if not weights or [len(bias) for bias in params.biases[:-1]] != [len(joined) for joined in weights]:
        raise ValueError("its layers do not fit those below")
    return params


# --- blocks ---


def _kind(name: str) -> Kind | None:
    if name in KINDS:
        return Kind(KINDS[name].shapes, KINDS[name].choices)
    return MACHINES.get(name)


def _blocks(part: str, specifications: list[dict[str, Any]], entries: dict[str, np.ndarray]) -> list[Block]:
    blocks = []
    for i, specification in enumerate(specifications):
        kind = _check_block(f"{part}.{i}", specification, entries)
        arrays = {array: jnp.asarray(entries.pop(f"{part}.{i}.{array}")) for array in kind.shapes}
        blocks.append(Block(specification["kind"], arrays, {choice: specification[choice] for choice in kind.choices}))
    return blocks


def _check_block(name: str, specification: dict[str, Any], arrays: dict[str, np.ndarray]) -> Kind:
    """Checks a block, in a file or on its way there, against what its kind declares, and returns that."""
    kind = _kind(specification["kind"])
    if kind is None:
        raise ValueError(f"{name} has the unknown kind {specification['kind']!r}")
    if unexpected := specification.keys() - {"kind", *kind.choices}:
        raise ValueError(f"{name} has the unexpected fields {sorted(unexpected)}")
    for choice, allowed in kind.choices.items():
        value = specification[choice]
        if isinstance(allowed, type):
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
    return kind


def _check_shapes(name: str, expected: Shapes, found: dict[str, tuple[int, ...]]) -> None:
    extra = {len(found[array]) - len(dimensions) for array, dimensions in expected.items()}
    sizes: dict[str, set[int]] = {}
    for array, dimensions in expected.items():
        for dimension, size in zip(dimensions, found[array], strict=False):
            sizes.setdefault(dimension, set()).add(size)
    if extra != {0} or any(len(seen) != 1 for seen in sizes.values()):
        *but_last, last = (f"{array} {shape}" for array, shape in found.items())
        fix = ": take one member of the population first" if extra == {1} else ""
        raise ValueError(f"{name} has {' and '.join(filter(None, (', '.join(but_last), last)))}{fix}")


def _check_chain(layers: tuple[Any, ...]) -> None:
    if not layers:
        raise ValueError("it has no layers")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if below.n_out != above.n_in:
            raise ValueError(f"layer {i} has {below.n_out} units but layer {i + 1} takes {above.n_in} inputs")
