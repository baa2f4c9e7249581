"""The three parts of a data set, and how rows are divided by class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pretrain.types import Batch


class Splits(NamedTuple):
    """Training, validation and test examples. Choose by ``valid``; look at ``test`` once. Where ``valid`` has no rows,
    nothing is left to be chosen: all rows are trained on, with numbers that were chosen before. Arrays with a member
    axis give each member of a population examples of its own.
    """

    train: Batch
    valid: Batch
    test: Batch

    @property
    def held_out(self) -> Batch | None:
        """The validation rows; None where there are none."""
        return self.valid if self.valid.x.shape[-2] else None


def binarised(splits: Splits, seed: int = 0) -> Splits:
    """Every value drawn once as 0 or 1, with itself as the probability of 1: MNIST as likelihoods are measured on it.

    Args:
        splits: values in [0, 1].
        seed: of NumPy's legacy generator, whose stream is frozen.
    """
    random = np.random.RandomState(seed)

    def drawn(batch: Batch) -> Batch:
        x = np.asarray(batch.x)
        return batch._replace(x=jnp.asarray((random.random_sample(x.shape) < x).astype(np.float32)))

    return Splits(*map(drawn, splits))


def stratified_rows(labels: NDArray[np.int32], sizes: tuple[int, ...], seed: int) -> list[NDArray[np.int64]]:
    """Divides rows into parts that have the classes in the same proportions.

    The rows are shuffled, sorted by class, and every so-manieth is taken (systematic sampling): a run of rows of one
    class then loses its share of them, rounded up or down, and the part has exactly the size asked for.

    Args:
        labels: ``[n_rows]`` class of each row.
        sizes: rows in each part after the first; the first is what they leave.
        seed: of NumPy's legacy generator, whose stream is frozen: the split will not change under another version.

    Returns:
        Row numbers of each part, ascending.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    left = shuffled[np.argsort(labels[shuffled], kind="stable")]
    parts = []
    for size in sizes:
        share = np.arange(len(left) + 1) * size // len(left)
        taken = np.diff(share) == 1
        parts.append(np.sort(left[taken]))
        left = left[~taken]
    return [np.sort(left), *parts]


def subset(splits: Splits, n_train: int | None = None, n_valid: int | None = None, n_test: int | None = None) -> Splits:
    """So many rows of each part, in the classes' proportions; None: all. The choice is fixed.

    Raises:
        ValueError: if a part has fewer rows.
    """

    def some(batch: Batch, name: str, size: int | None) -> Batch:
        if size is None or size == len(batch.x):
            return batch
        if not 0 < size < len(batch.x):
            raise ValueError(f"{name} has {len(batch.x)} rows; {size} of them cannot be taken")
        _, rows = stratified_rows(np.asarray(batch.y), (size,), 0)
        return jax.tree.map(lambda field: field[rows], batch)

    return Splits(*map(some, splits, Splits._fields, (n_train, n_valid, n_test)))
