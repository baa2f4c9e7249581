"""The member axis: seeds and hyperparameters side by side in one program.

Every run is a population, of one by default. Member ``m`` has its own random key and its own value of every numeric
leaf of its recipe; all members share the static choices (sizes, step counts, batch size), hence one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pretrain.checks import check_seeds
from pretrain.types import Batch


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
        array = jnp.asarray(value, dtype=jnp.float32)
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


def member(tree: Any, index: int) -> Any:
    """One member of a population: every leaf loses its leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


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
