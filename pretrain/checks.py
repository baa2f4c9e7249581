"""Input checks: one clear error before any training, with the value and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pretrain.types import UNLABELLED, Batch, Inputs, Learner, Solver

MEAN_BOUND, VARIANCE_BOUNDS = 0.1, (0.5, 2.0)
"""Standardised data: no feature's mean may be farther from 0; the mean variance of those that vary must lie between
these."""


def check_examples(x: Any, name: str = "x", *, inputs: Inputs = "real") -> None:
    """Checks a matrix of examples.

    Args:
        x: ``[rows, features]``, or ``[members, rows, features]``; float32, or float64 that is judged as the float32 it
            will become.
        name: what to call it in the message.
        inputs: which values it may hold.

    Raises:
        ValueError: wrong rank, no rows or features, integers, half precision, NaN or infinity, out of [0, 1], or not
            standardised.
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
    if x.dtype in (jnp.float16, jnp.bfloat16):
        raise ValueError(f"{name} must be float32; got {x.dtype}: convert with x.astype('float32')")
    seen = _at_hand(x)
    if x.ndim == 3:  # a diverged member's codes are that member's affair
        finite = np.isfinite(seen.min(axis=(1, 2))) & np.isfinite(seen.max(axis=(1, 2)))
        if not finite.any():
            return
        if not finite.all():
            x, seen = x[finite], seen[finite]
    low, high = float(seen.min()), float(seen.max())  # NaN and infinity survive in the extremes
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(seen.size - np.isfinite(seen).sum())
        raise ValueError(f"{name} has {bad} values that are NaN or infinite: remove or impute them")
    if inputs == "standardised":
        _check_standardised(x, name)
    if inputs == "unit" and (low < 0.0 or high > 1.0):
        value, bound = (high, "max") if high > 1.0 else (low, "min")
        fix = "divide by 255" if 1.0 < high <= 255.0 and low >= 0.0 else "rescale each feature to [0, 1]"
        raise ValueError(
            f"{name} must lie in [0, 1] for Bernoulli units and cross-entropy reconstructions; got {bound} {value}: "
            f"{fix}, or use Gaussian visible units or a squared-error autoencoder"
        )


def _at_hand(x: Any) -> Any:
    """The array as numpy's, in float32 if it is floating point, where JAX holds no other copy of it: a question put to
    numpy needs no program to be compiled.
    """
    if isinstance(x, jax.Array):
        device, *others = x.devices()
        return x if others or device.platform != "cpu" else np.asarray(x)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is told as such
        return np.asarray(x, np.float32 if np.issubdtype(x.dtype, np.floating) else None)


def _check_standardised(x: Any, name: str) -> None:
    varies = x.max(axis=-2) > x.min(axis=-2)  # a constant feature has no variance to standardise
    if not varies.any():
        raise ValueError(
            f"{name} has no feature that varies, all {x.shape[-2]} rows are alike: there is nothing for Gaussian units "
            "to learn; give other rows"
        )
    mean, variance = jnp.abs(x.mean(axis=-2)).max(), x.var(axis=-2).sum(where=varies) / varies.sum()
    low, high = VARIANCE_BOUNDS
    if mean > MEAN_BOUND or not low <= variance <= high:
        raise ValueError(
            f"{name} must be standardised for Gaussian units: features of mean 0 and, on average, variance 1; got a "
            f"feature of mean {float(mean):.3g} from 0 and an average variance of {float(variance):.3g}: subtract each "
            "feature's mean and divide by its standard deviation, or put a Standardise() stage below"
        )


def check_labels(y: Any, rows: int, n_classes: int, name: str = "y", *, some: bool = False) -> None:
    """Checks labels ``[rows]`` (or ``[members, rows]``), integers in ``0 .. n_classes - 1``.

    Args:
        y: the labels.
        rows: how many there must be.
        n_classes: how many classes there are.
        name: what to call them in the message.
        some: whether a row may be without one (`UNLABELLED`).

    Raises:
        ValueError: absent, wrong length, not integers, or out of range.
    """
    if y is None:
        raise ValueError(f"{name} is missing: a supervised objective needs Batch(x, y) with integer labels")
    if y.shape[-1:] != (rows,) or y.ndim > 2:
        raise ValueError(f"{name} must have shape ({rows},), one label a row; got {tuple(y.shape)}")
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers; got {y.dtype}: convert with y.astype('int32')")
    y = _at_hand(y)
    low, high = int(y.min()), int(y.max())
    if low < (UNLABELLED if some else 0) or high >= n_classes:
        value = high if high >= n_classes else low
        unlabelled = f" ({UNLABELLED} where there is none)" if some else ""
        fix = "recode the labels or raise n_classes"
        if value == UNLABELLED:
            fix = "give the labelled rows alone, Batch(x[y >= 0], y[y >= 0])"
        raise ValueError(f"{name} must lie in 0..{n_classes - 1}{unlabelled}; got {value}: {fix}")


def check_pairs(pair: Any, x: Any, name: str = "pair") -> None:
    """Checks the partners of the rows of ``x``: features of the same shape, or candidates by row number.

    Raises:
        ValueError: absent, of another shape, not finite, or not numbers of rows.
    """
    if pair is None:
        raise ValueError(
            f"{name} is missing: an objective on pairs needs Batch(x, pair=...), as pretrain.data.with_neighbours, "
            "with_frames or sequence give it"
        )
    if jnp.issubdtype(pair.dtype, jnp.integer):
        rows = x.shape[-2]
        if pair.ndim != 2 or pair.shape[0] != rows or pair.shape[1] == 0:
            raise ValueError(f"{name} of row numbers must have shape ({rows}, candidates); got {tuple(pair.shape)}")
        pair = _at_hand(pair)
        low, high = int(pair.min()), int(pair.max())
        if low < 0 or high >= rows:
            raise ValueError(f"{name} must hold row numbers in 0..{rows - 1}; got {low if low < 0 else high}")
        return
    if pair.shape != x.shape:
        raise ValueError(
            f"{name} must have the shape {tuple(x.shape)} of x, or be row numbers; got {tuple(pair.shape)}"
        )
    check_examples(pair, name)


