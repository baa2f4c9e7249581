"""rbms' `BBRBM`: PCD-1 with centred gradients, its own update in a plain loop, without its logging to files."""

from __future__ import annotations

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # an optional peer
from rbms.bernoulli_bernoulli.classes import BBRBM  # pyright: ignore[reportMissingImports]
from rbms.training.pcd import fit_batch_pcd  # pyright: ignore[reportMissingImports]

from benchmarks.peers import Done, Setting

ALGORITHM = (
    "PCD-1 (beside CD-1 too: as many products; fit_batch_pcd, SGD): samples both sides, centred gradients with their "
    "norm bounded, no momentum, reshuffled; without its logs and archives"
)
TASKS = ("cd", "pcd")
PACKAGES = ("rbms", "torch")


@torch.no_grad()
def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """Calls ``done`` after the last update of every epoch."""
    torch.manual_seed(setting.seed)
    data = torch.from_numpy(x)
    weights = torch.ones(len(data), 1)
    model = BBRBM(
        0.01 * torch.randn(setting.n_visible, setting.n_hidden),
        torch.zeros(setting.n_visible),
        torch.zeros(setting.n_hidden),
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # the library writes into it
    chains = model.init_chains(setting.batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate, maximize=True)
    for _ in range(setting.epochs):
        for rows in torch.randperm(len(data)).split(setting.batch_size):
            optimizer.zero_grad(set_to_none=False)
            chains, _ = fit_batch_pcd((data[rows], weights[rows]), chains, model, gibbs_steps=1, beta=1.0)
            optimizer.step()
        done({"device": "cpu", "precision": "float32", "threads": torch.get_num_threads()})
