"""The three parts of a data set."""

from __future__ import annotations

from typing import NamedTuple

from pretrain.types import Batch


class Splits(NamedTuple):
    """Training, validation and test examples. Choose by ``valid``; look at ``test`` once."""

    train: Batch
    valid: Batch
    test: Batch
