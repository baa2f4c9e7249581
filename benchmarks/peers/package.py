"""This package as a user runs it: `pretrain.run`, a population of one, one epoch a chunk, no monitors."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import pretrain
from benchmarks.peers import MASKED, SWEEPS, TASKS, Done, Setting
from benchmarks.peers.compilations import Compilations

ALGORITHM = (
    "as declared, sampled hiddens and mean-field visibles (sampled ones in persistent chains), momentum (but for PCD "
    "and the deep Boltzmann machine); reshuffled every epoch; the error of every minibatch is measured"
)
TASKS = tuple(TASKS)
PACKAGES = ("jax", "jaxlib", "optax")


def learner(setting: Setting) -> tuple[Any, Any]:
    """The learner and its recipe."""
    n_hidden, n_chains = setting.n_hidden, setting.batch_size
    momentum = pretrain.Momentum(setting.learning_rate, setting.momentum)
    plain = pretrain.Sgd(setting.learning_rate)
    return {
        "cd": (pretrain.BernoulliRBM(n_hidden), momentum),
        "pcd": (pretrain.RBM(n_hidden, sampler=pretrain.PCD(n_chains=n_chains)), plain),
        "denoising": (pretrain.Autoencoder(n_hidden, corruption=pretrain.Masking(MASKED)), momentum),
        "fine-tuning": (pretrain.Classifier(10, (n_hidden,) * 3), plain),
        "dbm": (pretrain.DBM((n_hidden, n_hidden), n_chains=n_chains, k=1, max_steps=SWEEPS, tolerance=0.0), plain),
    }[setting.task]


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` from the host loop, after each chunk's metrics were fetched and its parameters are ready."""
    compilations = Compilations(setting.warmup)

    def on_chunk(progress: pretrain.Progress) -> None:
        done(compilations.after(progress.epoch, progress.fits))

    pretrain.run(
        *learner(setting),
        pretrain.Batch(jnp.asarray(x), jnp.arange(len(x)) % 10),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        seeds=(setting.seed,),
        on_chunk=on_chunk,
    )
