"""scikit-learn's `BernoulliRBM` (PCD-1), one ``fit`` of one iteration an epoch; its `MLPClassifier` for fine-tuning."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import BernoulliRBM, MLPClassifier

from benchmarks.peers import Done, Setting

ALGORITHM = (
    "PCD-1 (BernoulliRBM.fit, n_iter=1), beside CD-1 too: as many products an update; samples visibles too, no "
    "momentum, rows in order; fine-tuning: MLPClassifier.partial_fit, SGD without momentum"
)
TASKS = ("cd", "pcd", "fine-tuning")
PACKAGES = ("scikit-learn", "numpy", "scipy")


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` after every ``fit``; an RBM's starts from fresh weights, which takes milliseconds."""
    facts = {"device": "cpu", "precision": str(x.dtype)}
    if setting.task == "fine-tuning":
        network = MLPClassifier(
            (setting.n_hidden,) * 3,
            activation="logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=setting.batch_size,  # type: ignore[arg-type]
            learning_rate_init=setting.learning_rate,
            momentum=0.0,
            random_state=setting.seed,
        )
        labels = np.arange(len(x)) % 10
        for _ in range(setting.epochs):
            network.partial_fit(x, labels, classes=np.arange(10))
            done(facts)
        return
    for _ in range(setting.epochs):
        BernoulliRBM(
            setting.n_hidden,
            learning_rate=setting.learning_rate,
            batch_size=setting.batch_size,
            n_iter=1,
            random_state=setting.seed,
        ).fit(x)
        done(facts)
