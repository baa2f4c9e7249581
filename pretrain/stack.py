"""Greedy layer-wise pretraining: train a layer on the codes of those below, stack it, go on; then fine-tune them all.

The procedure of Hinton, Osindero & Teh (2006) and Bengio, Lamblin, Popovici & Larochelle (2006). A stage is a
learner, an optimiser recipe and how long; any mix of learners makes a stack. Pretraining and fine-tuning are the same
loop.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from pretrain import fit, population, solution
from pretrain.checkpoint import Checkpoints, fingerprint
from pretrain.layers import Dense
from pretrain.learners.classifier import Classifier, output_layer
from pretrain.learners.partially_supervised import PartiallySupervised
from pretrain.network import Network, Unrolled
from pretrain.preflight import check_layers, check_stages
from pretrain.progress import INIT, Progress
from pretrain.report import Record, Report
from pretrain.rows import Augment, paired
from pretrain.stage import Stage, codes, trained_layer
from pretrain.types import Batch, Layer, Solver

MONITOR_ROWS = 2_000
"""Rows of the training and of the validation part on which a layer's measures are taken while it is pretrained."""


class Pretrained(NamedTuple):
    """A pretrained stack, every array with a leading member axis.

    Attributes:
        layers: the layers, from the bottom up.
        params: what each stage learned.
        stages: the stages.
        progress: how each stage went.
    """

    layers: tuple[Layer, ...]
    params: tuple[Any, ...]
    stages: tuple[Stage, ...]
    progress: tuple[Progress, ...]

    def network(self, index: int = 0) -> Network:
        """One member's layers as a `Network`."""
        return Network(population.member(self.layers, index))

    def above(self, n: int) -> Pretrained:
        """The stack without its ``n`` lowest stages."""
        return Pretrained(self.layers[n:], self.params[n:], self.stages[n:], self.progress[n:])

    def below(self, n: int) -> Pretrained:
        """The ``n`` lowest stages: what pretraining only these would have given."""
        return Pretrained(self.layers[:n], self.params[:n], self.stages[:n], self.progress[:n])


def pretrain(
    stages: Sequence[Stage],
    train: Batch,
    *,
    valid: Batch | None = None,
    seeds: Sequence[int] = (0,),
    below: Pretrained | None = None,
    label_weight: float | Array | None = None,
    augment: Augment | None = None,
    checkpoints: Checkpoints | None = None,
    report: Report | None = None,
    chunk: int = 1,
    mesh: Mesh | None = None,
) -> Pretrained:
    """Trains the layers of a stack one after the other, each on the codes of those below.

    Args:
        stages: one a layer, from the bottom up. Any number in them may hold one value a member.
        train: the training rows.
        valid: if given, each layer's own measures are also taken on `MONITOR_ROWS` of these, evenly spaced, for the
            history and, in a stage with patience, for early stopping.
        seeds: one a member.
        below: a stack of as many members that these stages are put on, and that stays as it is; what is returned is the
            whole. Trained on the same rows by the same seeds, it is what training all of it at once gives, bit for bit.
        label_weight: if given, every layer that is trained (not solved) is partially supervised: so many times the
            cross-entropy of a softmax output on its codes is added to its objective, on the rows that have a label (a
            label of -1 is none); see `pretrain.learners.partially_supervised`.
        augment: if given, changes the rows of every minibatch before the lowest layer (`pretrain.data.Shifts`), so that
            all layers are trained on more than there are rows; those below are then passed inside every step. Layers
            that are solved see the rows as they are.
        checkpoints: where to keep them and to resume from.
        report: is shown every epoch.
        chunk: epochs a compiled call.
        mesh: the devices over which members and minibatches are divided (`pretrain.population.mesh`); of layers that
            are solved, which have no minibatches, the members.

    Raises:
        ValueError: if the data or the sizes do not suit a learner, the stack below has another number of members, or
            the checkpoints are another run's.
    """
    if isinstance(stages, Stage):
        raise ValueError("stages are a list, one a layer; got a Stage: write [stage]")
    if label_weight is not None:
        stages = partially_supervised(stages, train, label_weight)
    layers, params, done = [], [], []
    if below is not None and below.layers:
        if (members := population.n_members(below.layers)) != len(seeds):
            raise ValueError(
                f"the stack below has {members} members; got {len(seeds)} seeds: give one for each of them"
            )
        stages = [*below.stages, *stages]
        layers, params, done = list(below.layers), list(below.params), list(below.progress)
    keys = population.member_keys(seeds)
    check_stages(stages, train, valid, keys)
    monitors = {"train": paired(train, MONITOR_ROWS)}
    monitors |= {} if valid is None else {"valid": paired(valid, MONITOR_ROWS)}
    raw = train, monitors
    kept = _checkpoints(checkpoints, stages, (keys, train, monitors, augment))
    for index, stage in enumerate(stages):
        if index == len(layers):  # it is not there yet
            name = _layer(index, len(stages))
            stage_keys = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
            within = (
                {} if augment is None or isinstance(stage.learner, Solver) else {"lower": layers, "augment": augment}
            )
            rows = raw if within else (train, monitors)
            progress = _train(name, stage, *rows, stage_keys, None, kept[index], report, chunk, mesh, **within)
            learner = population.broadcast(stage.learner, len(seeds))
            layers.append(trained_layer(learner, progress.params))
            params.append(progress.params)
            done.append(progress)
        if any(augment is None or isinstance(above.learner, Solver) for above in stages[index + 1 :]):
            train, monitors = _above(layers[index], train, monitors)
    return Pretrained(tuple(layers), tuple(params), tuple(stages), tuple(done))


