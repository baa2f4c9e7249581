"""Data sets, one a file: where each comes from, its checksums, its splits."""

from pretrain.data.digits import digits
from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.examples import Examples, examples
from pretrain.data.frames import moved, sequence, with_frames
from pretrain.data.mnist import mnist
from pretrain.data.neighbours import neighbours, with_neighbours
from pretrain.data.norb import norb, norb_pairs
from pretrain.data.norb_splits import NorbPairs, Pairs
from pretrain.data.rotations import Rotations
from pretrain.data.shifts import Shifts
from pretrain.data.splits import Splits, binarised, stratified_rows, subset
from pretrain.data.stereo import (
    contrast_normalised,
    foveated,
    global_contrast_normalised,
    shrunk,
    standardised_pairs,
    unfoveated,
    whitened,
)

__all__ = [
    "BadFile",
    "DataUnavailable",
    "Examples",
    "NorbPairs",
    "Pairs",
    "Rotations",
    "Shifts",
    "Splits",
    "binarised",
    "contrast_normalised",
    "digits",
    "examples",
    "foveated",
    "global_contrast_normalised",
    "mnist",
    "moved",
    "neighbours",
    "norb",
    "norb_pairs",
    "sequence",
    "shrunk",
    "standardised_pairs",
    "stratified_rows",
    "subset",
    "unfoveated",
    "whitened",
    "with_frames",
    "with_neighbours",
]
