"""The pretraining that was done last, kept: rows that differ only in what follows share it.

A curve over numbers of labels fine-tunes one stack many times; a grid over the fine-tuning's numbers tries them on one
stack. The stacks of one pretraining are kept, one for each of its data and populations of seeds, in memory and as
checkpoints, and with each the machine that was made of it last, in memory; so rows that share a pretraining must follow
each other. A row whose lowest stages are those of the row before puts its others on that one's layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.experiment import Pairs, Plan, digest
from pretrain import population
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.progress import Progress
from pretrain.report import Report
from pretrain.rows import paired
from pretrain.stack import MONITOR_ROWS, Pretrained, pretrain
from pretrain.types import Batch


def named(seeds: Sequence[int]) -> str:
    """Seeds as a part of a file's name, short however many there are: the first, the last and a digest of all; of one
    seed, itself.
    """
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}-{digest(*seeds)}"


class Stacks:
    """The stacks of one pretraining.

    Args:
        folder: where the checkpoints of a stack in training are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._name = ""
        self._plan: Plan | None = None
        self._kept: dict[tuple[Any, ...], tuple[Pretrained, Checkpoints | None]] = {}
        self._below: dict[tuple[Any, ...], Pretrained] = {}
        self._joint: dict[tuple[Any, ...], tuple[str, Progress]] = {}
        self._pairs: str = ""
        self._data: Splits | None = None
        self._paired: tuple[Batch, Batch | None] | None = None

    def get(
        self, plan: Plan, data: Splits, seeds: Sequence[int], report: Report | None, mesh: Mesh | None = None
    ) -> tuple[Pretrained, int]:
        """The plan's stack, and how many of its stages, from the lowest up, were there already. Members that cannot
        differ, of one seed and the same numbers (a grid over fine-tuning), are trained as one.
        """
        if len(seeds) > 1 and len(set(seeds)) == 1 and not any(map(np.ndim, jax.tree.leaves(plan.pretraining))):
            stack, shared = self.get(plan, data, seeds[:1], report)
            return repeated(stack, len(seeds)), shared
        name, own = digest(plan.pretraining, plan.pairs, plan.augment), (plan.data, *seeds)
        if name != self._name:
            below = self._alike(plan)
            self.clear()
            self._name, self._plan, self._below = name, plan, below
        if own in self._kept:
            return self._kept[own][0], len(plan.pretraining)
        folder = f"stack-{digest(name, plan.data)}-{named(seeds)}"
        checkpoints = None if self._folder is None else Checkpoints(self._folder / folder, run=folder)
        train, valid = self.paired(plan.pairs, data)
        below = self._below.pop(own, None)
        shared = len(below.stages) if below else 0
        stack = pretrain(
            plan.pretraining[shared:],
            train,
            valid=valid,
            seeds=seeds,
            below=below,
            augment=plan.augment,
            checkpoints=checkpoints,
            report=report,
            mesh=mesh,
        )
        self._kept[own] = stack, checkpoints
        return stack, shared

    def _alike(self, plan: Plan) -> dict[tuple[Any, ...], Pretrained]:
        """Of the stacks that are kept the lowest stages that are the plan's too."""
        if self._plan is None or digest(plan.pairs, plan.augment) != digest(self._plan.pairs, self._plan.augment):
            return {}
        pairs = zip(self._plan.pretraining, plan.pretraining, strict=False)
        n = sum(1 for _ in itertools.takewhile(lambda pair: digest(pair[0]) == digest(pair[1]), pairs))
        return {own: stack.below(n) for own, (stack, _) in self._kept.items()} if n else {}

    def joint(self, plan: Plan, seeds: Sequence[int], train: Callable[[], Progress]) -> tuple[Progress, bool]:
        """The plan's stack as one machine, trained by ``train`` if it is not there; and whether it was."""
        assert plan.joint is not None
        name, own = digest(plan.joint.stage, plan.joint.front), (plan.data, *seeds)
        kept = self._joint.get(own)
        if kept is None or kept[0] != name:
            self._joint[own] = name, train()
        return self._joint[own][1], kept is not None and kept[0] == name

    def clear(self) -> None:
        """Lets go of the stacks and removes their checkpoints."""
        for _, checkpoints in self._kept.values():
            if checkpoints is not None:
                checkpoints.clear()
        self._name, self._plan, self._kept, self._below, self._joint = "", None, {}, {}, {}

    def paired(self, pairs: Pairs | None, data: Splits) -> tuple[Batch, Batch | None]:
        """Training rows, and the validation rows that layers are monitored on, with partners; the last are kept."""
        if pairs is None:
            return data.train, data.held_out
        name = digest(pairs)
        if self._paired is None or self._pairs != name or self._data is not data:
            held_out = data.held_out and pairs(paired(data.held_out, MONITOR_ROWS))
            self._pairs, self._data, self._paired = name, data, (pairs(data.train), held_out)
        return self._paired


def repeated(stack: Pretrained, members: int) -> Pretrained:
    """A stack of one member as that of so many alike."""
    progress = tuple(
        each._replace(
            fits=population.repeated(each.fits, members),
            best=population.repeated(each.best, members),
            history={name: values.repeat(members, axis=1) for name, values in each.history.items()},
        )
        for each in stack.progress
    )
    return stack._replace(
        layers=population.repeated(stack.layers, members),
        params=population.repeated(stack.params, members),
        progress=progress,
    )
