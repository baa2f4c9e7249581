"""The splits: scaled, flat and in order; those of the digits fixed, disjoint and stratified."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from mnist_files import ARRAYS, FILES, MANIFEST, mnist_module

from pretrain import Batch
from pretrain.data import Splits, digits, stratified_rows, subset, with_neighbours

pytestmark = pytest.mark.usefixtures("no_surroundings")


def test_splits_are_scaled_flat_and_in_order():
    train, valid, test = mnist_module.splits(FILES, MANIFEST, 5)
    images, labels = ARRAYS["train-images-idx3-ubyte"], ARRAYS["train-labels-idx1-ubyte"]
    assert train.x.shape == (7, 9)
    assert valid.x.shape == (5, 9)
    assert test.x.shape == (4, 9)
    assert train.x.dtype == np.float32
    assert np.asarray(train.y).dtype == np.int32
    np.testing.assert_array_equal(train.x, (images[:7].reshape(7, 9) / 255).astype(np.float32))
    np.testing.assert_array_equal(valid.x, (images[7:].reshape(5, 9) / 255).astype(np.float32))
    np.testing.assert_array_equal(valid.y, labels[7:])
    np.testing.assert_array_equal(test.y, ARRAYS["t10k-labels-idx1-ubyte"])


def test_digits_split_is_fixed_disjoint_and_stratified():
    parts = digits()
    assert [part.x.shape for part in parts] == [(1197, 64), (300, 64), (300, 64)]
    assert all(part.x.dtype == np.float32 and np.asarray(part.y).dtype == np.int32 for part in parts)
    assert all(float(part.x.min()) == 0 and float(part.x.max()) == 1 for part in parts)
    rows = [part.x.tobytes() for part in digits()]
    assert rows == [np.asarray(part.x).tobytes() for part in parts]
    everything = np.concatenate([np.asarray(part.x) for part in parts])
    assert len(np.unique(everything, axis=0)) == len(everything) == 1797  # no two digits are alike, so none is shared
    counts = np.array([np.bincount(np.asarray(part.y), minlength=10) for part in parts])
    share = counts.sum(0) * np.array([[1197], [300], [300]]) / 1797
    assert np.abs(counts - share).max() <= 2


def test_the_frozen_division_stays_as_it_is():
    """Published splits are made by it."""
    parts = [rows.tolist() for rows in stratified_rows(np.arange(20, dtype=np.int32) % 3, (4, 3), 5)]
    assert parts == [[0, 1, 5, 7, 9, 11, 12, 13, 15, 16, 17, 18, 19], [2, 6, 10, 14], [3, 4, 8]]


def test_a_fair_division_leaves_every_class_a_row_and_draws_where_the_others_go():
    labels = np.repeat(np.int32([0, 1, 2]), [57, 2, 1])
    seen = set()
    for seed in range(30):
        parts = stratified_rows(labels, (10, 10), seed, fair=True)
        assert [len(rows) for rows in parts] == [40, 10, 10]
        assert sorted(np.concatenate(parts)) == list(range(60))
        counts = [np.bincount(labels[rows], minlength=3).tolist() for rows in parts]
        assert all(counts[0])
        seen.add(str(counts))
    assert len(seen) == 3  # both rows of class 1 in training, or one of them in either part
    assert len(stratified_rows(np.arange(5, dtype=np.int32), (3,), 0, fair=True)[0]) == 2  # fewer rows than classes


def test_a_fair_division_takes_every_row_as_often():
    labels = np.repeat(np.int32([0, 1]), [7, 5])
    parts = [stratified_rows(labels, (3,), seed, fair=True)[1] for seed in range(2000)]
    assert np.abs(np.bincount(np.concatenate(parts), minlength=12) - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_a_subset_needs_no_labels():
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    part = subset(Splits(*(Batch(jnp.asarray(x)) for _ in range(3))), 5)
    assert part.train.x.shape == (5, 2)
    assert part.train.y is None
    assert len(np.unique(part.train.x)) == 10


def test_a_subset_of_rows_that_have_neighbours_is_refused():
    batch = with_neighbours(Batch(jnp.asarray(np.arange(20, dtype=np.float32).reshape(10, 2))), 2)
    splits = Splits(batch, batch, batch)
    with pytest.raises(ValueError, match=r"train\.pair holds numbers of the 10 rows.*take some of the rows first"):
        subset(splits, 4)
    assert subset(splits, 10).train is batch
