"""Tasks: how the rows of an experiment are trained and what is measured of them, one a file."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.baselines import Fitted
from benchmarks.experiment import Plan
from benchmarks.pictures import ImageShape
from benchmarks.stacks import Stacks
from pretrain import population
from pretrain.checkpoint import Checkpoints
from pretrain.data import Splits
from pretrain.progress import Progress
from pretrain.report import Report
from pretrain.stack import Pretrained


class Context(NamedTuple):
    """What a run lends a task: the stack it may share with the row before, where to keep checkpoints, a report, and
    over how many devices a minibatch is divided.
    """

    stacks: Stacks
    checkpoints: Checkpoints | None = None
    report: Report | None = None
    batch_devices: int = 1

    @property
    def devices(self) -> int:
        """Over how many devices members are divided."""
        return max(len(jax.local_devices()) // self.batch_devices, 1)

    def mesh(self, members: int) -> Mesh | None:
        """The devices a population is trained on; None: there is one."""
        return population.mesh(members, self.batch_devices) if len(jax.local_devices()) > 1 else None

    def options(self, members: int) -> dict[str, Any]:
        """What every stage is given."""
        return {"checkpoints": self.checkpoints, "report": self.report, "mesh": self.mesh(members)}

    def pretrained(self, plan: Plan, data: Splits, seeds: list[int]) -> tuple[Pretrained | None, int]:
        """The plan's stack, None where it has none, and how many of its stages were there already."""
        if not plan.pretraining:
            return None, 0
        return self.stacks.get(plan, data, seeds, report=self.report, mesh=self.mesh(len(seeds)))


class Trained(NamedTuple):
    """A population, trained.

    Attributes:
        pretrained: the stack, if there is one.
        shared: how many of its stages were trained for an earlier row, which their time then belongs to.
        tuned: what fine-tuning made of it, if there was any.
        joint: the stack as one deep Boltzmann machine, if it was trained as such in between.
        joint_shared: whether that was done for an earlier row.
        beyond: stages of that stack that the row does not keep.
        fitted: of each member the classifier that is no network, in place of fine-tuning, and the seconds of each.
    """

    pretrained: Pretrained | None
    shared: int
    tuned: Progress | None
    joint: Progress | None = None
    joint_shared: bool = False
    beyond: tuple[Progress, ...] = ()
    fitted: tuple[tuple[Fitted, float], ...] = ()

    @property
    def stages(self) -> dict[str, Progress]:
        """Every stage by name."""
        layers = self.pretrained.progress if self.pretrained else ()
        stages = {f"layer {index + 1}/{len(layers)}": progress for index, progress in enumerate(layers)}
        later = {"joint": self.joint, "fine-tuning": self.tuned}
        return stages | {name: progress for name, progress in later.items() if progress is not None}

    @property
    def seconds(self) -> dict[str, float]:
        """Of every stage that was trained for this row, all members together."""
        layers = [name for name in self.stages if name.startswith("layer")]
        before = {*layers[: self.shared], *(["joint"] if self.joint_shared else [])}
        spent = {name: progress.seconds for name, progress in self.stages.items() if name not in before}
        if own := self.beyond[max(self.shared - len(layers), 0) :]:
            spent |= {"layers above": sum(progress.seconds for progress in own)}
        return spent | ({"fitting": sum(seconds for _, seconds in self.fitted)} if self.fitted else {})


class Task(Protocol):
    """How a row is trained and measured.

    Attributes:
        measure: results hold ``train_<measure>``, ``valid_<measure>`` and ``test_<measure>``.
        noun: what the measure is called in a sentence.
        larger_is_better: whether a larger one is.
        own_rows: whether members of one population may have data of their own, arrays with a member axis.
    """

    @property
    def measure(self) -> str: ...

    @property
    def noun(self) -> str: ...

    @property
    def larger_is_better(self) -> bool: ...

    @property
    def own_rows(self) -> bool: ...

    def train(self, plan: Plan, data: Splits, seeds: list[int], context: Context, /) -> Trained:
        """Trains one population by a plan."""
        ...

    def score(self, plan: Plan, trained: Trained, data: Splits, /) -> np.ndarray:
        """``[members]`` on the validation rows, lower is better, infinity where it diverged: a grid is chosen by it."""
        ...

    def results(
        self, plan: Plan, trained: Trained, data: Splits, seeds: list[int], image_shape: ImageShape, /
    ) -> list[dict[str, Any]]:
        """What is stored of each member, besides what is stored of every run: the measure on each part, ``finite``,
        ``n_hidden``, and whatever the task's figures are drawn from.
        """
        ...