def check_batch(batch: Any, name: str, members: int | None = None) -> None:
    """Checks that a batch is a `Batch` of arrays and, where the number of members is known, whose rows they are.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(batch, Batch):
        raise ValueError(
            f"{name} must be a pretrain.Batch of arrays; got {type(batch).__name__}: wrap it as Batch(x, y)"
        )
    for field, value in batch._asdict().items():
        if value is not None and (not hasattr(value, "shape") or hasattr(value, "iloc")):
            raise ValueError(
                f"{name}.{field} must be an array; got {type(value).__name__}: convert it with numpy.asarray, features "
                "to float32"
            )
        if value is not None and np.dtype(value.dtype).kind in "OSUT":
            raise ValueError(
                f"{name}.{field} must hold numbers; got {value.dtype}: encode labels as integers, "
                "numpy.unique(y, return_inverse=True)[1]"
            )
    if members is not None and batch.x.ndim == 3 and batch.x.shape[0] != members:
        raise ValueError(
            f"{name}.x has shape {tuple(batch.x.shape)}, rows of their own for {batch.x.shape[0]} members, but there "
            f"are {members}: flatten images, x.reshape(len(x), -1), or give a seed a member"
        )


def check_recipe(optimizer: Any) -> None:
    """Checks that an optimiser is a recipe.

    Raises:
        ValueError: otherwise.
    """
    if not callable(getattr(optimizer, "build", None)):
        raise ValueError(
            f"the optimizer must be a recipe such as Sgd(0.1); got {optimizer!r}: declare an optax optimizer in a "
            "pretrain.struct.dataclass with `build`"
        )


def check_seeds(seeds: Any) -> None:
    """Checks that seeds are whole numbers in 0 .. 2**32 - 1, at least one.

    Raises:
        ValueError: otherwise.
    """
    array = np.asarray(seeds)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= 2**32:
        raise ValueError(f"seeds must be a list of whole numbers from 0 to 2**32 - 1, one a member; got {seeds!r}")


def check_sizes(**sizes: int) -> None:
    """Checks that each named static size is a whole number of at least 1.

    Raises:
        ValueError: otherwise.
    """
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {size!r}")


def check_data(
    learner: Learner | Solver, train: Batch, monitors: Mapping[str, Batch], *, values: bool = True, own: bool = True
) -> None:
    """Checks that the data suits a learner or solver.

    Args:
        learner: the objective.
        train: the training rows.
        monitors: the other batches, by name.
        values: whether ``x`` is there to be looked at; False where only its shape is known yet.
        own: whether the learner sees ``x`` itself, so that its range matters.

    Raises:
        ValueError: the message gives the value and the fix.
    """
    inputs = learner.inputs if own else "real"
    for name, batch in (("train", train), *monitors.items()):
        if values:  # other rows are standardised by all training rows' statistics, so by their own only nearly
            strict = inputs != "standardised" or batch is train
            check_examples(batch.x, f"{name}.x", inputs=inputs if strict else "real")
        if batch.x.shape[-1] != train.x.shape[-1]:
            raise ValueError(
                f"{name}.x has {batch.x.shape[-1]} features but train.x has {train.x.shape[-1]}: they must agree"
            )
        if "labels" in learner.needs or "some labels" in learner.needs:
            n_classes, some = getattr(learner, "n_classes", None), "some labels" in learner.needs
            if n_classes is None:
                raise ValueError(f"{type(learner).__name__} needs labels: give it a field n_classes, how many classes")
            check_labels(batch.y, batch.x.shape[-2], n_classes, f"{name}.y", some=some)
        if "pairs" in learner.needs and (values or batch.pair is None):
            check_pairs(batch.pair, batch.x, f"{name}.pair")


def check_run(
    learner: Learner,
    train: Batch,
    monitors: Mapping[str, Batch],
    *,
    epochs: int,
    batch_size: int,
    chunk: int,
    patience: int | None,
    values: bool = True,
    own: bool = True,
) -> None:
    """Checks a whole run before anything is compiled; the data as `check_data` does.

    Args:
        learner: the objective.
        train: the training rows.
        monitors: the other batches, by name.
        epochs: see `pretrain.fit.run`.
        batch_size: likewise.
        chunk: likewise.
        patience: likewise.
        values: see `check_data`.
        own: likewise.

    Raises:
        ValueError: the message gives the value and the fix.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError("training runs in float32 only: unset JAX_ENABLE_X64")
    check_sizes(epochs=epochs, batch_size=batch_size, chunk=chunk)
    if patience is not None and (not isinstance(patience, int | np.integer) or patience < 0):
        raise ValueError(f"patience must be None or a whole number of epochs, 0 or more; got {patience!r}")
    check_data(learner, train, monitors, values=values, own=own)
    if batch_size > train.x.shape[-2]:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {train.x.shape[-2]} training rows: "
            f"choose at most {train.x.shape[-2]}"
        )
    if patience is not None and "valid" not in monitors:
        raise ValueError(
            "early stopping needs validation rows, valid=batch (of run, monitors={'valid': batch}): give them, or "
            "leave patience out"
        )
