"""Data sets, one a file: where each comes from, its checksums, its splits."""

from pretrain.data.digits import digits
from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.mnist import mnist
from pretrain.data.splits import Splits

__all__ = ["BadFile", "DataUnavailable", "Splits", "digits", "mnist"]
