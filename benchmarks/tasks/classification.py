"""Classification: pretrain a stack, fine-tune it under a softmax output, count the misclassified rows.

A plan may train the stack as one deep Boltzmann machine in between, and may end in a classifier that is no network.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import pictures
from benchmarks.experiment import Keep, Plan
from benchmarks.pictures import ImageShape
from benchmarks.tasks import Context, Trained
from pretrain import keep_lowest, population, shuffle
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.data.splits import stratified_rows
from pretrain.generative import DBM
from pretrain.layers import Dense, compose
from pretrain.network import Network
from pretrain.progress import Progress
from pretrain.stack import Pretrained
from pretrain.stage import codes
from pretrain.tuning import fine_tune
from pretrain.types import Batch

ROWS = 2_000
"""Rows that are classified at a time."""

SAMPLES = 36
"""Pictures of samples that are kept."""

KEEP = 2_000
"""The stage number from which what replaces parts of a stack derives its keys."""

Predict = Callable[[Any], np.ndarray]
"""Rows ``[rows, features]`` to labels ``[rows]``."""


def own_rows(batch: Batch, index: int) -> Batch:
    """The rows of one member, where members have rows of their own, or those that all of them share."""
    return population.member(batch, index) if batch.x.ndim > 2 else batch


def labelled(train: Batch, labels: int | None, seed: int) -> Batch:
    """The labelled rows that a member sees: all, or so many, in the classes' proportions, drawn with its seed."""
    assert train.y is not None
    if labels is None or labels == len(train.x):
        return Batch(train.x, train.y)
    _, rows = stratified_rows(np.asarray(train.y), (labels,), seed)
    return Batch(train.x[rows], train.y[rows])