def _layer(index: int, n_stages: int) -> str:
    return f"layer {index + 1}/{n_stages}"


def _folder(name: str) -> str:
    return name.replace(" ", "-").replace("/", "-of-")


def _checkpoints(checkpoints: Checkpoints | None, stages: Sequence[Stage], given: Any) -> list[Checkpoints | None]:
    """The checkpoints of each stage, found to be this run's before any is trained. A stage's are named by what it is
    trained on (``given``, and the whole stages below) and by itself, but for its epochs: it may be trained longer.
    """
    if checkpoints is None:
        return [None] * len(stages)
    run, found = checkpoints.run or fingerprint(given), []
    for index, stage in enumerate(stages):
        found.append(checkpoints.of(fingerprint(run, stage.replace(epochs=0))))  # type: ignore[attr-defined]
        found[-1].check(_folder(_layer(index, len(stages))), stage.epochs)
        run = fingerprint(run, stage)
    return found


def _above(layer: Layer, train: Batch, monitors: dict[str, Batch]) -> tuple[Batch, dict[str, Batch]]:
    """The codes of all rows."""
    return codes(layer, train), {part: codes(layer, batch) for part, batch in monitors.items()}


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
            `Classifier`; () starts from the learner's own random initialisation. Layers that stay fixed (`KernelMap`,
            `Rescaling`), as long as they are the lowest, are passed through only once.
        stage: the objective, its recipe and how long.
        train: the training rows.
        valid: if given, measured after every epoch; with ``stage.patience`` it chooses the parameters that are kept.
        seeds: one a member.
        params: the whole initial parameters, in place of ``layers`` (`unroll`).
        output: if given, the new output layer is first trained alone by this stage, a `Classifier`'s, on the codes of
            the layers, which are made once; its time is counted, its history is not kept.
        fixed: so many of the lowest layers stay as they are too, and are passed through only once.
        augment: if given, changes the rows of every minibatch (`pretrain.data.Rotations`); not with layers that stay
            fixed, whose codes are made only once.
        checkpoints: where to keep them and to resume from.
        report: is shown every epoch.
        chunk: epochs a compiled call.
        mesh: the devices over which members and minibatches are divided (`pretrain.population.mesh`); of layers that
            are solved, which have no minibatches, the members.

    Raises:
        ValueError: if data, layers and learner do not suit each other, or the checkpoints are another run's.
    """
    layers = layers.layers if isinstance(layers, Pretrained) else layers
    if isinstance(layers, Network):
        raise ValueError(
            "layers are a stack's, or a tuple of layers; got a Network: a whole network goes on as "
            "fine_tune((), ..., params=pretrain.stacked([network]))"
        )
    if params is not None and (layers or fixed):
        raise ValueError(
            "params are whole networks, in place of layers, and all of them are trained: give params and neither "
            f"layers nor fixed; got {len(layers)} layers and fixed={fixed}"
        )
    stage_keys = jax.vmap(lambda key: jax.random.fold_in(key, FINE_TUNE))(population.member_keys(seeds))
    monitors = {} if valid is None else {"valid": valid}
    if checkpoints is not None:
        given = stage_keys, train, monitors, layers, params, augment
        run = checkpoints.run or fingerprint(given)
        checkpoints = checkpoints.of(fingerprint(run, output, fixed, stage.replace(epochs=0)))  # type: ignore[attr-defined]
        checkpoints.check(_folder(FINE_TUNING), stage.epochs)
        if output is not None:
            checkpoints.check(_folder(OUTPUT_LAYER), output.epochs)
    held: list[Layer] = []
    before = 0.0
    if output is not None and (params is not None or not layers):
        raise ValueError("an output layer is trained alone on pretrained layers: give layers, or leave output out")
    if params is None and layers:
        learner = check_layers(layers, stage.learner, train, len(seeds))
        if not 0 <= fixed <= len(layers):
            raise ValueError(f"fixed must lie in 0..{len(layers)}, the number of layers; got {fixed}")
        held = [*layers[:fixed], *itertools.takewhile(lambda layer: getattr(layer, "fixed", False), layers[fixed:])]
        params = classifier(layers, learner, stage_keys)
        params = params.replace(layers=params.layers[len(held) :])  # type: ignore[attr-defined]
        for layer in held:
            train, monitors = _above(layer, train, monitors)
        if output is not None:
            below = params.layers[:-1]  # type: ignore[attr-defined]
            top = _output_layer(below, output, train, monitors, stage_keys, checkpoints, report, chunk, mesh)
            params, before = params.replace(layers=(*below, *top.params.layers)), top.seconds  # type: ignore[attr-defined]
    if augment is not None and held:
        raise ValueError("rows cannot be augmented below layers that stay fixed, whose codes are made only once")
    progress = _train(
        FINE_TUNING, stage, train, monitors, stage_keys, params, checkpoints, report, chunk, mesh, augment=augment
    )
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
        train, monitors = _above(layer, train, monitors)
    return _train(OUTPUT_LAYER, stage, train, monitors, keys, None, checkpoints, report, chunk, mesh)


FINE_TUNING, OUTPUT_LAYER = "fine-tuning", "output layer"

FINE_TUNE = 1_000
"""The stage number from which fine-tuning derives its keys."""


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


def partially_supervised(stages: Sequence[Stage], train: Batch, weight: float | Array) -> list[Stage]:
    """The stages with their learners wrapped in `PartiallySupervised`, for as many classes as training rows have.

    Raises:
        ValueError: if the training rows have no labels.
    """
    if train.y is None or int(jnp.max(train.y)) < 0:
        raise ValueError("label_weight needs labelled training rows: give Batch(x, y), with y = -1 where there is none")
    n_classes = int(jnp.max(train.y)) + 1
    return [
        stage
        if isinstance(stage.learner, Solver)
        else stage.replace(learner=PartiallySupervised(stage.learner, n_classes, weight))  # type: ignore[attr-defined]
        for stage in stages
    ]


def _train(
    name: str,
    stage: Stage,
    train: Batch,
    monitors: dict[str, Batch],
    keys: Array,
    params: Any,
    checkpoints: Checkpoints | None,
    report: Report | None,
    chunk: int,
    mesh: Mesh | None,
    *,
    lower: Sequence[Layer] = (),
    augment: Augment | None = None,
) -> Progress:
    """One stage through `pretrain.fit.run` or `solve`, resumed, checkpointed and reported."""
    folder = _folder(name)
    options: dict[str, Any] = {
        "batch_size": stage.batch_size,
        "keys": keys,
        "params": params,
        "patience": stage.patience,
        "lower": tuple(lower),
    }
    if isinstance(stage.learner, Solver):
        begin = functools.partial(solution.solve, stage.learner, train, keys, mesh)
        progress = None if checkpoints is None else checkpoints.restore(folder, begin)
        progress = begin() if progress is None else progress
        if checkpoints is not None:
            checkpoints.save(folder, progress)
        return progress
    assert stage.optimizer is not None
    arguments = (stage.learner, stage.optimizer, train)

    def on_chunk(progress: Progress) -> None:
        if checkpoints is not None and checkpoints.due():
            checkpoints.save(folder, progress)
        if report is not None:
            report(
                Record(
                    name, type(stage.learner).__name__, progress.epoch, stage.epochs, progress.history, progress.seconds
                )
            )

    resume = None
    if checkpoints is not None:
        resume = checkpoints.restore(folder, lambda: fit.begin(*arguments, **options))
    progress = fit.run(
        *arguments,
        **options,
        augment=augment,
        epochs=stage.epochs,
        monitors=monitors,
        chunk=chunk,
        probe=True,
        mesh=mesh,
        resume=resume,
        on_chunk=on_chunk,
    )
    if checkpoints is not None:
        checkpoints.save(folder, progress)
    return progress
