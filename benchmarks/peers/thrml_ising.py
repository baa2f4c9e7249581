"""thrml's `IsingEBM` on the graph of an RBM: an edge a weight, sampled by blocks, moments gathered edge by edge.

Its `estimate_kl_grad` needs the data clamped and both phases sampled; the negative phase starts at the data and takes
two sweeps, hidden then visible units, as CD-1 does. The update is one compiled function of the weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from thrml import Block, SamplingSchedule, SpinNode  # pyright: ignore[reportMissingImports]  # an optional peer
from thrml.models import (  # pyright: ignore[reportMissingImports]
    IsingEBM,
    IsingTrainingSpec,
    estimate_kl_grad,
)

from benchmarks.peers import Done, Setting
from benchmarks.peers.compilations import Compilations

SHARE = 100
ALGORITHM = (
    "CD-1 (estimate_kl_grad): samples both sides of an Ising model, spins of -1 and 1, whose every weight is an edge "
    f"of its own, no momentum, rows in order; timed on a row in {SHARE}, its seconds multiplied"
)
TASKS = ("cd",)
PACKAGES = ("thrml", "jax", "jaxlib")


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` when the epoch's weights are ready."""
    compilations = Compilations(setting.warmup)
    visible, hidden = ([SpinNode() for _ in range(n)] for n in (setting.n_visible, setting.n_hidden))
    nodes, edges = [*visible, *hidden], [(v, h) for v in visible for h in hidden]
    blocks = Block(visible), Block(hidden)
    sweep = SamplingSchedule(n_warmup=1, n_samples=1, steps_per_sample=1)
    batch = setting.batch_size

    @jax.jit
    def update(biases: jax.Array, weights: jax.Array, rows: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = IsingEBM(nodes, edges, biases, weights, jnp.ones(()))
        spec = IsingTrainingSpec(
            model,
            data_blocks=[blocks[0]],
            conditioning_blocks=[],
            positive_sampling_blocks=[blocks[1]],
            negative_sampling_blocks=[blocks[1], blocks[0]],
            schedule_positive=sweep,
            schedule_negative=sweep,
        )
        idle = jnp.zeros((batch, setting.n_hidden), bool)
        down, down_bias, *_ = estimate_kl_grad(key, spec, nodes, edges, [rows], [], [idle[None]], [idle, rows])
        return biases - setting.learning_rate * down_bias, weights - setting.learning_rate * down

    key = jax.random.key(setting.seed)
    data = jax.random.bernoulli(key, jnp.asarray(x))
    biases, weights = jnp.zeros((len(nodes),)), 0.01 * jax.random.normal(key, (len(edges),))
    for number in range(1, setting.epochs + 1):
        for first in range(0, len(data) - batch + 1, batch):
            step = jax.random.fold_in(key, number * len(data) + first)
            biases, weights = update(biases, weights, data[first : first + batch], step)
        done(compilations.after(number, weights))
