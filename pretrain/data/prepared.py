"""A directory that tensorflow-datasets has already prepared, read without TensorFlow.

Preparing shuffles the rows: it sorts them by the md5 of the split's name followed by the row number. That order is
known, so it is undone here, and the original files come out byte for byte. Were another version to shuffle otherwise,
the checksums of a data set that has them would refuse the result.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def read_split(data_set: str, split: str, fields: Mapping[str, NDArray[Any]], folder: Path) -> None:
    """Fills arrays with the fields of one split, in the original order of the rows.

    Args:
        data_set: the name by which tensorflow-datasets knows it.
        split: ``train`` or ``test``.
        fields: the field's name to the array ``[n_examples, ...]`` that it is written into.
        folder: the directory that holds the prepared data sets.

    Raises:
        DataUnavailable: tensorflow-datasets is not installed, or cannot read the directory.
        BadFile: the split has another number of examples, or a field another number of values, or lacks it.
    """
    try:
        tensorflow_datasets = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise DataUnavailable(f"tensorflow_datasets cannot be imported: {error}") from error
    rows = tensorflow_datasets.data_source(data_set, split=split, data_dir=str(folder), download=False)
    n_examples = len(next(iter(fields.values())))
    if len(rows) != n_examples:
        raise BadFile(f"{folder / data_set}: {len(rows):,} examples in {split!r}, expected {n_examples:,}")
    for original, row in zip(shuffled_rows(split, n_examples), rows, strict=True):
        for name, array in fields.items():
            if name not in row:
                raise BadFile(f"{folder / data_set}: an example without {name!r} in {split!r}: prepare it again")
            value, shape = np.asarray(row[name]), array.shape[1:]
            if value.size != math.prod(shape):
                raise BadFile(
                    f"{folder / data_set}: {name!r} of shape {value.shape} in {split!r}, expected {shape}: prepare it "
                    "again"
                )
            array[original] = value.reshape(shape)
