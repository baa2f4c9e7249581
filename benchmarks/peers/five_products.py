"""The yardstick: the five matrix products of an update, on gathered minibatches, in the same `jax.lax.scan`.

An RBM's are those of its chain and its statistics; a tied autoencoder's code, reconstruction, error at the code, and
the two parts of its gradient are as many, of the same shapes.

Of few rows a pass over the weights costs as much as a product, and the two statistics could be one product, as ours
are: there it is a yardstick and no floor.

There are no nonlinearities, biases, random numbers, momentum or metrics, and the order of the rows is drawn once,
untimed. Both weight statistics enter the carried weights, so no product can be left out by the compiler.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers import Done, Setting
from benchmarks.peers.compilations import Compilations

ALGORITHM = "the five matrix products of an update on gathered minibatches in one lax.scan, and nothing else"
TASKS = ("cd", "denoising")
PACKAGES = ("jax", "jaxlib")

STEP = 1e-6
"""Small enough for the linear recursion to stay finite."""


@jax.jit
def epoch(weights: Array, data: Array, order: Array) -> Array:
    """One pass: ``weights`` [visible, hidden], ``data`` [rows, visible], ``order`` [steps, batch]."""

    def update(weights: Array, rows: Array) -> tuple[Array, None]:
        v0 = data[rows]
        h0 = v0 @ weights
        v1 = h0 @ weights.T
        h1 = v1 @ weights
        return weights + STEP * (v0.T @ h0 - v1.T @ h1), None

    return jax.lax.scan(update, weights, order)[0]


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` when the epoch's weights are ready."""
    compilations = Compilations(setting.warmup)
    order_key, weights_key = jax.random.split(jax.random.key(setting.seed))
    steps = setting.rows // setting.batch_size
    order = jax.random.permutation(order_key, setting.rows)[: steps * setting.batch_size].reshape(steps, -1)
    weights = 0.01 * jax.random.normal(weights_key, (setting.n_visible, setting.n_hidden))
    data = jnp.asarray(x)
    for number in range(1, setting.epochs + 1):
        weights = epoch(weights, data, order)
        done(compilations.after(number, weights))
