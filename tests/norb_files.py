"""NORB in miniature: its six arrays and their files, and the package's loader on them."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

norb_module = importlib.import_module("pretrain.data.norb")  # the attribute of that name is the function

POSES, SIDE = 4, 6
PARTS = (
    norb_module.Published("tiny-training", (4, 6, 7), POSES, SIDE),
    norb_module.Published("tiny-testing", (0, 1), POSES, SIDE),
)
TRAIN, TEST = PARTS


def tiny_arrays() -> dict[str, np.ndarray]:
    """The six arrays in miniature: the category goes round, and the training part is shuffled."""
    random, arrays = np.random.RandomState(0), {}
    for part in PARTS:
        instance, pose, category = (
            index.ravel() for index in np.meshgrid(part.instances, np.arange(POSES), np.arange(5), indexing="ij")
        )
        info = np.stack([instance, pose, 2 * pose, pose % 6], axis=1).astype("<i4")
        order = random.permutation(part.n_rows) if part is TRAIN else np.arange(part.n_rows)
        arrays |= {
            part.file("dat"): random.randint(0, 256, (part.n_rows, 2, SIDE, SIDE)).astype(np.uint8),
            part.file("cat"): category[order].astype("<i4"),
            part.file("info"): info[order],
        }
    return arrays


def matrix(values: np.ndarray) -> bytes:
    """A file in NORB's format, written without the package: magic, dimensions, sizes, filled up with ones to three."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(values.dtype)]
    sizes = list(values.shape) + [1] * (3 - values.ndim)
    return struct.pack("<II", magic, values.ndim) + struct.pack(f"<{len(sizes)}I", *sizes) + values.tobytes()


ARRAYS = tiny_arrays()
FILES = {name: matrix(values) for name, values in ARRAYS.items()}
DAT, CAT, INFO = (TRAIN.file(kind) for kind in ("dat", "cat", "info"))


def load(data_dir: Path | None, said: list[str] | None = None) -> Any:
    return norb_module.load(data_dir, PARTS, (said if said is not None else []).append)
