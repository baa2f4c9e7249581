"""How well the mean over seeds is known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Any, confidence: float = 0.95) -> Interval:
    """Student's interval of a mean, ``mean ± t s / sqrt(n)`` with ``s`` the sample standard deviation.

    Of the errors of two methods with the same seeds, give the differences seed by seed: what their seeds share cancels
    out. The interval covers the spread over seeds, not the choice of the test rows.

    Args:
        values: ``[n]``, one a seed, two or more.
        confidence: how often such an interval holds the true mean.

    Raises:
        ValueError: if there are fewer than two values, they are no row of numbers, or the confidence is no share.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is a share, between 0 and 1; got {confidence}")
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs two values or more, one a seed; got shape {values.shape}")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
