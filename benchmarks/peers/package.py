"""This package as a user runs it: `pretrain.run`, a population of one, one epoch a chunk, no monitors."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import pretrain
from benchmarks.peers import Done, Setting
from benchmarks.peers.compilations import Compilations

ALGORITHM = (
    "CD-1, sampled hiddens, mean-field visibles, momentum; reshuffled every epoch; "
    "the reconstruction error of every minibatch is measured"
)
PACKAGES = ("jax", "jaxlib", "optax")


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` from the host loop, after each chunk's metrics were fetched and its parameters are ready."""
    compilations = Compilations(setting.warmup)

    def on_chunk(progress: pretrain.Progress) -> None:
        done(compilations.after(progress.epoch, progress.fits))

    pretrain.run(
        pretrain.BernoulliRBM(setting.n_hidden),
        pretrain.Momentum(setting.learning_rate, setting.momentum),
        pretrain.Batch(jnp.asarray(x)),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        seeds=(setting.seed,),
        on_chunk=on_chunk,
    )
