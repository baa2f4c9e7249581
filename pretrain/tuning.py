"""Fine-tuning: pretrained layers under a new output, or a stack unrolled into an autoencoder, trained as a whole.

It is one more stage of the loop that trained the layers (`pretrain.stack`), on an objective of the whole network.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from pretrain import population
from pretrain.checkpoint import Checkpoints, fingerprint
from pretrain.layers import Dense
from pretrain.learners.classifier import Classifier, output_layer
from pretrain.network import Network, Unrolled
from pretrain.preflight import check_layers, check_params, check_stage
from pretrain.progress import INIT, Progress
from pretrain.report import Report
from pretrain.rows import Augment
from pretrain.stack import Pretrained
from pretrain.stage import Stage, above, folder, train_stage
from pretrain.types import Batch, Layer

FINE_TUNING, OUTPUT_LAYER = "fine-tuning", "output layer"

FINE_TUNE = 1_000
"""The stage number from which fine-tuning derives its keys."""


def fine_tune(
    layers: Sequence[Layer] | Pretrained,
    stage: Stage,
    train: Batch,
    *,
    valid: Batch | None = None,
    seeds: Sequence[int] = (0,),
    params: Any = None,
    output: Stage | None = None,
    fixed: int = 0,
    augment: Augment | None = None,
    checkpoints: Checkpoints | None = None,
    report: Report | None = None,
    chunk: int = 1,
    mesh: Mesh | None = None,
) -> Progress:
    """Trains all layers together on an objective of their own; the `Progress`'s ``params`` are the networks.

    Args:
        layers: pretrained layers (or the stack), on which a new output layer is put where the learner is a
            `Classifier`; those of one member serve all seeds. () starts from the learner's own random initialisation.
            Layers that stay fixed (`KernelMap`, `Rescaling`), as long as they are the lowest, are passed through only
            once, unless rows are augmented.
        stage: the objective, its recipe and how long.
        train: the training rows.
        valid: if given, measured after every epoch; with ``stage.patience`` it chooses the parameters that are kept.
        seeds: one a member.
        params: the whole initial parameters, in place of ``layers`` (`unroll`).
        output: if given, the new output layer is first trained alone by this stage, a `Classifier`'s, on the codes of
            the layers, which are made once; its time is counted, its history is not kept.
        fixed: so many of the lowest layers stay as they are too, likewise.
        augment: if given, changes the rows of every minibatch (`pretrain.data.Rotations`); layers that stay fixed are
            then passed inside every step. An ``output`` layer that is trained alone sees the rows as they are.
        checkpoints: where to keep them and to resume from.
        report: is shown every epoch.
        chunk: epochs a compiled call.
        mesh: the devices over which members and minibatches are divided (`pretrain.population.mesh`); of layers that
            are solved, which have no minibatches, the members.

    Raises:
        ValueError: if data, layers and learner do not suit each other, or the checkpoints are another run's.
    """
    layers = layers.layers if isinstance(layers, Pretrained) else layers
    for each in (stage,) if output is None else (stage, output):
        check_stage(each)
    if isinstance(layers, Network):
        goes_on = (
            "a whole network goes on as fine_tune((), ..., params=pretrain.stacked([network]))"
            if layers.head
            else "its layers go under a new output as fine_tune(pretrain.stacked([network.layers]), ...)"
        )
        raise ValueError(f"layers are a stack's, or a tuple of layers; got a Network: {goes_on}")
    if params is not None and (layers or fixed):
        raise ValueError(
            "params are whole networks, in place of layers, and all of them are trained: give params and neither "
            f"layers nor fixed; got {len(layers)} layers and fixed={fixed}"
        )
    if params is not None:
        check_params(params, len(seeds))
    stage_keys = jax.vmap(lambda key: jax.random.fold_in(key, FINE_TUNE))(population.member_keys(seeds))
    monitors = {} if valid is None else {"valid": valid}
    if checkpoints is not None:
        given = stage_keys, train, monitors, layers, params, augment
        run = checkpoints.run or fingerprint(given)
        checkpoints = checkpoints.of(fingerprint(run, output, fixed, stage.replace(epochs=0)))  # type: ignore[attr-defined]
        checkpoints.check(folder(FINE_TUNING), stage.epochs)
        if output is not None:
            checkpoints.check(folder(OUTPUT_LAYER), output.epochs)
    held: list[Layer] = []
    raw, before = (train, monitors), 0.0
    if output is not None and (params is not None or not layers):
        raise ValueError("an output layer is trained alone on pretrained layers: give layers, or leave output out")
    if params is None and layers:
        learner = check_layers(layers, stage.learner, train, len(seeds))
        if population.n_members(layers) < len(seeds):
            layers = population.repeated(tuple(layers), len(seeds))
        if not 0 <= fixed <= len(layers):
            raise ValueError(f"fixed must lie in 0..{len(layers)}, the number of layers; got {fixed}")
        held = [*layers[:fixed], *itertools.takewhile(lambda layer: getattr(layer, "fixed", False), layers[fixed:])]
        params = classifier(layers, learner, stage_keys)
        params = params.replace(layers=params.layers[len(held) :])  # type: ignore[attr-defined]
        for layer in held if augment is None or output is not None else ():
            train, monitors = above(layer, train, monitors)
        if output is not None:
            below = params.layers[:-1]  # type: ignore[attr-defined]
            top = _output_layer(below, output, train, monitors, stage_keys, checkpoints, report, chunk, mesh)
            params, before = params.replace(layers=(*below, *top.params.layers)), top.seconds  # type: ignore[attr-defined]
    within: dict[str, Any] = {} if augment is None else {"lower": held, "augment": augment}
    rows = raw if within else (train, monitors)
    progress = train_stage(FINE_TUNING, stage, *rows, stage_keys, params, checkpoints, report, chunk, mesh, **within)
    progress = progress._replace(seconds=progress.seconds + before)
    return _on(held, progress) if held else progress


def _output_layer(
    layers: Sequence[Layer],
    stage: Stage,
    train: Batch,
    monitors: dict[str, Batch],
    keys: Array,
    checkpoints: Checkpoints | None,
    report: Report | None,
    chunk: int,
    mesh: Mesh | None,
) -> Progress:
    """A softmax output alone, trained on the codes of layers that stay as they are, by the keys of the fine-tuning."""
    if not isinstance(stage.learner, Classifier) or stage.learner.n_hidden:
        raise ValueError(f"the output layer is a Classifier without hidden layers; got {stage.learner}")
    for layer in layers:
        train, monitors = above(layer, train, monitors)
    return train_stage(OUTPUT_LAYER, stage, train, monitors, keys, None, checkpoints, report, chunk, mesh)


def classifier(layers: Sequence[Layer], learner: Classifier, keys: Array) -> Network:
    """Pretrained layers (with a member axis) under a new random output layer: a population of networks."""
    scale = population.broadcast(learner, keys.shape[0]).output_scale
    n_in = layers[-1].n_out  # type: ignore[attr-defined]
    keys = jax.vmap(lambda key: jax.random.fold_in(key, INIT))(keys)
    top = jax.vmap(lambda key, scale: output_layer(key, n_in, learner.n_classes, scale))(keys, scale)
    below = jax.tree.map(jnp.copy, tuple(layers))  # the loop consumes what it is given
    return Network((*below, top), head=True)


def _on(fixed: Sequence[Layer], progress: Progress) -> Progress:
    """The progress of the networks that stand on fixed layers, as that of the whole networks."""

    def whole(network: Network) -> Network:
        return Network((*fixed, *network.layers), head=network.head)

    best = None if progress.best is None else progress.best._replace(params=whole(progress.best.params))
    return progress._replace(fits=progress.fits._replace(params=whole(progress.fits.params)), best=best)


def unroll(pretrained: Pretrained) -> Unrolled:
    """A stack as a deep autoencoder: its layers, then their decoders from the top down.

    Raises:
        ValueError: if a learner of the stack has no decoder.
    """
    decoders: list[Dense] = []
    for stage, params in zip(pretrained.stages, pretrained.params, strict=True):
        decode = getattr(stage.learner, "decoder", None)
        if decode is None:
            raise ValueError(
                f"{type(stage.learner).__name__} learns no decoder and cannot be unrolled: use an RBM or an autoencoder"
            )
        learner = population.broadcast(stage.learner, population.n_members(params))
        decoders.append(jax.vmap(lambda learner, params: learner.decoder(params))(learner, params))
    return jax.tree.map(jnp.copy, Unrolled(tuple(pretrained.layers), tuple(decoders[::-1])))  # type: ignore[arg-type]
