"""The splits: scaled, flat and in order; those of the digits fixed, disjoint and stratified."""

from __future__ import annotations

import numpy as np
import pytest
from mnist_files import ARRAYS, FILES, MANIFEST, mnist_module

from pretrain.data import digits

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
