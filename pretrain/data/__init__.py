"""Data sets, one a file: where each comes from, its checksums, its splits."""

from pretrain.data.digits import digits
from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.frames import moved, sequence, with_frames
from pretrain.data.mnist import mnist
from pretrain.data.neighbours import neighbours, with_neighbours
from pretrain.data.splits import Splits, binarised, stratified_rows

__all__ = [
    "BadFile",
    "DataUnavailable",
    "Splits",
    "binarised",
    "digits",
    "mnist",
    "moved",
    "neighbours",
    "sequence",
    "stratified_rows",
    "with_frames",
    "with_neighbours",
]
