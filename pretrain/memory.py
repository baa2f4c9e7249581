"""How many members fit on a device: from XLA's own analysis of the compiled programs, before anything is trained.

Every stage of a stack, the machine it becomes, and its fine-tuning are compiled for a population of two, from shapes
alone. What a program needs is its arguments, its results and its scratch space, less what results take over from
arguments; what does not grow with the members is the data they share. A member's share of the rest is the largest over
the stages, with what the layers below it leave behind and the codes that are being made.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pretrain import fit, population, solution
from pretrain.generative import DBM
from pretrain.learners.classifier import Classifier
from pretrain.network import Network
from pretrain.rows import paired
from pretrain.stack import MONITOR_ROWS, Pretrained, classifier
from pretrain.stage import Stage, codes, trained_layer
from pretrain.types import Batch, Solver

PROBED = 2
"""Members of the population whose programs are analysed."""

SHARE = 0.9
"""Of a device's free memory, which its allocator cannot use to the last byte."""

MIB = 2**20


class Plan(NamedTuple):
    """How a population is cut into waves that fit.

    Attributes:
        members: of the population.
        wave: members trained side by side.
        shared: bytes that all members share.
        each: bytes that a member needs.
        limit: bytes there are.
    """

    members: int
    wave: int
    shared: int
    each: int
    limit: int

    def __str__(self) -> str:
        waves = -(-self.members // self.wave)
        return (
            f"{self.members} member{'s' if self.members > 1 else ''} in {waves} wave{'s' if waves > 1 else ''} of "
            f"{self.wave}: {self.shared / MIB:,.0f} MiB shared and {self.each / MIB:,.1f} MiB a member, of "
            f"{self.limit / MIB:,.0f} MiB"
        )


def device_memory() -> int:
    """Bytes that the first device still has to give: an accelerator's own, or the machine's free ones."""
    found = jax.local_devices()[0].memory_stats()
    if found and "bytes_limit" in found:
        return int(found["bytes_limit"] - found.get("bytes_in_use", 0))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_waves(
    members: int,
    stages: Sequence[Stage],
    train: Batch,
    *,
    machine: Machine | None = None,
    tuned: Stage | None = None,
    labelled: Batch | None = None,
    held: int = 0,
    valid: Batch | None = None,
    devices: int = 1,
    limit: int | None = None,
) -> Plan:
    """Cuts a population into waves that fit on the devices, of nearly the same size.

    Args:
        members: of the population.
        stages: of the stack; () for a network without pretraining.
        train: the training rows, or their shapes.
        machine: what is made of the stack before it is fine-tuned, if it is trained as one.
        tuned: the fine-tuning, if there is any.
        labelled: the rows it sees, or their shapes, where they are not ``train``: of ``[members, rows, features]`` they
            are each member's own.
        held: so many of the lowest layers stay as they are while it is fine-tuned.
        valid: the validation rows, or their shapes.
        devices: over which the members are divided.
        limit: bytes a device has; default: `device_memory`.

    Raises:
        MemoryError: if not even one member fits.
    """
    limit = device_memory() if limit is None else limit
    shared, each = needed(stages, train, machine=machine, tuned=tuned, labelled=labelled, held=held, valid=valid)
    fit_on_one = int((SHARE * limit - shared) // max(each, 1))
    if fit_on_one < 1:
        raise MemoryError(
            f"one member needs {(shared + each) / MIB:,.0f} MiB and the device has {limit / MIB:,.0f}: "
            "give smaller layers or fewer rows"
        )
    most = fit_on_one * devices
    waves = -(-members // most)
    even = -(-members // waves)
    return Plan(members, min(-(-even // devices) * devices, most), shared, each, limit)


class Machine(NamedTuple):
    """A stack that is trained as one deep Boltzmann machine before it is fine-tuned.

    Attributes:
        stage: a `pretrain.generative.DBM`, its recipe, and how long; of no epochs, it stays as the stack gives it.
        front: so many of the stack's lowest layers are not part of it.
        steps: mean-field sweeps in the network that is fine-tuned.
    """

    stage: Stage
    front: int = 0
    steps: int | None = None


@dataclasses.dataclass
class _Account:
    """Attributes: ``shared`` by all members; ``kept``, what a member has left behind so far; the ``most`` it needed."""

    shared: int
    kept: int = 0
    most: int = 0

    def program(self, lowered: Any) -> None:
        """One that runs now."""
        self.most = max(self.most, self.kept + _each(lowered, self.shared))

    def codes(self, below: Batch, above: Batch) -> None:
        """Made now of those of the layer below."""
        self.most = max(self.most, self.kept + (_own(below) + _bytes(above)) // PROBED)


def needed(
    stages: Sequence[Stage],
    train: Batch,
    *,
    machine: Machine | None = None,
    tuned: Stage | None = None,
    labelled: Batch | None = None,
    held: int = 0,
    valid: Batch | None = None,
) -> tuple[int, int]:
    """Bytes that a population needs: shared by all members, and for each. Arguments as in `plan_waves`."""
    stages, tuned = [_probed(stage) for stage in stages], _probed(tuned)
    parts = {"train": _shapes(train)} | ({} if valid is None else {"valid": _shapes(valid)})
    monitors = {name: jax.eval_shape(lambda b: paired(b, MONITOR_ROWS), part) for name, part in parts.items()}
    account = _Account(_bytes(parts))
    shown, layers, learned = [(parts["train"], monitors)], [], []
    for stage in stages:
        rows, seen = shown[-1]
        learner = population.broadcast(stage.learner, PROBED)
        if isinstance(stage.learner, Solver):
            solved = solution.solutions.lower(
                learner, rows, jax.eval_shape(lambda: population.member_keys(range(PROBED)))
            )
            account.program(solved)
            learned.append(solved.out_info)
        else:
            learned.append(_trained(account, stage, rows, seen))
        layers.append(jax.eval_shape(trained_layer, learner, learned[-1]))
        shown.append(_above(account, layers[-1], rows, seen))
    if machine is not None:
        layers = [*layers[: machine.front], *_joint(account, machine, stages, layers, learned, shown)]
    if tuned is not None:
        rows = parts["train"] if labelled is None else _shapes(labelled)
        params, seen = None, {name: part for name, part in parts.items() if name == "valid"}
        if layers and isinstance(tuned.learner, Classifier):
            fixed = held + len(list(itertools.takewhile(lambda layer: getattr(layer, "fixed", False), layers[held:])))
            for layer in layers[:fixed]:
                rows, seen = _above(account, layer, rows, seen)
            params = _network(layers[fixed:], tuned)
        account.program(fit.lowered(tuned, rows, members=PROBED, monitors=seen, params=params))
    return account.shared, account.most


def _trained(account: _Account, stage: Stage, rows: Batch, seen: dict[str, Batch], params: Any = None) -> Any:
    """The shapes of what a stage learns; its state is left behind."""
    lowered = fit.lowered(stage, rows, members=PROBED, monitors=seen, params=params)
    account.program(lowered)
    fits = lowered.out_info[0]
    account.kept += _bytes(fits) // PROBED
    return fits.params


def _above(account: _Account, layer: Any, rows: Batch, seen: dict[str, Batch]) -> tuple[Batch, dict[str, Batch]]:
    """The shapes of the codes of all rows."""
    above = jax.eval_shape(codes, layer, rows)
    account.codes(rows, above)
    return above, {name: jax.eval_shape(codes, layer, batch) for name, batch in seen.items()}


def _joint(
    account: _Account,
    machine: Machine,
    stages: Sequence[Stage],
    layers: Sequence[Any],
    learned: Sequence[Any],
    shown: Sequence[tuple[Batch, dict[str, Batch]]],
) -> tuple[Any, ...]:
    """The shapes of the layers that a deep Boltzmann machine is fine-tuned as."""
    stage, front = _probed(machine.stage), machine.front
    stack = Pretrained(tuple(layers), tuple(learned), tuple(stages), ()).above(front)
    params = jax.eval_shape(lambda params: DBM.from_stack(stack._replace(params=params)), stack.params)
    if stage.epochs:
        rows, seen = shown[front]
        params = _trained(account, stage, rows, {name: seen[name] for name in seen if name == "valid"}, params)
    return jax.eval_shape(lambda params: stage.learner.discriminative_layers(params, machine.steps), params)


def _probed(recipe: Any) -> Any:
    """A recipe whose numbers, where each member has its own, are those of as many members as are analysed."""
    return jax.tree.map(lambda leaf: np.resize(leaf, PROBED) if np.ndim(leaf) else leaf, recipe)


def _network(layers: list[Any], tuned: Stage) -> Network:
    """The shapes of the networks that are fine-tuned."""
    of: Callable[..., Any] = lambda layers, keys: classifier(layers, tuned.learner, keys)  # type: ignore[arg-type]  # noqa: E731
    return jax.eval_shape(of, tuple(layers), jax.eval_shape(lambda: population.member_keys(range(PROBED))))


def _each(lowered: Any, shared: int) -> int:
    """Bytes a member of what a program needs."""
    found = lowered.compile().memory_analysis()
    total = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return max(total - found.alias_size_in_bytes - shared, 0) // PROBED + 1


def _own(batch: Batch) -> int:
    """Bytes of the fields that have a member axis."""
    fields = population.axes(batch)
    return sum(_bytes(field) for field, own in zip(batch, fields, strict=True) if own is not None)


def _shapes(tree: Any) -> Any:
    return jax.eval_shape(lambda tree: jax.tree.map(jnp.asarray, tree), tree)


def _bytes(tree: Any) -> int:
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)]
    return int(sum(sizes))
