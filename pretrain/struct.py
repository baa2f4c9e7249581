"""Frozen dataclasses as pytrees: what learners, recipes, layers and parts of them are.

The interface is that of ``flax.struct``: a field is a leaf, or a subtree, unless it is declared with
``field(pytree_node=False)``; then it is static, part of the structure by which `jax.jit` finds a compiled program. The
implementation is not. ``flax.struct.dataclass`` registers classes by ``jax.tree_util.register_dataclass``, whose
structures (jax 0.10 and 0.11) compare equal where two classes have as many children and equal static fields, whatever
the classes are: two units, corruptions or classifiers of the same fields. Only their hashes differ, of which jit's
table looks at seven bits first, so that once in some hundred pairs it takes the program of the one for the other's.
Classes that are registered by functions of their own, as here, are told apart.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def field(pytree_node: bool = True, **options: Any) -> Any:
    """A `dataclasses.field`: a leaf or subtree of the class's pytrees, or with ``pytree_node=False`` static."""
    return dataclasses.field(metadata={"pytree_node": pytree_node}, **options)


@dataclass_transform(field_specifiers=(field,), frozen_default=True)
def dataclass(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass of a class, and a pytree of each of its objects; ``.replace(**fields)`` gives a changed
    copy. An object that JAX rebuilds from its leaves is not checked again by ``__post_init__``: leaves may be tracers.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    names: dict[bool, list[str]] = {True: [], False: []}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        names[item.metadata.get("pytree_node", True)].append(item.name)
    children, static = names[True], names[False]
    keys = [jax.tree_util.GetAttrKey(name) for name in children]

    def flatten(tree: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(tree, name) for name in children], tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        leaves, kept = flatten(tree)
        return list(zip(keys, leaves, strict=True)), kept

    def unflatten(kept: tuple[Any, ...], leaves: Any) -> Any:
        tree = object.__new__(cls)
        tree.__dict__.update(zip(children, leaves, strict=True))
        tree.__dict__.update(zip(static, kept, strict=True))
        return tree

    cls.replace = dataclasses.replace  # type: ignore[attr-defined]
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
