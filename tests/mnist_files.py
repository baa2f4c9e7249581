"""MNIST in miniature: four small arrays under its names, their files, and the manifest that goes with them."""

from __future__ import annotations

import hashlib
import importlib

import numpy as np

from pretrain.data.idx import IdxFile, encode

mnist_module = importlib.import_module("pretrain.data.mnist")  # the attribute of that name is the function

N_TRAIN, N_TEST, SIDE = 12, 4, 3


def tiny_arrays() -> dict[str, np.ndarray]:
    """The four arrays of a data set in miniature, under MNIST's names."""
    random = np.random.RandomState(0)
    return {
        "train-images-idx3-ubyte": random.randint(0, 256, (N_TRAIN, SIDE, SIDE)).astype(np.uint8),
        "train-labels-idx1-ubyte": random.randint(0, 10, N_TRAIN).astype(np.uint8),
        "t10k-images-idx3-ubyte": random.randint(0, 256, (N_TEST, SIDE, SIDE)).astype(np.uint8),
        "t10k-labels-idx1-ubyte": random.randint(0, 10, N_TEST).astype(np.uint8),
    }


ARRAYS = tiny_arrays()
FILES = {name: encode(values) for name, values in ARRAYS.items()}
MANIFEST = tuple(
    IdxFile(name, values.shape, hashlib.sha256(FILES[name]).hexdigest()) for name, values in ARRAYS.items()
)
IMAGES = MANIFEST[0]
WHOLE = FILES[IMAGES.name]
