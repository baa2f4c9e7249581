"""The three parts of a data set, and how rows are divided by class."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pretrain.rows import chosen
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


def stratified_rows(
    labels: NDArray[np.int32], sizes: tuple[int, ...], seed: int, *, fair: bool = False
) -> list[NDArray[np.int64]]:
    """Divides rows into parts that have the classes in the same proportions.

    The rows are shuffled, sorted by class, and every so-manieth is taken (systematic sampling): a run of rows of one
    class then loses its share of them, rounded up or down, and the part has exactly the size asked for.

    Args:
        labels: ``[n_rows]`` class of each row.
        sizes: rows in each part after the first; the first is what they leave.
        seed: of NumPy's legacy generator, whose stream is frozen: the split will not change under another version.
        fair: whether the count begins at a random row, so that the seed also draws whose share is rounded up, and every
            class keeps a row in the first part, if that has as many rows as there are classes. Without it the last
            class gives a row to every part, whatever the seed.

    Returns:
        Row numbers of each part, ascending.
    """
    random = np.random.RandomState(seed)
    shuffled = random.permutation(len(labels))
    left = shuffled[np.argsort(labels[shuffled], kind="stable")]
    parts = []
    for size in sizes:
        begin = random.randint(len(left)) if fair else 0
        share = (np.arange(len(left) + 1) * size + begin) // len(left)
        taken = np.diff(share) == 1
        parts.append(left[taken])
        left = left[~taken]
    if fair:
        _return_one_of_every_class(labels, left, parts)
    return [np.sort(rows) for rows in (left, *parts)]


def _return_one_of_every_class(labels: NDArray[np.int32], left: NDArray[np.int64], parts: list[Any]) -> None:
    """Exchanges, in place, a row of each class that has none left for one of the class that has most left."""
    for lost in np.setdiff1d(labels, labels[left]):
        classes, counts = np.unique(labels[left], return_counts=True)
        if counts.max(initial=0) <= 1:
            return
        part = max(parts, key=lambda rows: np.count_nonzero(labels[rows] == lost))
        back, forth = (labels[part] == lost).argmax(), (labels[left] == classes[counts.argmax()]).argmax()
        part[back], left[forth] = left[forth], part[back]


def classes_of(batch: Batch) -> NDArray[np.int32]:
    """The labels ``[rows]`` by which a batch is divided; of one without labels all are 0."""
    return np.zeros(len(batch.x), np.int32) if batch.y is None else np.asarray(batch.y)


def part_of(batch: Batch, rows: NDArray[np.int64], name: str) -> Batch:
    """The rows of these numbers.

    Raises:
        ValueError: if the batch, called ``name``, has pairs by row number, which would be the numbers of other rows.
    """
    if batch.pair is not None and jnp.issubdtype(batch.pair.dtype, jnp.integer):
        raise ValueError(
            f"{name}.pair holds numbers of the {len(batch.x)} rows, which {len(rows)} of them would no longer have: "
            "take some of the rows first, then their neighbours (with_neighbours)"
        )
    return chosen(batch, rows)  # type: ignore[arg-type]


def subset(splits: Splits, n_train: int | None = None, n_valid: int | None = None, n_test: int | None = None) -> Splits:
    """So many rows of each part, in the classes' proportions if there are labels; None: all. The choice is fixed.

    Raises:
        ValueError: if a part has fewer rows, or pairs by row number (`with_neighbours`): take the subset before these.
    """

    def some(batch: Batch, name: str, size: int | None) -> Batch:
        if size is None or size == len(batch.x):
            return batch
        if not 0 < size < len(batch.x):
            raise ValueError(f"{name} has {len(batch.x)} rows; {size} of them cannot be taken")
        _, rows = stratified_rows(classes_of(batch), (size,), 0)
        return part_of(batch, rows, name)

    return Splits(*map(some, splits, Splits._fields, (n_train, n_valid, n_test)))
