"""Choosing hyperparameters: every combination of a row's declared grid, or a sample of it, by its validation error.

Combinations that differ in numbers only train side by side as one population; each size or choice is a population of
its own. The test rows are not looked at, and the seed is one that no table reports.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from benchmarks.experiment import Plan, Range, UsageError, declared, replaced
from benchmarks.tasks import Context, Task
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.optim import Inverse, Linear, Momentum, WarmUp
from pretrain.population import grouped
from pretrain.stage import Stage

SEED = 1_000_000
"""The grid is searched with a seed of its own, so that no reported seed was selected on."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a search found.

    Attributes:
        values: the chosen value of each path of the grid.
        valid: its measure on the validation rows.
        tried: every combination with that measure (None where it diverged); under successive halving also with the
            share of the epochs that it was tried with.
    """

    values: dict[str, Any]
    valid: float
    tried: list[dict[str, Any]]


def combinations(plan: Plan) -> list[dict[str, Any]]:
    """What is tried of a plan's grid, by path: all combinations, or ``plan.samples`` points of a Sobol sequence.

    Raises:
        UsageError: if a range is to be tried in full.
    """
    if plan.samples:
        points = qmc.Sobol(len(plan.grid), rng=SEED).random_base2(math.ceil(math.log2(plan.samples)))[: plan.samples]
        return [
            {path: _at(tried, share) for (path, tried), share in zip(plan.grid.items(), point, strict=True)}
            for point in points
        ]
    if ranges := [path for path, tried in plan.grid.items() if isinstance(tried, Range)]:
        raise UsageError(f"the grid of {', '.join(ranges)} is a Range: say how many samples of it are tried")
    return [dict(zip(plan.grid, values, strict=True)) for values in itertools.product(*plan.grid.values())]  # type: ignore[arg-type]


def _at(tried: Sequence[Any] | Range, share: float) -> Any:
    return tried.at(float(share)) if isinstance(tried, Range) else tried[int(share * len(tried))]


def select(task: Task, plan: Plan, data: Splits, folder: Path, context: Context, wave: int) -> Choice:
    """Tries what the plan's grid names and chooses the best on the validation rows.

    Args:
        task: trains and scores.
        plan: with its grid.
        data: the splits.
        folder: of the checkpoints.
        context: what the task is lent.
        wave: members side by side.

    Raises:
        RuntimeError: if every combination diverged.
    """
    halving = plan.halving
    going = combinations(plan)
    tried: list[dict[str, Any]] = []
    rungs = 0 if halving is None else halving.rungs
    for rung in range(rungs + 1):
        share = 1.0 if halving is None else float(halving.factor) ** (rung - rungs)
        scores = _scores(task, plan, going, share, data, folder / f"rung-{rung}", context, wave)
        shares = {} if halving is None else {"epochs": share}
        tried += [
            {**v, **shares, "valid": float(s) if np.isfinite(s) else None} for v, s in zip(going, scores, strict=True)
        ]
        order = [int(i) for i in np.argsort(scores, kind="stable") if np.isfinite(scores[i])]
        if not order:
            raise RuntimeError(f"every combination of the grid diverged: {going}")
        if halving is not None and rung < rungs:
            going = [going[i] for i in order[: math.ceil(len(going) / halving.factor)]]
    return Choice(going[order[0]], float(scores[order[0]]), tried)


def by_json(tries: Sequence[dict[str, Any]], stored: dict[str, Any]) -> dict[str, Any]:
    """The combination that was stored as this JSON, its values as they were declared (a tuple is a list there).

    Raises:
        UsageError: if it is none of them.
    """
    for values in tries:
        if json.loads(json.dumps(declared(values))) == stored:
            return values
    raise UsageError(f"the stored choice {stored} is not in the declared grid: remove its line of selection.jsonl")


def with_values(plan: Plan, values: dict[str, Any]) -> Plan:
    """The plan with these values in the place of its grid."""
    for path, value in values.items():
        plan = replaced(plan, path, value)
    return dataclasses.replace(plan, grid={}, samples=0, halving=None)


def shortened(plan: Plan, share: float) -> Plan:
    """The plan with a share of every stage's epochs, at least one, over which its rates fall, and its momentum rises,
    as over all of them.
    """

    def short(stage: Stage | None) -> Stage | None:
        if stage is None or stage.optimizer is None or not stage.epochs:
            return stage
        epochs = max(round(share * stage.epochs), 1)
        optimizer = stage.optimizer
        if hasattr(optimizer, "schedule"):
            optimizer = optimizer.replace(schedule=_shortened(optimizer.schedule, epochs / stage.epochs))  # type: ignore
        if isinstance(optimizer, Momentum):
            optimizer = optimizer.replace(switch_epoch=optimizer.switch_epoch * epochs / stage.epochs)  # type: ignore
        return stage.replace(epochs=epochs, optimizer=optimizer)  # type: ignore[attr-defined]

    if share == 1.0:
        return plan
    joint = None if plan.joint is None else dataclasses.replace(plan.joint, stage=short(plan.joint.stage))
    return dataclasses.replace(
        plan,
        pretraining=tuple(short(stage) for stage in plan.pretraining),
        joint=joint,
        output=short(plan.output),
        fine_tuning=short(plan.fine_tuning),
    )


def _shortened(schedule: Any, part: float) -> Any:
    """The schedule over a part of its epochs."""
    if isinstance(schedule, WarmUp):
        return WarmUp(part * schedule.epochs, _shortened(schedule.then, part))
    if isinstance(schedule, Inverse):
        return Inverse(schedule.rate / part)
    return Linear(part * schedule.end, part * schedule.start) if isinstance(schedule, Linear) else schedule


def _scores(
    task: Task,
    plan: Plan,
    tries: Sequence[dict[str, Any]],
    share: float,
    data: Splits,
    folder: Path,
    context: Context,
    wave: int,
) -> np.ndarray:
    """The validation measure of each combination, infinity where it diverged."""
    scores = np.full(len(tries), np.inf)
    plans = [shortened(with_values(plan, values), share) for values in tries]
    for number, group in enumerate(grouped(plans)):
        for first in range(0, len(group.indices), wave):
            some = group.indices[first : first + wave]
            (part,) = grouped([plans[index] for index in some])
            place = folder / f"group-{number}" / f"{first}-of-{wave}"
            lent = context._replace(checkpoints=Checkpoints(place, run="/".join(place.parts[-4:])))
            trained = task.train(part.recipe, data, [SEED] * len(some), lent)
            scores[list(some)] = task.score(part.recipe, trained, data)
    return scores
