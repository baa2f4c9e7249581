"""The contenders of `benchmarks.speed`, one a file, each run in a process of its own by `benchmarks.peers.worker`.

A contender is a module with

- ``ALGORITHM``: a sentence on what one epoch of it does;
- ``PACKAGES``: the distributions whose versions belong to its result;
- ``TASKS``: of `TASKS` those it can do;
- ``SHARE``, if an epoch of it takes very long: it is given one row in so many, and its seconds are multiplied;
- ``train(x, setting, done)``: trains on the rows ``x`` and calls ``done(facts)`` after every epoch, the compiling or
  warming-up ones (`Setting.warmup`) included, with whatever is worth noting about how it ran.

It trains for `Setting.epochs` epochs, all alike. Third-party peers are imported at the top of their files, so one
that is not installed is told by its import alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Done = Callable[[dict[str, Any]], None]
"""Called after every epoch with facts about the run; it returns when the next epoch is to start."""

CONTENDERS = {
    "pretrain": "package",
    "bare products": "bare_products",
    "torch": "torch_loop",
    "torch.compile": "torch_compiled",
    "scikit-learn": "scikit_learn",
    "learnergy": "learnergy_rbm",
    "rbms": "rbms_pcd",
    "thrml": "thrml_ising",
}
"""Name in the output to module of this package, in the order in which they take turns."""

SWEEPS = 10
"""Of the deep Boltzmann machine's mean field, in every update."""

TASKS = {
    "cd": "contrastive divergence (CD-1) of an RBM",
    "pcd": "persistent contrastive divergence (PCD-1) of an RBM",
    "denoising": "a denoising autoencoder with tied weights",
    "fine-tuning": "fine-tuning of three sigmoid layers under a softmax of ten classes",
    "dbm": f"a deep Boltzmann machine of two hidden layers: {SWEEPS} sweeps of mean field and one step of its chains",
}
"""What one epoch is of."""

NO_SUCH = "it has no"
"""How the reason starts that a contender does not take part in a task."""

MASKED = 0.25
"""The share of inputs that the denoising autoencoder does not see."""

NONZERO, SLOPE = 0.19, 1.58
"""MNIST's share of pixels above 0, and the slope that gives those its mean of 0.68."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """The task that all contenders share: which, a layer's sizes, the data's, and how often it is passed over.

    Attributes:
        rows: training examples.
        task: a key of `TASKS`.
        epochs: passes, untimed ones included.
        warmup: how many of them come first, untimed.
        n_visible: visible units.
        n_hidden: hidden units.
        batch_size: rows an update.
        learning_rate: step size; timing does not depend on it.
        momentum: heavy-ball momentum, where the contender has any.
        seed: of the data and of the contender.
    """

    rows: int
    epochs: int
    task: str = "cd"
    warmup: int = 2
    n_visible: int = 784
    n_hidden: int = 500
    batch_size: int = 100
    learning_rate: float = 0.05
    momentum: float = 0.5
    seed: int = 0


def synthetic(setting: Setting) -> np.ndarray:
    """``[rows, n_visible]`` float32 in [0, 1] with MNIST's sparsity: four pixels in five are 0, half of the others 1.

    No contender's arithmetic depends on the values, so time is not spent on a download.
    """
    pixels = np.random.default_rng(setting.seed).random((setting.rows, setting.n_visible), dtype=np.float32)
    pixels -= 1.0 - NONZERO
    pixels *= SLOPE / NONZERO
    return np.clip(pixels, 0.0, 1.0, out=pixels)
