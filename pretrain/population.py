"""The member axis: seeds and hyperparameters side by side in one program.

Every run is a population, of one by default. Member ``m`` has its own random key and its own value of every numeric
leaf of its recipe; all members share the static choices (sizes, step counts, batch size), hence one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pretrain.checks import check_seeds
from pretrain.types import Batch

T = TypeVar("T")


def member_keys(seeds: Sequence[int] | np.ndarray) -> Array:
    """One random key a seed: ``[members]``.

    Raises:
        ValueError: if the seeds are not whole numbers from 0 to 2**32 - 1, at least one.
    """
    check_seeds(seeds)
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, dtype=jnp.uint32))


def broadcast(tree: Any, n_members: int) -> Any:
    """Gives every numeric leaf of a recipe a leading member axis: scalars are repeated, ``[members]`` is kept.

    Raises:
        ValueError: if a leaf is neither a scalar nor has ``n_members`` values.
    """

    def leaf(path: Any, value: Any) -> Array:
        try:
            array = jnp.asarray(value, dtype=jnp.float32)
        except TypeError as error:
            where = jax.tree_util.keystr(path) or "it"
            raise ValueError(
                f"learners, recipes and their parts are pretrain.struct dataclasses of numbers; {where} is {value!r}: "
                "declare your own (an optax optimizer in one with `build`, a schedule in one with `__call__`)"
            ) from error
        if array.ndim == 0:
            return jnp.broadcast_to(array, (n_members,))
        if array.shape[0] != n_members:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"hyperparameter {where} has shape {array.shape} but the population has {n_members} members: "
                "give one number, or one a member"
            )
        return array

    return jax.tree_util.tree_map_with_path(leaf, tree)


class Group(NamedTuple):
    """Members that one program trains.

    Attributes:
        indices: which of the recipes they are.
        recipe: the one recipe; numbers in which they differ are ``[members]``.
    """

    indices: tuple[int, ...]
    recipe: Any


def grouped(recipes: Sequence[Any]) -> list[Group]:
    """Recipes as populations: those that differ only in numbers become one; sizes, lengths and choices, which are
    static, make groups of their own, each with its own compiled program.

    Args:
        recipes: pytrees (learners, stages, tuples of stages) whose leaves are numbers.

    Returns:
        Groups in the order of their first recipes.
    """
    structures: list[Any] = []
    members: list[list[int]] = []
    flat = [jax.tree.flatten(recipe) for recipe in recipes]
    for index, (_, structure) in enumerate(flat):
        if structure not in structures:  # compared, not hashed: what is static need not be hashable
            structures.append(structure)
            members.append([])
        members[structures.index(structure)].append(index)
    return [
        Group(tuple(own), structure.unflatten(map(_agreed, *(flat[index][0] for index in own))))
        for structure, own in zip(structures, members, strict=True)
    ]


def _agreed(*values: Any) -> Any:
    """One number where all members have the same, else ``[members]``."""
    return values[0] if all(value == values[0] for value in values) else np.array(values, np.float32)


def member(tree: Any, index: int) -> Any:
    """One member of a population: every leaf loses its leading axis.

    Raises:
        IndexError: if there are not so many members.
        ValueError: if it is no population, as what `pretrain.pretrain` and `pretrain.fine_tune` return is none.
    """
    leaves = jax.tree.leaves(tree)
    if not all(getattr(leaf, "ndim", 0) for leaf in leaves):
        raise ValueError(
            f"a {type(tree).__name__} is no population of arrays: give the params of what run or fine_tune returned; "
            "of a stack pretrained.network(index) is a member"
        )
    if leaves and isinstance(index, int) and not -(n := len(leaves[0])) <= index < n:
        raise IndexError(f"there are {n} members, 0 to {n - 1}; got {index}")
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked(trees: Sequence[Any]) -> Any:
    """Members as a population: the inverse of `member`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def repeated(tree: T, members: int) -> T:
    """A population of one as that of so many alike."""
    return jax.tree.map(lambda leaf: leaf[np.zeros(members, int)], tree)


def n_members(tree: Any) -> int:
    """The size of the member axis of a population."""
    return jax.tree.leaves(tree)[0].shape[0]


