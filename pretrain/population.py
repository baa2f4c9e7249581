"""The member axis: seeds and hyperparameters side by side in one program.

Every run is a population, of one by default. Member ``m`` has its own random key and its own value of every numeric
leaf of its recipe; all members share the static choices (sizes, step counts, batch size), hence one compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def member_keys(seeds: Sequence[int] | np.ndarray) -> Array:
    """One random key a seed: ``[members]``."""
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
