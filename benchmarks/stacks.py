"""The stack that was pretrained last, kept: rows that differ only in what follows share it.

A curve over numbers of labels fine-tunes one stack many times; a grid over the fine-tuning's numbers tries them on one
stack. Only one is kept, in memory and as checkpoints, so rows that share a stack must follow each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment import Pairs, Plan, declared
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.fit import paired
from pretrain.report import Report
from pretrain.stack import MONITOR_ROWS, Pretrained, pretrain
from pretrain.types import Batch


class Stacks:
    """One kept stack.

    Args:
        folder: where the checkpoints of a stack in training are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._name, self._stack, self._checkpoints = "", None, None
        self._pairs, self._data = "", None

    def get(self, plan: Plan, data: Splits, seeds: Sequence[int], report: Report | None) -> tuple[Pretrained, bool]:
        """The plan's stack, and whether it was there already."""
        name = _name(plan.pretraining, plan.pairs, list(seeds))
        if self._stack is not None and self._name == name:
            return self._stack, True
        self.clear()
        self._checkpoints = None if self._folder is None else Checkpoints(self._folder / f"stack-{name}")
        train, valid = self._paired(plan.pairs, data)
        self._stack = pretrain(
            plan.pretraining, train, valid=valid, seeds=seeds, checkpoints=self._checkpoints, report=report
        )
        self._name = name
        return self._stack, False

    def clear(self) -> None:
        """Lets go of the stack and removes its checkpoints."""
        if self._checkpoints is not None:
            self._checkpoints.clear()
        self._name, self._stack, self._checkpoints = "", None, None

    def _paired(self, pairs: Pairs | None, data: Splits) -> tuple[Batch, Batch]:
        """Training rows, and the validation rows that layers are monitored on, with partners; the last are kept."""
        if pairs is None:
            return data.train, data.valid
        name = _name(pairs)
        if self._data is None or self._pairs != name:
            self._pairs, self._data = name, (pairs(data.train), pairs(paired(data.valid, MONITOR_ROWS)))
        return self._data


def _name(*what: object) -> str:
    return hashlib.sha256(json.dumps(declared(list(what)), sort_keys=True).encode()).hexdigest()[:12]
