"""Greedy layer-wise pretraining: train a layer on the codes of those below, stack it, go on.

The procedure of Hinton, Osindero & Teh (2006) and Bengio, Lamblin, Popovici & Larochelle (2006). A stage is a
learner, an optimiser recipe and how long; any mix of learners makes a stack, which `pretrain.tuning` then fine-tunes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from pretrain import population
from pretrain.checkpoint import Checkpoints, fingerprint
from pretrain.learners.partially_supervised import PartiallySupervised
from pretrain.network import Network
from pretrain.preflight import check_stages
from pretrain.progress import Progress
from pretrain.report import Report
from pretrain.rows import Augment, paired
from pretrain.stage import Stage, above, folder, train_stage, trained_layer
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
    check_stages(stages, train, valid, keys, layers)
    monitors = {"train": paired(train, MONITOR_ROWS)}
    monitors |= {} if valid is None else {"valid": paired(valid, MONITOR_ROWS)}
    raw = train, monitors
    kept = _checkpoints(checkpoints, stages, (keys, train, monitors, augment, *layers), len(layers))
    for index, stage in enumerate(stages):
        if index == len(layers):  # it is not there yet
            name = _layer(index, len(stages))
            stage_keys = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
            within = (
                {} if augment is None or isinstance(stage.learner, Solver) else {"lower": layers, "augment": augment}
            )
            rows = raw if within else (train, monitors)
            progress = train_stage(name, stage, *rows, stage_keys, None, kept[index], report, chunk, mesh, **within)
            learner = population.broadcast(stage.learner, len(seeds))
            layers.append(trained_layer(learner, progress.params))
            params.append(progress.params)
            done.append(progress)
        if any(augment is None or isinstance(later.learner, Solver) for later in stages[index + 1 :]):
            train, monitors = above(layers[index], train, monitors)
    return Pretrained(tuple(layers), tuple(params), tuple(stages), tuple(done))


def _layer(index: int, n_stages: int) -> str:
    return f"layer {index + 1}/{n_stages}"


def _checkpoints(
    checkpoints: Checkpoints | None, stages: Sequence[Stage], given: Any, done: int
) -> list[Checkpoints | None]:
    """The checkpoints of each stage, those of stages that are not ``done`` found to be this run's before any is
    trained. A stage's are named by what it is trained on (``given``, and the whole stages below) and by itself, but for
    its epochs: it may be trained longer.
    """
    if checkpoints is None:
        return [None] * len(stages)
    run, found = checkpoints.run or fingerprint(given), []
    for index, stage in enumerate(stages):
        found.append(checkpoints.of(fingerprint(run, stage.replace(epochs=0))))  # type: ignore[attr-defined]
        if index >= done:
            found[-1].check(folder(_layer(index, len(stages))), stage.epochs)
        run = fingerprint(run, stage)
    return found


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