@jax.jit
def _classes(layer: Any, x: Any) -> Any:
    return layer(x).argmax(axis=-1)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Misclassified rows, in percent. The validation rows choose the epoch that is kept; test rows are seen once.

    Attributes:
        confusion: whether results hold how many test rows of each class were taken for which.
        weights: whether they hold how large the network's weights are, in place of its filters.
    """

    measure: str = "error"
    noun: str = "error"
    larger_is_better: bool = False
    own_rows: bool = True
    confusion: bool = False
    weights: bool = False

    def train(self, plan: Plan, data: Splits, seeds: list[int], context: Context) -> Trained:
        """Pretrains and fine-tunes one population by a plan."""
        pretrained, shared = context.pretrained(plan, data, seeds)
        beyond: tuple[Progress, ...] = ()
        if plan.keep is not None:
            assert pretrained is not None
            beyond = pretrained.progress[plan.keep.depth :]
            pretrained = _kept(plan.keep, pretrained, seeds)
        if plan.baseline is not None:
            return Trained(pretrained, shared, None, fitted=_fitted(plan, pretrained, data, seeds))
        assert plan.fine_tuning is not None
        layers, joint, joint_shared = pretrained.layers if pretrained else (), None, False
        if plan.joint is not None:
            assert pretrained is not None
            joint, joint_shared, layers = _joint(plan, pretrained, data, seeds, context)
        tuned = fine_tune(
            layers,
            plan.fine_tuning,
            _labelled(plan, data.train, seeds),
            valid=data.held_out,
            seeds=seeds,
            output=plan.output,
            fixed=plan.held,
            augment=plan.augment_tuning,
            **context.options(len(seeds)),
        )
        return Trained(pretrained, shared, tuned, joint, joint_shared, beyond)

    def score(self, plan: Plan, trained: Trained, data: Splits) -> np.ndarray:
        """The validation error of the epoch that is kept."""
        tuned = trained.tuned
        assert tuned is not None
        best = tuned.history["valid/error"][-1] if tuned.best is None else np.asarray(tuned.best.score)
        return np.where(tuned.finite, best, np.inf)

    def results(
        self, plan: Plan, trained: Trained, data: Splits, seeds: list[int], image_shape: ImageShape
    ) -> list[dict[str, Any]]:
        """Errors on the three parts, the validation curve, the first layer's filters and a joint machine's samples of
        seed 0.
        """
        tuned, lines = trained.tuned, []
        for index, seed in enumerate(seeds):
            finite = all(bool(stage.finite[index]) for stage in trained.stages.values())
            train, valid, test = (own_rows(part, index) for part in data)
            line: dict[str, Any] = {"n_hidden": _sizes(trained), "test_rows": len(test.x), "finite": finite}
            predict = predictor(plan, trained, index)
            for name, part in (("train", labelled(train, plan.labels, seed)), ("valid", valid), ("test", test)):
                predicted = predict(part.x) if finite and len(part.x) else None
                wrong = None if predicted is None else float(100.0 * (predicted != np.asarray(part.y)).mean())
                line[f"{name}_error"] = wrong
                if self.confusion and name == "test" and predicted is not None:
                    line["confusion"] = confusion(np.asarray(part.y), predicted)
            if tuned is not None:
                line["best_epoch"] = None if tuned.best is None else int(tuned.best.epoch[index])
                curve = tuned.history.get("valid/error")
                line["valid_curve"] = None if curve is None else [round(float(error), 4) for error in curve[:, index]]
            if trained.fitted:
                fitted, _ = trained.fitted[index]
                line["chosen"], line["tried"] = fitted.values, fitted.tried
            elif seed == 0 and finite and self.weights:
                assert tuned is not None
                line["weights"] = pictures.counted(_matrices(population.member(tuned.params, index)))
            elif seed == 0 and finite:
                line["filters"] = _filters(plan, trained, index, image_shape)
                if trained.joint is not None:
                    line["samples"] = _samples(plan, trained, index, seed, image_shape)
            lines.append(line)
        return lines


def confusion(labels: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """``[classes, classes]`` how many rows of a class (the first index) were taken for another (the second)."""
    n_classes = int(max(labels.max(), predicted.max())) + 1
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, -1).tolist()


def predictor(plan: Plan, trained: Trained, index: int) -> Predict:
    """How one member classifies rows."""
    if trained.fitted:
        fitted, _ = trained.fitted[index]
        if trained.pretrained is None:
            return fitted.predict
        below = population.member(trained.pretrained.layers, index)
        return lambda x: fitted.predict(compose(below, x))
    assert trained.tuned is not None
    assert plan.fine_tuning is not None
    params = population.member(trained.tuned.params, index)
    layer = params if isinstance(params, Network) else plan.fine_tuning.learner.layer(params)
    return lambda x: np.concatenate([_classes(layer, x[first : first + ROWS]) for first in range(0, len(x), ROWS)])


def _kept(keep: Keep, pretrained: Pretrained, seeds: list[int]) -> Pretrained:
    """What a row starts from of a stack that it may share with others."""
    pretrained = pretrained.below(keep.depth)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, KEEP))(population.member_keys(seeds))
    layers = shuffle(pretrained.layers, keys) if keep.marginals else pretrained.layers
    trained = keep.depth if keep.trained is None else keep.trained
    return pretrained._replace(layers=keep_lowest(layers, trained, keys))


def _labelled(plan: Plan, train: Batch, seeds: list[int]) -> Batch:
    """The labelled rows of a population: shared, unless members have rows of their own or see some only."""
    if plan.labels in (None, train.x.shape[-2]):
        return Batch(train.x, train.y)
    each = [labelled(own_rows(train, index), plan.labels, seed) for index, seed in enumerate(seeds)]
    return population.stacked(each) if len(each) > 1 else each[0]


def _fitted(plan: Plan, pretrained: Pretrained | None, data: Splits, seeds: list[int]) -> tuple[Any, ...]:
    """Each member's baseline, on the codes of its own stack, and the seconds it took."""
    assert plan.baseline is not None
    found = []
    for index, seed in enumerate(seeds):
        layers = () if pretrained is None else population.member(pretrained.layers, index)
        train = labelled(own_rows(data.train, index), plan.labels, seed)
        began = time.perf_counter()
        train = train._replace(x=compose(layers, train.x))
        valid = data.held_out and own_rows(data.held_out, index)
        held_out = valid and valid._replace(x=compose(layers, valid.x))
        found.append((plan.baseline.fit(train, held_out), time.perf_counter() - began))
    return tuple(found)


