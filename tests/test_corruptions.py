"""Corruptions against the rates and deviations they state, and at both of their ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import SIGMAS

from pretrain import Gaussian, Masking, NoCorruption, SaltPepper

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_VALUES = 200_000


def corrupted(corruption: Any, value: float) -> np.ndarray:
    x = jnp.full((N_VALUES // 100, 100), value)
    noisy = corruption(x, jax.random.key(0))
    assert (noisy.shape, noisy.dtype) == (x.shape, x.dtype)
    assert not np.array_equal(noisy, corruption(x, jax.random.key(1)))
    return np.asarray(noisy)


def assert_rate(chosen: np.ndarray, rate: float) -> None:
    """A fraction within the binomial's `SIGMAS` standard errors."""
    assert abs(chosen.mean() - rate) < SIGMAS * np.sqrt(rate * (1 - rate) / chosen.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masking_zeros_its_rate_and_leaves_the_rest(rate: float) -> None:
    noisy = corrupted(Masking(rate), 0.7)
    assert set(np.unique(noisy)) == {np.float32(0.0), np.float32(0.7)}
    assert_rate(noisy == 0.0, rate)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_salt_and_pepper_sets_half_its_rate_to_each_end(rate: float) -> None:
    noisy = corrupted(SaltPepper(rate), 0.7)
    assert set(np.unique(noisy)) == {np.float32(0.0), np.float32(0.7), np.float32(1.0)}
    assert_rate(noisy == 0.0, rate / 2)
    assert_rate(noisy == 1.0, rate / 2)


def test_gaussian_adds_noise_of_its_standard_deviation() -> None:
    """The standard error of a mean is std/sqrt(n), that of a normal sample's standard deviation std/sqrt(2 n)."""
    noise = corrupted(Gaussian(0.3), 0.7) - np.float32(0.7)
    assert abs(noise.mean(dtype=np.float64)) < SIGMAS * 0.3 / np.sqrt(N_VALUES)
    assert abs(noise.std(dtype=np.float64) - 0.3) < SIGMAS * 0.3 / np.sqrt(2 * N_VALUES)


@pytest.mark.parametrize("corruption", [NoCorruption(), Masking(0.0), SaltPepper(0.0), Gaussian(0.0)])
def test_no_corruption_is_the_identity(corruption: Any) -> None:
    x = jax.random.uniform(jax.random.key(0), (20, 30))
    np.testing.assert_array_equal(corruption(x, jax.random.key(1)), x)


def test_full_corruption_leaves_nothing() -> None:
    x = jnp.full((20, 30), 0.5)
    assert not np.any(Masking(1.0)(x, jax.random.key(0)))
    assert set(np.unique(SaltPepper(1.0)(x, jax.random.key(0)))) == {0.0, 1.0}
