"""What the tests against enumeration share: all states of a few units, and the bound of random tests."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

SIGMAS = 5.0
"""Bounds of random tests, in standard errors: passed but once in 1.7 million by chance."""


def binary(n_units: int) -> np.ndarray:
    """All states of so many units, ``[2**n_units, n_units]``."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n_units))).reshape(2**n_units, n_units)


def numbers_of(states: Any) -> np.ndarray:
    """The number of each state ``[..., units]`` in `binary`."""
    states = np.asarray(states)
    return (states @ 2 ** np.arange(states.shape[-1])[::-1]).astype(int)
