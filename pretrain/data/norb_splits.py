"""Small NORB divided into what is trained, validated and tested on, and prepared.

There is no published validation set. 4,300 training pairs are held out, in one of two ways, or none:

- ``random``: of all objects. 20,000 pairs are left. Such a split leaks the object: the same toy, a little turned, is
  trained on, and the validation error says little about toys never seen, which the test part consists of.
- ``instance``: of one object a category, of which nothing is trained on. 19,440 pairs are left.
- ``nothing``: all 24,300 pairs are trained on, with numbers that one of the others chose.

Some of the training objects may be tested on in place of the published test part; so many fewer are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pretrain.data.splits import Splits, stratified_rows
from pretrain.types import Batch

HoldOut = Literal["random", "instance", "nothing"]
"""What is held out for validation: pairs of all objects, of objects that are not trained on, or nothing."""

N_CATEGORIES = 5
"""Four-legged animals, human figures, airplanes, trucks, cars."""

BLOCK = 500
"""Pairs that are prepared at a time: 9 MB of pixels."""


class Pairs(NamedTuple):
    """A part as it is published.

    Attributes:
        images: ``[rows, 2, 96, 96]`` uint8, left and right; read-only, mapped from the file where that is possible.
        category: ``[rows]`` int32, 0..4.
        instance: ``[rows]`` int32, the object within the category, 0..9.
        elevation: ``[rows]`` int32, 0..8: from 30 degrees, in steps of 5. -1 where the copy does not know it.
        azimuth: ``[rows]`` int32, 0, 2, .. 34: in units of 10 degrees; or -1.
        lighting: ``[rows]`` int32, 0..5; or -1.
    """

    images: NDArray[np.uint8]
    category: NDArray[np.int32]
    instance: NDArray[np.int32]
    elevation: NDArray[np.int32]
    azimuth: NDArray[np.int32]
    lighting: NDArray[np.int32]


class NorbPairs(NamedTuple):
    """The training and the test part."""

    train: Pairs
    test: Pairs


def objects(part: Pairs) -> NDArray[np.int32]:
    """Returns ``[rows]``, the object in each pair, numbered over all categories."""
    return 10 * part.category + part.instance


def divided(
    category: NDArray[np.int32], objects_: NDArray[np.int32], hold_out: HoldOut, seed: int, n_valid: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides pairs, of which ``[rows]`` categories and objects are given: row numbers, ascending, to train on, and
    ``n_valid`` to validate with.
    """
    if hold_out == "nothing":
        return np.arange(len(objects_)), np.arange(0)
    if hold_out == "random":
        train, valid = stratified_rows(objects_, (n_valid,), seed)
        return train, valid
    random = np.random.RandomState(seed)
    of_category = [np.unique(objects_[category == kind]) for kind in range(N_CATEGORIES)]
    held = np.isin(objects_, [random.choice(candidates) for candidates in of_category])
    return np.flatnonzero(~held), some(np.flatnonzero(held), objects_, n_valid, seed, "n_valid")


def some(
    rows: NDArray[np.int64], objects_: NDArray[np.int32], n: int | None, seed: int, name: str
) -> NDArray[np.int64]:
    """Returns ``n`` of the rows, ascending, with equal shares of all objects; None: every row.

    Raises:
        ValueError: there are not as many.
    """
    if n is None:
        return rows
    if not 1 <= n <= len(rows):
        raise ValueError(f"{name} must lie in 1..{len(rows):,}, the pairs there are; got {n:,}: None takes all")
    return rows[stratified_rows(objects_[rows], (n,), seed)[1]]


def splits(
    pairs: NorbPairs,
    prepare: Callable[[NDArray[np.uint8]], Any],
    hold_out: HoldOut,
    seed: int,
    n_train: int | None,
    n_valid: int | None,
    n_test: int | None,
    held_out: int,
    test_objects: Collection[int] = (),
) -> Splits:
    """Returns the batches; the arguments are those of `norb`, and how many pairs are held out."""
    train, there = pairs.train, np.unique(pairs.train.instance)
    if not set(test_objects) <= set(there):
        raise ValueError(f"test_objects must be some of {', '.join(map(str, there))}; got {tuple(test_objects)}")
    rest, least = len(there) - len(set(test_objects)), 2 if hold_out == "instance" else 1
    if rest < least:
        raise ValueError(f"test_objects leave {rest} of {len(there)} objects, and hold_out={hold_out!r} needs {least}")
    tested = np.isin(train.instance, list(test_objects))
    own = np.flatnonzero(~tested)
    left, held = divided(train.category[own], objects(train)[own], hold_out, seed, held_out)
    test = (train, np.flatnonzero(tested)) if rest < len(there) else (pairs.test, np.arange(len(pairs.test.category)))
    wanted = (train, own[left], n_train, "n_train"), (train, own[held], n_valid, "n_valid"), (*test, n_test, "n_test")
    chosen = [(part, some(rows, objects(part), n, seed, name)) for part, rows, n, name in wanted]
    return Splits(*(batch(part, rows, prepare) for part, rows in chosen))


def batch(part: Pairs, rows: NDArray[np.int64], prepare: Callable[[NDArray[np.uint8]], Any]) -> Batch:
    """Returns some rows of a part, prepared `BLOCK` at a time."""
    if not len(rows):  # as many features as one row has
        return jax.tree.map(lambda values: values[:0], batch(part, np.arange(1), prepare))
    x = np.empty((0, 0), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        features = np.asarray(prepare(np.asarray(part.images[block])))
        if start == 0:
            x = np.empty((len(rows), math.prod(features.shape[1:])), np.float32)
        x[start : start + len(block)] = features.reshape(len(block), -1)
    return Batch(x=jnp.asarray(x), y=jnp.asarray(part.category[rows]))
