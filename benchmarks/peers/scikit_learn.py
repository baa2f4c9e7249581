"""scikit-learn's `BernoulliRBM`: stochastic maximum likelihood (PCD-1), one ``fit`` of one iteration an epoch."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import BernoulliRBM

from benchmarks.peers import Done, Setting

ALGORITHM = (
    "PCD-1 (BernoulliRBM.fit, n_iter=1): as many products an update; samples visibles too, no momentum, rows in order"
)
PACKAGES = ("scikit-learn", "numpy", "scipy")


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` after every ``fit``; each starts from fresh weights, which takes milliseconds."""
    for _ in range(setting.epochs):
        BernoulliRBM(
            setting.n_hidden,
            learning_rate=setting.learning_rate,
            batch_size=setting.batch_size,
            n_iter=1,
            random_state=setting.seed,
        ).fit(x)
        done({"device": "cpu", "precision": str(x.dtype)})
