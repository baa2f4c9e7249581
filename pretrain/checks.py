"""Input checks: one clear error before any training, with the value and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from pretrain.types import Batch, Learner


def check_examples(x: Any, name: str = "x", *, unit: bool = False) -> None:
    """Checks a matrix of examples.

    Args:
        x: ``[rows, features]``, or ``[members, rows, features]``.
        name: what to call it in the message.
        unit: whether values must lie in [0, 1].

    Raises:
        ValueError: wrong rank, no rows or features, a dtype that is not floating, NaN or infinity, or out of [0, 1].
    """
    if x.ndim not in (2, 3):
        raise ValueError(
            f"{name} must have shape [rows, features]; got rank {x.ndim}, shape {tuple(x.shape)}: "
            "flatten each example, e.g. x.reshape(len(x), -1)"
        )
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: give at least one row and one feature")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "divide by 255 if these are grey levels" if x.dtype == jnp.uint8 else "convert with x.astype('float32')"
        raise ValueError(f"{name} must be floating point; got {x.dtype}: {fix}")
    low, high = float(jnp.min(x)), float(jnp.max(x))  # NaN and infinity survive in the extremes
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(jnp.sum(~jnp.isfinite(x)))
        raise ValueError(f"{name} has {bad} values that are NaN or infinite: remove or impute them")
    if unit and (low < 0.0 or high > 1.0):
        value, bound = (high, "max") if high > 1.0 else (low, "min")
        fix = "divide by 255" if 1.0 < high <= 255.0 and low >= 0.0 else "rescale each feature to [0, 1]"
        raise ValueError(
            f"{name} must lie in [0, 1] for Bernoulli units and cross-entropy reconstructions; got {bound} {value}: "
            f"{fix}, or use a squared-error autoencoder"
        )


def check_labels(y: Any, rows: int, n_classes: int, name: str = "y") -> None:
    """Checks labels ``[rows]``, integers in ``0 .. n_classes - 1``.

    Raises:
        ValueError: absent, wrong length, not integers, or out of range.
    """
    if y is None:
        raise ValueError(f"{name} is missing: a supervised objective needs Batch(x, y) with integer labels")
    if y.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), one label a row; got {tuple(y.shape)}")
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers; got {y.dtype}: convert with y.astype('int32')")
    low, high = int(jnp.min(y)), int(jnp.max(y))
    if low < 0 or high >= n_classes:
        value = low if low < 0 else high
        raise ValueError(f"{name} must lie in 0..{n_classes - 1}; got {value}: recode the labels or raise n_classes")


def check_sizes(**sizes: int) -> None:
    """Checks that each named static size is a whole number of at least 1.

    Raises:
        ValueError: otherwise.
    """
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {size!r}")


def check_run(
    learner: Learner,
    train: Batch,
    monitors: Mapping[str, Batch],
    *,
    epochs: int,
    batch_size: int,
    chunk: int,
    patience: int | None,
    first: bool,
) -> None:
    """Checks a whole run before anything is compiled; ``first`` says that the learner sees the data itself."""
    check_sizes(epochs=epochs, batch_size=batch_size, chunk=chunk)
    for name, batch in {"train": train, **monitors}.items():
        check_examples(batch.x, f"{name}.x", unit=first and learner.unit_inputs)
        if batch.x.shape[-1] != train.x.shape[-1]:
            raise ValueError(
                f"{name}.x has {batch.x.shape[-1]} features but train.x has {train.x.shape[-1]}: they must agree"
            )
        if learner.needs_labels:
            check_labels(batch.y, batch.x.shape[-2], learner.n_classes, f"{name}.y")  # type: ignore[attr-defined]
    if batch_size > train.x.shape[-2]:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {train.x.shape[-2]} training rows: "
            f"choose at most {train.x.shape[-2]}"
        )
    if patience is not None and "valid" not in monitors:
        raise ValueError("early stopping needs monitors={'valid': batch}; without it pass patience=None")
