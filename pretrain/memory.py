"""How many members fit on a device: from XLA's own analysis of the compiled programs, before anything is trained.

Every stage of a stack, the machine it becomes, and its fine-tuning are compiled for a population of two, from shapes
alone. What a program needs is its arguments, its results and its scratch space, less what results take over from
arguments; what does not grow with the members is the data they share. A member's share of the rest is the largest over
the stages, with what those before it leave behind, and over the programs that make codes, beside the codes below.
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
from pretrain.stack import MONITOR_ROWS, Pretrained
from pretrain.stage import Stage, codes, trained_layer
from pretrain.tuning import classifier
from pretrain.types import Batch, Solver

PROBED = 2
"""Members of the population whose programs are analysed."""

SHARE = 0.9
"""Of a device's free memory, which its allocator cannot use to the last byte."""

MIB = 2**20


class Needs(NamedTuple):
    """Bytes.

    Attributes:
        shared: by all members, the data.
        each: of a member, at most, while it is trained.
        left: of a member once it is trained: its stack, which is kept while other members are trained.
    """

    shared: int
    each: int
    left: int


class Plan(NamedTuple):
    """How a population is cut into waves that fit.

    Attributes:
        members: of the population.
        wave: members trained side by side.
        needs: what they need.
        limit: bytes there are.
    """

    members: int
    wave: int
    needs: Needs
    limit: int

    def __str__(self) -> str:
        waves = -(-self.members // self.wave)
        return (
            f"{self.members} member{'s' if self.members > 1 else ''} in {waves} wave{'s' if waves > 1 else ''} of "
            f"{min(self.wave, self.members)}: {self.needs.shared / MIB:,.0f} MiB shared and "
            f"{self.needs.each / MIB:,.1f} MiB a member, of {self.limit / MIB:,.0f} MiB"
        )


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


def device_memory() -> int:
    """Bytes that the first device still has to give: an accelerator's own, or the machine's free ones."""
    found = jax.local_devices()[0].memory_stats()
    if found and "bytes_limit" in found:
        return int(found["bytes_limit"] - found.get("bytes_in_use", 0))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_waves(members: int, needs: Needs, *, devices: int = 1, limit: int | None = None) -> Plan:
    """Cuts a population into waves that fit on the devices, of nearly the same size, each beside the stacks of all
    others.

    Args:
        members: of the population.
        needs: what they need (`needed`).
        devices: over which the members are divided.
        limit: bytes a device has; default: `device_memory`.

    Raises:
        MemoryError: if not even one member fits.
    """
    limit = device_memory() if limit is None else limit
    there = int(SHARE * limit) - needs.shared
    all_left = -(-members // devices) * needs.left
    fit_on_one = (there - all_left) // max(needs.each - needs.left, 1)
    if fit_on_one < 1:
        others = f" beside {all_left / MIB:,.0f} MiB of trained stacks" if there >= needs.each else ""
        raise MemoryError(
            f"one member needs {(needs.shared + needs.each) / MIB:,.0f} MiB{others} and the device has "
            f"{limit / MIB:,.0f}: give smaller layers, fewer rows or fewer members"
        )
    most = fit_on_one * devices
    waves = -(-members // most)
    even = -(-members // waves)
    return Plan(members, min(-(-even // devices) * devices, most), needs, limit)


Seen = dict[str, Batch]
"""Rows that are measured on, by name."""


@dataclasses.dataclass
class _Account:
    """Bytes of a member: ``kept`` by now, and the ``most`` that were needed at any time. Rows that were ``given`` and
    are its own are kept throughout.
    """

    given: Sequence[Batch] = ()
    kept: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.kept += sum(map(_own, self.given)) // PROBED

    def program(self, lowered: Any, rows: Batch, seen: Seen) -> None:
        """Beside what is kept a program runs on these rows, of which members share what has no member axis."""
        found = lowered.compile().memory_analysis()
        total = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
        counted = sum(_bytes(batch) - self._new(batch) for batch in (rows, *seen.values()))
        self.most = max(self.most, self.kept + max(total - found.alias_size_in_bytes - counted, 0) // PROBED + 1)

    def trained(self, stage: Stage, rows: Batch, seen: Seen, params: Any = None) -> Any:
        """A stage is trained; the shapes of its parameters. They and all of its state are kept."""
        lowered = fit.lowered(stage, rows, members=PROBED, monitors=seen, params=params)
        self.program(lowered, rows, seen)
        fits, best, *_ = lowered.out_info
        self.kept += _bytes((fits, best)) // PROBED
        return fits.params

    def codes(self, layer: Any, rows: Batch, seen: Seen) -> tuple[Batch, Seen]:
        """The codes of all rows are made, beside those of the layer below; their shapes."""
        lowered = codes.lower(layer, rows)
        above, seen_above = lowered.out_info, {k: jax.eval_shape(codes, layer, seen[k]) for k in seen}
        there = sum(self._new(batch) for batch in (rows, above, *seen.values(), *seen_above.values()))
        found: Any = lowered.compile().memory_analysis()
        self.most = max(self.most, self.kept + (there + found.temp_size_in_bytes) // PROBED)
        return above, seen_above

    def _new(self, batch: Batch) -> int:
        """Bytes of the fields that have a member axis and were not given."""
        given = {id(leaf) for leaf in jax.tree.leaves(tuple(self.given))}
        return _own(batch) - sum(_bytes(leaf) for leaf in _own_fields(batch) if id(leaf) in given)


def needed(
    stages: Sequence[Stage],
    train: Batch,
    *,
    machine: Machine | None = None,
    tuned: Stage | None = None,
    output: Stage | None = None,
    labels: int | None = None,
    held: int = 0,
    valid: Batch | None = None,
) -> Needs:
    """What a population needs.

    Args:
        stages: of the stack; () for a network without pretraining.
        train: the training rows, or their shapes; where members have rows of their own, those of `PROBED` members.
        machine: what is made of the stack before it is fine-tuned, if it is trained as one.
        tuned: the fine-tuning, if there is any.
        output: trains the output layer alone before that.
        labels: fine-tuning sees so many rows, of every member's own choice; None: all.
        held: so many of the lowest layers stay as they are while it is fine-tuned.
        valid: the validation rows, or their shapes.
    """
    stages, tuned, output = [_probed(stage) for stage in stages], _probed(tuned), _probed(output)
    train, held_out = _shapes(train), {} if valid is None else {"valid": _shapes(valid)}
    monitors = {
        name: jax.eval_shape(lambda b: paired(b, MONITOR_ROWS), part)
        for name, part in ({"train": train} | held_out).items()
    }
    given = (train, *held_out.values(), *(monitors.values() if stages else ()))
    shared = sum(_bytes(batch) - _own(batch) for batch in given)
    account, layers, learned = _Account(given), [], []
    own = account.kept
    rows, seen = train, monitors
    for stage in stages:
        learner = population.broadcast(stage.learner, PROBED)
        if isinstance(stage.learner, Solver):
            solved = solution.solutions.lower(learner, rows, _keys())
            account.program(solved, rows, {})
            learned.append(solved.out_info)
            account.kept += _bytes(learned[-1]) // PROBED
        else:
            learned.append(account.trained(stage, rows, seen))
        layers.append(jax.eval_shape(trained_layer, learner, learned[-1]))
        account.kept += _bytes(layers[-1]) // PROBED  # arrays of their own
        rows, seen = account.codes(layers[-1], rows, seen)
    if machine is not None:
        stack = Pretrained(tuple(layers), tuple(learned), tuple(stages), ())
        layers = [*layers[: machine.front], *_joint(account, machine, stack, train, held_out)]
    left = account.kept - own
    if tuned is not None:
        n_rows, n_features = train.x.shape[-2:]
        if labels is not None and labels != n_rows:  # twice: each member's, and those of all stacked
            train = jax.eval_shape(
                lambda: Batch(jnp.zeros((PROBED, labels, n_features)), jnp.zeros((PROBED, labels), int))
            )
            account.kept += _own(train) // PROBED
        _fine_tuned(account, tuned, output, layers, held, train, held_out)
    return Needs(shared, account.most, left)


def _joint(account: _Account, machine: Machine, stack: Pretrained, train: Batch, held_out: Seen) -> tuple[Any, ...]:
    """The shapes of the layers that a deep Boltzmann machine is fine-tuned as."""
    stage, front, above = _probed(machine.stage), machine.front, stack.above(machine.front)
    params = jax.eval_shape(lambda params: DBM.from_stack(above._replace(params=params)), above.params)
    if stage.epochs:
        rows, seen = Batch(train.x), {name: Batch(batch.x) for name, batch in held_out.items()}
        for layer in stack.layers[:front]:
            rows, seen = account.codes(layer, rows, seen)
        start = _bytes(params) // PROBED  # kept beside those that are trained
        account.kept += start
        params = account.trained(stage, rows, seen, params)
        account.kept -= start
    layers = jax.eval_shape(lambda params: stage.learner.discriminative_layers(params, machine.steps), params)
    account.kept += _bytes(layers) // PROBED
    return layers


def _fine_tuned(
    account: _Account, tuned: Stage, output: Stage | None, layers: Sequence[Any], held: int, rows: Batch, seen: Seen
) -> None:
    params = None
    if layers and isinstance(tuned.learner, Classifier):
        params = _network(layers, tuned)
        fixed = held + len(list(itertools.takewhile(lambda layer: getattr(layer, "fixed", False), layers[held:])))
        params = params.replace(layers=params.layers[fixed:])  # type: ignore[attr-defined]
        account.kept += _bytes(params) // PROBED  # the initial ones are kept beside those that are trained
        for layer in layers[:fixed]:
            rows, seen = account.codes(layer, rows, seen)
        if output is not None:
            held_codes = sum(_own(batch) for batch in (rows, *seen.values())) // PROBED
            account.kept += held_codes
            top, top_seen = rows, seen
            for layer in layers[fixed:]:
                top, top_seen = account.codes(layer, top, top_seen)
            account.program(fit.lowered(output, top, members=PROBED, monitors=top_seen), top, top_seen)
            account.kept -= held_codes
    account.program(fit.lowered(tuned, rows, members=PROBED, monitors=seen, params=params), rows, seen)


def _keys() -> Any:
    return jax.eval_shape(lambda: population.member_keys(range(PROBED)))


def _probed(recipe: Any) -> Any:
    """A recipe whose numbers, where each member has its own, are those of as many members as are analysed."""
    return jax.tree.map(lambda leaf: np.resize(leaf, PROBED) if np.ndim(leaf) else leaf, recipe)


def _network(layers: Sequence[Any], tuned: Stage) -> Network:
    """The shapes of the networks that are fine-tuned."""
    of: Callable[..., Any] = lambda layers, keys: classifier(layers, tuned.learner, keys)  # type: ignore[arg-type]  # noqa: E731
    return jax.eval_shape(of, tuple(layers), _keys())


def _own(batch: Batch) -> int:
    """Bytes of the fields that have a member axis."""
    return sum(map(_bytes, _own_fields(batch)))


def _own_fields(batch: Batch) -> list[Any]:
    return [field for field, own in zip(batch, population.axes(batch), strict=True) if own is not None]


def _shapes(tree: Any) -> Any:
    return jax.eval_shape(lambda tree: jax.tree.map(jnp.asarray, tree), tree)


def _bytes(tree: Any) -> int:
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)]
    return int(sum(sizes))
