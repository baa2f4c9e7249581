"""learnergy's `RBM`: CD-1 by autograd on free energies, minibatches from a torch `DataLoader`; a ``fit`` an epoch."""

from __future__ import annotations

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # an optional peer
from learnergy.models.bernoulli import RBM  # pyright: ignore[reportMissingImports]

from benchmarks.peers import Done, Setting

ALGORITHM = (
    "CD-1 (RBM.fit, epochs=1): sampled hiddens and visibles, momentum, reshuffled; gradients of free energies by "
    "autograd; measures the squared error and the pseudo-likelihood of every minibatch"
)
TASKS = ("cd",)
PACKAGES = ("learnergy", "torch")


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` after every ``fit``."""
    torch.manual_seed(setting.seed)
    model = RBM(
        n_visible=setting.n_visible,
        n_hidden=setting.n_hidden,
        steps=1,
        learning_rate=setting.learning_rate,
        momentum=setting.momentum,
        use_gpu=False,
    )
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.zeros(len(x)))
    for _ in range(setting.epochs):
        model.fit(data, batch_size=setting.batch_size, epochs=1)
        done({"device": "cpu", "precision": "float32", "threads": torch.get_num_threads()})
