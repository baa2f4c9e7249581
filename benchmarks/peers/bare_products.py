"""The yardstick: the matrix products of an update, on gathered minibatches, in the same `jax.lax.scan`.

An RBM's are five, those of its chain and its statistics. A tied autoencoder's code, reconstruction, error at the code,
and the two parts of its gradient are as many, of the same shapes; so are those of persistent chains that are kept as
hidden states (ours are kept as visible ones, a sixth product). Three layers and an output have eleven, forwards and
backwards. A deep Boltzmann machine of two layers has two of a pass up, two of every sweep of mean field, six of its
chains and four of its statistics.

Of few rows a pass over the weights costs as much as a product, and the two statistics could be one product, as ours
are: there it is a yardstick and no floor.

There are no nonlinearities, biases, random numbers, momentum or metrics, the order of the rows is drawn once, untimed,
and persistent chains start from the same states in every update, for linear ones would grow or vanish. All of a
gradient enters the carried weights, so no product can be left out by the compiler.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers import SWEEPS, Done, Setting
from benchmarks.peers.compilations import Compilations

ALGORITHM = (
    "the matrix products of an update on gathered minibatches in one lax.scan, and nothing else: five, of fine-tuning "
    f"eleven, of the deep Boltzmann machine {12 + 2 * SWEEPS}"
)
PACKAGES = ("jax", "jaxlib")

STEP = 1e-6
"""Small enough for the linear recursion to stay finite."""

Weights = tuple[Array, ...]
"""``[below, above]`` of every layer, from the lowest up."""


def rbm(weights: Weights, v0: Array, chains: Weights) -> Weights:
    """Contrastive divergence, and a tied autoencoder."""
    (w,) = weights
    h0 = v0 @ w
    v1 = h0 @ w.T
    return (v0.T @ h0 - v1.T @ (v1 @ w),)


def persistent(weights: Weights, v0: Array, chains: Weights) -> Weights:
    """Persistent chains of hidden states."""
    (w,) = weights
    v1 = chains[1] @ w.T
    return (v0.T @ (v0 @ w) - v1.T @ (v1 @ w),)


def network(weights: Weights, x: Array, chains: Weights) -> Weights:
    """Every layer forwards, and backwards to its weights and, but for the lowest, its input."""
    states = [x]
    for w in weights:
        states.append(states[-1] @ w)
    error, gradients = states.pop(), []
    for w, below in zip(weights[::-1], states[::-1], strict=True):
        gradients.append(below.T @ error)
        error = error @ w.T
    return tuple(gradients[::-1])


def machine(weights: Weights, v: Array, chains: Weights) -> Weights:
    """A deep Boltzmann machine of two hidden layers."""
    w1, w2 = weights
    heard = v @ w1

    def sweep(_: int, means: Weights) -> Weights:
        h1 = heard + means[1] @ w2.T
        return h1, h1 @ w2

    h1, h2 = jax.lax.fori_loop(0, SWEEPS, sweep, (heard, heard @ w2))
    u1 = chains[0] @ w1 + chains[1] @ w2.T
    u, u2 = u1 @ w1.T, u1 @ w2
    u1 = u @ w1 + u2 @ w2.T
    return v.T @ h1 - u.T @ u1, h1.T @ h2 - u1.T @ u2


PRODUCTS: dict[str, tuple[Callable[[Weights, Array, Weights], Weights], int, tuple[int, ...]]] = {
    "cd": (rbm, 1, ()),
    "pcd": (persistent, 1, ()),
    "denoising": (rbm, 1, ()),
    "fine-tuning": (network, 3, (10,)),
    "dbm": (machine, 2, ()),
}
"""By task: an update's gradients from weights, minibatch and chains; how many hidden layers; and what is above them."""
TASKS = tuple(PRODUCTS)


@functools.partial(jax.jit, static_argnames="task")
def epoch(task: str, weights: Weights, data: Array, order: Array, chains: Weights) -> Weights:
    """One pass: ``data`` [rows, visible], ``order`` [steps, batch]; of ``chains`` the visible and the hidden states."""

    def update(weights: Weights, rows: Array) -> tuple[Weights, None]:
        gradients = PRODUCTS[task][0](weights, data[rows], chains)
        return tuple(w + STEP * gradient for w, gradient in zip(weights, gradients, strict=True)), None

    return jax.lax.scan(update, weights, order)[0]


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` when the epoch's weights are ready."""
    compilations = Compilations(setting.warmup)
    order_key, weights_key = jax.random.split(jax.random.key(setting.seed))
    steps = setting.rows // setting.batch_size
    order = jax.random.permutation(order_key, setting.rows)[: steps * setting.batch_size].reshape(steps, -1)
    _, n_layers, above = PRODUCTS[setting.task]
    sizes = (setting.n_visible, *(setting.n_hidden,) * n_layers, *above)
    layers = list(itertools.pairwise(sizes))
    keys = jax.random.split(weights_key, len(layers))
    weights = tuple(0.01 * jax.random.normal(key, layer) for key, layer in zip(keys, layers, strict=True))
    chains = tuple(jnp.ones((setting.batch_size, n)) for n in (setting.n_visible, setting.n_hidden))
    data = jnp.asarray(x)
    for number in range(1, setting.epochs + 1):
        weights = epoch(setting.task, weights, data, order, chains)
        done(compilations.after(number, weights))
