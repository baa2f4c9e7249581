"""A directory that tensorflow-datasets has already prepared, read without TensorFlow.

Preparing shuffles the rows: it sorts them by the md5 of the split's name followed by the row number. That order is
known, so it is undone here, and the original files come out byte for byte. Were another version to shuffle otherwise,
the checksums would refuse the result.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain.data.errors import BadFile, DataUnavailable


def prepared_folder() -> Path:
    """Returns where tensorflow-datasets keeps its data: ``TFDS_DATA_DIR``, or its default in the home folder."""
    return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()


def require_prepared(data_set: str, folder: Path) -> None:
    """Looks, without importing anything, for a prepared copy of a kind that can be read without TensorFlow.

    Raises:
        DataUnavailable: there is none.
    """
    if not (folder / data_set).is_dir():
        raise DataUnavailable(f"{folder / data_set} does not exist")
    if next((folder / data_set).glob("[0-9]*/*.array_record*"), None) is None:
        raise DataUnavailable(f"{folder / data_set} holds no array_record files, the kind readable without TensorFlow")


def shuffled_rows(split: str, n_rows: int) -> NDArray[np.int64]:
    """Returns ``[n_rows]``, the original row number of each prepared row."""
    hashed = [hashlib.md5(f"{split}{row}".encode(), usedforsecurity=False).digest() for row in range(n_rows)]
    return np.array(sorted(range(n_rows), key=hashed.__getitem__), dtype=np.int64)


def read_split(
    data_set: str, split: str, image_shape: tuple[int, int, int], folder: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Reads the images and labels of one split, in their original order.

    Args:
        data_set: the name by which tensorflow-datasets knows it.
        split: ``train`` or ``test``.
        image_shape: (n_examples, height, width).
        folder: the directory that holds the prepared data sets.

    Returns:
        images ``[n_examples, height, width]`` and labels ``[n_examples]``.

    Raises:
        DataUnavailable: tensorflow-datasets is not installed, or cannot read the directory.
        BadFile: the split has another number of examples, or of pixels.
    """
    try:
        tensorflow_datasets = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise DataUnavailable(f"tensorflow_datasets cannot be imported: {error}") from error
    rows = tensorflow_datasets.data_source(data_set, split=split, data_dir=str(folder), download=False)
    n_examples = image_shape[0]
    if len(rows) != n_examples:
        raise BadFile(f"{folder / data_set}: {len(rows):,} examples in {split!r}, expected {n_examples:,}")
    images = np.empty(image_shape, np.uint8)
    labels = np.empty(n_examples, np.uint8)
    for original, row in zip(shuffled_rows(split, n_examples), rows, strict=True):
        image = np.asarray(row["image"])
        if image.size != images[0].size:
            raise BadFile(
                f"{folder / data_set}: an image of shape {image.shape} in {split!r}, expected {image_shape[1:]}"
            )
        images[original] = image.reshape(image_shape[1:])
        labels[original] = row["label"]
    return images, labels
