"""Deep Boltzmann machines small enough to be enumerated in float64: their states, moments and bounds."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from enumeration import binary
from scipy.special import expit, logsumexp
from scipy.stats import chi2

from pretrain.generative import DBMParams

SIZES = {1: (4, 3), 2: (4, 3, 2), 3: (3, 3, 2, 2)}


def arrays(sizes: tuple[int, ...], scale: float = 0.8, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    weights = [scale * random.standard_normal(shape) for shape in itertools.pairwise(sizes)]
    return weights, [scale * random.standard_normal(n) for n in sizes]


def as_params(weights: Any, biases: Any) -> DBMParams:
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), DBMParams(tuple(weights), tuple(biases)))


def joint(weights: Any, biases: Any, visible: np.ndarray | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """Every joint state, a layer's values at a time, and minus its energy; the visible states are the outermost."""
    layers = [binary(len(bias)) for bias in biases]
    layers[0] = layers[0] if visible is None else visible
    numbers = np.array(list(itertools.product(*(range(len(layer)) for layer in layers))))
    states = [layer[numbers[:, i]] for i, layer in enumerate(layers)]
    own = states[0] @ biases[0] if visible is None else -0.5 * np.square(states[0] - biases[0]).sum(axis=1)
    minus_energy = own + sum(state @ bias for state, bias in zip(states[1:], biases[1:], strict=True))
    for w, (below, above) in zip(weights, itertools.pairwise(states), strict=True):
        minus_energy = minus_energy + np.einsum("si,ij,sj->s", below, w, above)
    return states, minus_energy


def moments(weights: Any, biases: Any) -> DBMParams:
    """The exact means under the model of what the energy is linear in."""
    states, minus_energy = joint(weights, biases)
    p = np.exp(minus_energy - logsumexp(minus_energy))
    products = [np.einsum("s,si,sj->ij", p, below, above) for below, above in itertools.pairwise(states)]
    return DBMParams(tuple(products), tuple(p @ state for state in states))


def settled(weights: Any, biases: Any, x: np.ndarray, sweeps: int = 300) -> list[np.ndarray]:
    """Mean-field posteriors in float64, the odd layers first; from the doubled pass up."""
    states = [x]
    for layer, w in enumerate(weights, 1):
        states.append(expit((2.0 if layer < len(weights) else 1.0) * states[-1] @ w + biases[layer]))
    for _ in range(sweeps):
        for layer in (*range(1, len(states), 2), *range(2, len(states), 2)):
            total = states[layer - 1] @ weights[layer - 1] + biases[layer]
            above = states[layer + 1] @ weights[layer].T if layer < len(weights) else 0.0
            states[layer] = expit(total + above)
    return states[1:]


def evidence(weights: Any, biases: Any, x: np.ndarray, means: Any) -> np.ndarray:
    """``E_q[-E] + H(q)`` of each row, the expectation over every hidden state."""
    values = []
    for row, *q in zip(x, *means, strict=True):
        states, minus_energy = joint(weights, biases)
        of_row = (states[0] == row).all(axis=1)
        q, hidden = np.concatenate(q), np.concatenate(states[1:], axis=1)[of_row]
        log_q = (hidden * np.log(q) + (1 - hidden) * np.log(1 - q)).sum(axis=1)
        values.append((np.exp(log_q) * (minus_energy[of_row] - log_q)).sum())
    return np.array(values)


def assert_close(one: Any, other: Any, **tolerances: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerances)


def assert_distribution(values: Any, weights: Any, biases: Any) -> None:
    """A chi-squared test of visible states against the enumerated model."""
    minus_energy = joint(weights, biases)[1].reshape(2 ** len(biases[0]), -1)
    p = np.exp(logsumexp(minus_energy, axis=1) - logsumexp(minus_energy))
    numbers = (np.asarray(values) @ 2 ** np.arange(len(biases[0]))[::-1]).astype(int)
    counts, expected = np.bincount(numbers, minlength=len(p)), len(values) * p
    assert expected.min() > 5
    assert (np.square(counts - expected) / expected).sum() < chi2.isf(2.9e-7, len(p) - 1)
