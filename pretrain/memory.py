"""How many members fit on a device: from XLA's own analysis of the compiled programs, before anything is trained.

Every stage of a stack and its fine-tuning is compiled for a population of two, from shapes alone. What a program needs
is its arguments, its results and its scratch space, less what results take over from arguments; what does not grow with
the members is the data they share. A member's share of the rest is the largest over the stages, with what the layers
below it leave behind and the codes that are being made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pretrain import fit, population, solution
from pretrain.learners.classifier import Classifier
from pretrain.network import Network
from pretrain.rows import paired
from pretrain.stack import MONITOR_ROWS, classifier
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
    tuned: Stage | None = None,
    valid: Batch | None = None,
    devices: int = 1,
    limit: int | None = None,
) -> Plan:
    """Cuts a population into waves that fit on the devices, of nearly the same size.

    Args:
        members: of the population.
        stages: of the stack; () for a network without pretraining.
        train: the training rows, or their shapes.
        tuned: the fine-tuning, if there is any.
        valid: the validation rows, or their shapes.
        devices: over which the members are divided.
        limit: bytes a device has; default: `device_memory`.

    Raises:
        MemoryError: if not even one member fits.
    """
    limit = device_memory() if limit is None else limit
    shared, each = needed(stages, train, tuned=tuned, valid=valid)
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


def needed(
    stages: Sequence[Stage], train: Batch, *, tuned: Stage | None = None, valid: Batch | None = None
) -> tuple[int, int]:
    """Bytes that a population needs: shared by all members, and for each."""
    stages, tuned = [_probed(stage) for stage in stages], _probed(tuned)
    parts = {"train": _shapes(train)} | ({} if valid is None else {"valid": _shapes(valid)})
    raw = train = parts["train"]
    monitors = {name: jax.eval_shape(lambda b: paired(b, MONITOR_ROWS), part) for name, part in parts.items()}
    shared = _bytes(parts)
    layers, kept, most = [], 0, 0
    for stage in stages:
        learner = population.broadcast(stage.learner, PROBED)
        if isinstance(stage.learner, Solver):
            keys = jax.eval_shape(lambda: population.member_keys(range(PROBED)))
            solved = solution.solutions.lower(learner, train, keys)
            most, params = max(most, kept + _each(solved, shared)), solved.out_info
        else:
            lowered = fit.lowered(stage, train, members=PROBED, monitors=monitors)
            most = max(most, kept + _each(lowered, shared))
            fits = lowered.out_info[0]
            kept, params = kept + _bytes(fits) // PROBED, fits.params
        layer = jax.eval_shape(trained_layer, learner, params)
        layers.append(layer)
        above = jax.eval_shape(codes, layer, train)
        most = max(most, kept + (_own(train) + _bytes(above)) // PROBED)
        train, monitors = above, {name: jax.eval_shape(codes, layer, batch) for name, batch in monitors.items()}
    if tuned is not None:
        params = _network(layers, tuned) if layers and isinstance(tuned.learner, Classifier) else None
        seen = {"valid": parts.get("valid", raw)}
        lowered = fit.lowered(tuned, raw, members=PROBED, monitors=seen, params=params)
        most = max(most, kept + _each(lowered, shared))
    return shared, most


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