def axes(batch: Batch) -> Batch:
    """Vmap axes of a batch: a field with one more axis than one member's is each member's own, else all share it."""
    ranks = (2, 1, 2)
    own = [0 if field is not None and field.ndim > rank else None for field, rank in zip(batch, ranks, strict=True)]  # type: ignore
    return Batch(*own)  # type: ignore[arg-type]


def over_members(function: Callable[..., Any], axes: tuple[Any, ...], members: int) -> Callable[..., Any]:
    """`jax.vmap`, but a population of one runs without the axis.

    The result is the same to the bit. A matrix product with a batch axis of size 1 costs XLA's CPU backend a transposed
    copy of every operand: an update of contrastive divergence would take some 30% longer.
    """
    if members > 1:
        return jax.vmap(function, in_axes=axes)

    def alone(*arguments: Any) -> Any:
        taken = [_without_axis(argument, axis) for argument, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda leaf: leaf[None], function(*taken))

    return alone


def _without_axis(argument: Any, axis: Any) -> Any:
    if axis is None or argument is None:
        return argument
    if isinstance(axis, dict):
        return {name: _without_axis(argument[name], axis[name]) for name in axis}
    if isinstance(axis, Batch):
        return Batch(*map(_without_axis, argument, axis))
    return member(argument, 0)


# --- many devices ---

MEMBER, BATCH = "member", "batch"
"""The axes of a mesh of devices: members are divided over the first, the rows of every minibatch over the second."""


def mesh(members: int, batch: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Devices as a mesh of ``[member, batch]``: as many along the member axis as divide the members evenly.

    Members need nothing of each other, so the program has no communication along their axis. Along the batch axis
    gradients are summed over devices at every update, which pays for large layers and batches only.

    Args:
        members: of the population.
        batch: devices that share the rows of a member's minibatch.
        devices: default: all of this process.

    Raises:
        ValueError: if there are fewer than ``batch`` devices.
    """
    devices = jax.local_devices() if devices is None else devices
    if not 1 <= batch <= len(devices):
        raise ValueError(f"batch must lie in 1..{len(devices)}, the number of devices; got {batch}")
    along = max(n for n in range(1, len(devices) // batch + 1) if members % n == 0)
    return Mesh(np.array(devices[: along * batch]).reshape(along, batch), (MEMBER, BATCH))


def check_mesh(mesh: Mesh, members: int, batch_size: int) -> None:
    """Raises: ValueError: if members or rows cannot be divided evenly over the devices."""
    if mesh.axis_names != (MEMBER, BATCH):
        raise ValueError(f"the axes of the mesh must be {MEMBER!r} and {BATCH!r}; got {mesh.axis_names}")
    for what, count, axis in (("members", members, MEMBER), ("rows of a minibatch", batch_size, BATCH)):
        if count % mesh.shape[axis]:
            raise ValueError(f"{count} {what} cannot be divided evenly over {mesh.shape[axis]} devices ({axis!r})")


def spread(tree: Any, mesh: Mesh) -> Any:
    """A pytree whose every leaf has a member axis, divided over the devices of a mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P(MEMBER)))


def placed(batch: Batch, mesh: Mesh) -> Batch:
    """A batch on the devices of a mesh: fields with a member axis divided, the others whole on each."""
    return jax.device_put(batch, jax.tree.map(lambda _, spec: NamedSharding(mesh, spec), batch, specs(batch)))


def specs(batch: Batch) -> Batch:
    """How the fields of a batch lie on a mesh: divided where they have a member axis."""
    own = P(), P(MEMBER)
    found = (None if f is None else own[axis is not None] for f, axis in zip(batch, axes(batch), strict=True))
    return Batch(*found)  # type: ignore[arg-type]


def divided(batch: Batch, mesh: Mesh | None) -> Batch:
    """A minibatch inside the program, its rows divided over the batch axis of a mesh, if it has one."""
    if mesh is None or mesh.shape[BATCH] == 1:
        return batch
    return jax.tree.map(lambda rows: jax.lax.with_sharding_constraint(rows, P(BATCH)), batch)
