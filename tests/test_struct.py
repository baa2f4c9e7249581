"""Pytrees of dataclasses: what `jax.jit` tells programs apart by."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import pkgutil
from typing import Any

import jax
import pytest

import benchmarks
import pretrain as pt
from pretrain import struct

structure = jax.tree_util.tree_structure


@struct.dataclass
class One:
    x: Any
    n: int = struct.field(pytree_node=False, default=3)


@struct.dataclass
class Other:
    x: Any
    n: int = struct.field(pytree_node=False, default=3)


@struct.dataclass
class Narrower(One):
    def __post_init__(self) -> None:
        if self.x is None:
            raise ValueError("no x")


def test_static_fields_and_classes_are_the_structure_and_others_are_leaves() -> None:
    tree = One({"a": 1.0, "b": 2.0})
    assert jax.tree.leaves(tree) == [1.0, 2.0]
    assert jax.tree.map(lambda leaf: -leaf, tree) == One({"a": -1.0, "b": -2.0})
    (path, _), _ = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert jax.tree_util.keystr(path) == ".x['a']"
    assert tree.replace(n=4) == One({"a": 1.0, "b": 2.0}, 4)  # type: ignore[attr-defined]
    assert structure(tree) != structure(tree.replace(n=4))  # type: ignore[attr-defined]
    for a, b in itertools.combinations((One(1.0), Other(1.0), Narrower(1.0)), 2):
        assert structure(a) != structure(b)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.n = 5  # type: ignore[misc]
    with pytest.raises(ValueError, match="no x"):
        Narrower(None)
    assert jax.tree.unflatten(structure(Narrower(1.0)), [None]).x is None  # whatever JAX puts in a leaf's place


def test_parts_of_the_same_fields_are_not_taken_for_each_other() -> None:
    alike = [
        [pt.GaussianRBM(6), pt.GaussianRBM(6, hidden=pt.RectifiedUnits())],
        [pt.Autoencoder(6, corruption=kind(0.2)) for kind in (pt.Masking, pt.SaltPepper, pt.Gaussian)],
        [pt.Autoencoder(6, penalty=kind(0.1)) for kind in (pt.L1, pt.Contractive)],
        [kind(10, (6,)) for kind in (pt.Classifier, pt.SquaredErrorClassifier, pt.SupervisedGreedy)],
    ]
    for learners in alike:
        for a, b in itertools.combinations(learners, 2):
            assert structure(a) != structure(b)


def test_no_dataclass_of_the_packages_is_registered_otherwise() -> None:
    found = 0
    for package in (pt, benchmarks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__") or ".peers." in module.name:
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and dataclasses.is_dataclass(value):
                    assert not hasattr(value, "_flax_dataclass"), value
                    found += hasattr(value, "replace")
    assert found > 50
