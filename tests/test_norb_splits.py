"""NORB's splits: disjoint, stratified, by object where asked, and prepared in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import lay_out
from norb_files import ARRAYS, FILES, TEST, TRAIN, load

from pretrain.data import Splits, norb, norb_splits, shrunk

pytestmark = pytest.mark.usefixtures("quick_compilation", "no_surroundings")


def row_numbers(images: np.ndarray) -> np.ndarray:
    """Stands in for a preparation: a pair's first pixels, by which it is known again."""
    return images[:, 0, 0, :4].astype(np.float32)


def split(tmp_path: Path, **options: Any) -> tuple[Splits, list[np.ndarray]]:
    """The tiny set in three parts, and the row numbers in each."""
    pairs = load(lay_out(tmp_path, FILES))
    settings = {"hold_out": "random", "seed": 0, "n_train": None, "n_valid": None, "n_test": None, "held_out": 15}
    parts = norb_splits.splits(pairs, row_numbers, **(settings | options))
    rows = []
    for part, of in zip(parts, (pairs.train, pairs.train, pairs.test), strict=True):
        known = {tuple(row): number for number, row in enumerate(row_numbers(of.images))}
        rows.append(np.array([known[tuple(row)] for row in np.asarray(part.x)], np.int64))
        np.testing.assert_array_equal(part.y, of.category[rows[-1]])
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int32
    return parts, rows


def count(of: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of each object: ``[categories, instances]``, those that occur."""
    kinds = ARRAYS[of.file("cat")][rows] * 10 + ARRAYS[of.file("info")][rows, 0]
    return np.array([[np.sum(kinds == 10 * c + i) for i in of.instances] for c in range(5)])


def test_a_random_split_is_disjoint_and_stratified(tmp_path: Path) -> None:
    _, (train, valid, test) = split(tmp_path)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(60))
    np.testing.assert_array_equal(count(TRAIN, valid), np.ones((5, 3)))
    np.testing.assert_array_equal(test, np.arange(40))
    assert all((np.diff(rows) > 0).all() for rows in (train, valid))
    assert not np.array_equal(split(tmp_path, seed=1)[1][1], valid)
    np.testing.assert_array_equal(split(tmp_path)[1][1], valid)


def test_an_object_that_validates_is_not_trained_on(tmp_path: Path) -> None:
    held = set()
    for seed in range(4):
        _, (train, valid, _) = split(tmp_path, hold_out="instance", seed=seed)
        trained, validated = count(TRAIN, train), count(TRAIN, valid)
        assert ((trained > 0) != (validated > 0)).all()
        np.testing.assert_array_equal((validated > 0).sum(axis=1), np.ones(5))  # one object a category
        np.testing.assert_array_equal(validated.sum(axis=1), np.full(5, 3))  # 15 of its 20 rows, stratified
        np.testing.assert_array_equal(trained.sum(axis=1), np.full(5, 8))  # all of the others
        held.add(tuple(validated.argmax(axis=1)))
    assert len(held) > 1


def test_where_nothing_is_held_out_all_is_trained_on(tmp_path: Path) -> None:
    parts, (train, valid, test) = split(tmp_path, hold_out="nothing")
    np.testing.assert_array_equal(train, np.arange(60))
    np.testing.assert_array_equal(test, np.arange(40))
    assert len(valid) == 0
    assert parts.valid.x.shape == (0, 4)
    assert parts.held_out is None
    assert split(tmp_path)[0].held_out is not None
    with pytest.raises(ValueError, match="n_valid is 5, but nothing is held out"):
        norb(hold_out="nothing", n_valid=5)


def test_training_objects_may_be_tested_on(tmp_path: Path) -> None:
    """To choose between methods: nothing of the published test part is seen."""
    pairs, options = load(lay_out(tmp_path, FILES)), {"prepare": row_numbers, "seed": 0, "held_out": 15}
    of = dict.fromkeys(("n_train", "n_valid", "n_test"))
    first, second, third = TRAIN.instances
    known = {tuple(row): number for number, row in enumerate(row_numbers(pairs.train.images))}
    parts = norb_splits.splits(pairs, hold_out="instance", test_objects=(second,), **options, **of)
    rows = [np.array([known[tuple(row)] for row in np.asarray(part.x)]) for part in parts]
    trained, validated, tested = (count(TRAIN, part) for part in rows)
    np.testing.assert_array_equal(tested, np.tile([0, 4, 0], (5, 1)))
    np.testing.assert_array_equal(trained[:, 1] + validated[:, 1], np.zeros(5))
    np.testing.assert_array_equal((trained > 0).sum(axis=1), np.ones(5))
    for part, own in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(part.y, pairs.train.category[own])
    for wrong, hold_out, says in (
        ((0,), "nothing", "must be some of"),
        ((first, second, third), "nothing", "leave 0 of 3 objects"),
        ((first, third), "instance", "leave 1 of 3 objects, and hold_out='instance' needs 2"),
    ):
        with pytest.raises(ValueError, match=f"test_objects {says}"):
            norb_splits.splits(pairs, hold_out=hold_out, test_objects=wrong, **options, **of)


def test_subsets_have_equal_shares_of_objects(tmp_path: Path) -> None:
    options = {"hold_out": "instance", "n_train": 20, "n_valid": 10, "n_test": 20}
    _, (train, valid, test) = split(tmp_path, **options)
    trained = count(TRAIN, train)
    np.testing.assert_array_equal(np.sort(trained, axis=1), np.tile([0, 2, 2], (5, 1)))
    np.testing.assert_array_equal(count(TRAIN, valid).sum(axis=1), np.full(5, 2))
    np.testing.assert_array_equal(count(TEST, test), np.full((5, 2), 2))
    assert not np.array_equal(split(tmp_path, **options, seed=3)[1][2], test)
    with pytest.raises(ValueError, match=r"n_train must lie in 1\.\.40, the pairs there are; got 41"):
        split(tmp_path, hold_out="instance", n_train=41)
    with pytest.raises(ValueError, match=r"hold_out must be one of \('random', 'instance', 'nothing'\); got 'object'"):
        norb(hold_out="object")  # type: ignore[arg-type]


def test_rows_are_prepared_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norb_splits, "BLOCK", 7)
    seen: list[int] = []

    def prepare(images: np.ndarray) -> np.ndarray:
        assert type(images) is np.ndarray
        seen.append(len(images))
        return shrunk(images)

    part = load(lay_out(tmp_path, FILES)).test
    batch = norb_splits.batch(part, np.arange(1, 40, 2), prepare)
    assert seen == [7, 7, 6]
    np.testing.assert_array_equal(batch.x, shrunk(part.images[1::2]))
    np.testing.assert_array_equal(
        norb_splits.batch(part, np.arange(9), lambda images: images).x[8], part.images[8].ravel()
    )