def _joint(
    plan: Plan, pretrained: Pretrained, data: Splits, seeds: list[int], context: Context
) -> tuple[Progress | None, bool, tuple[Any, ...]]:
    """The stack above its front trained as one deep Boltzmann machine (None of no epochs), whether an earlier row did
    that, and the layers to tune.
    """
    joint = plan.joint
    assert joint is not None
    machine = joint.stage.learner
    assert isinstance(machine, DBM)
    front = pretrained.layers[: joint.front]

    def train() -> Progress:
        rows, valid = Batch(data.train.x), data.held_out and Batch(data.valid.x)
        for layer in front:
            rows, valid = codes(layer, rows), valid and codes(layer, valid)
        kept = context.checkpoints and Checkpoints(context.checkpoints.folder / "joint", run=context.checkpoints.run)
        options = context._replace(checkpoints=kept).options(len(seeds))
        start = DBM.from_stack(pretrained.above(joint.front))
        return fine_tune((), joint.stage, rows, valid=valid, seeds=seeds, params=start, **options)

    if not joint.stage.epochs:
        params = DBM.from_stack(pretrained.above(joint.front))
        return None, False, (*front, *machine.discriminative_layers(params, joint.steps))
    progress, shared = context.stacks.joint(plan, seeds, train)
    return progress, shared, (*front, *machine.discriminative_layers(progress.params, joint.steps))


def _sizes(trained: Trained) -> list[int]:
    """Units of the hidden layers, from the bottom up."""
    layers = () if trained.pretrained is None else trained.pretrained.layers
    if trained.pretrained is None and trained.tuned is not None and isinstance(trained.tuned.params, Network):
        layers = trained.tuned.params.layers[:-1]
    return [layer.n_out for layer in layers]  # type: ignore[attr-defined]


def _matrices(params: Any) -> list[np.ndarray]:
    """Every array of a network that is no bias."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


def _filters(plan: Plan, trained: Trained, index: int, image_shape: ImageShape) -> dict[str, Any] | None:
    """Those of the first layer as it was pretrained (or trained jointly); without pretraining, the network's."""
    if trained.joint is not None and plan.joint is not None and plan.joint.front == 0:
        return pictures.filters(np.asarray(trained.joint.params.weights[0][index]), image_shape)
    params = None if trained.tuned is None else trained.tuned.params
    layers = trained.pretrained.layers if trained.pretrained else params.layers if isinstance(params, Network) else ()
    if not layers or not isinstance(layers[0], Dense):
        return None
    return pictures.filters(np.asarray(layers[0].weights[index]), image_shape)


def _samples(plan: Plan, trained: Trained, index: int, seed: int, image_shape: ImageShape) -> dict[str, Any]:
    """Pictures of the joint machine's samples, passed down its front: means of pixels, where these are not in [0, 1]
    scaled to a picture's own range.
    """
    assert plan.joint is not None
    assert trained.joint is not None
    assert trained.pretrained is not None
    machine, params = plan.joint.stage.learner, population.member(trained.joint.params, index)
    assert isinstance(machine, DBM)
    drawn = machine.sample(params, jax.random.key(seed), SAMPLES, plan.joint.gibbs_steps)
    front = list(zip(plan.pretraining, trained.pretrained.params, strict=True))[: plan.joint.front]
    shown = drawn.x if front else drawn.probabilities
    for stage, learned in reversed(front):
        shown = stage.learner.decoder(population.member(learned, index))(shown)  # type: ignore[attr-defined]
    images = pictures.images(np.asarray(shown), image_shape)
    if images.min() < 0.0 or images.max() > 1.0:
        low, high = (of(images, axis=(1, 2), keepdims=True) for of in (np.min, np.max))
        images = (images - low) / (high - low)
    return pictures.packed(images)
