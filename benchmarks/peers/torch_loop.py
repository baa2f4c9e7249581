"""A plain PyTorch loop on the CPU, the same CD-1 as ours: sampled hiddens, mean-field visibles, momentum, reshuffling.

It is written as one who knows torch would write it: no autograd, ``addmm`` for products with a bias, updates in place.
Its threads wait for each other after every operation, so where other processes hold a core one thread can be faster
than all: the untimed epochs try both, and the faster is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # an optional peer

from benchmarks.peers import Done, Setting

ALGORITHM = (
    "CD-1, sampled hiddens, mean-field visibles, momentum; reshuffled every epoch; eager, in place, no autograd; "
    "one thread or all, whichever was faster in the warm-up"
)
PACKAGES = ("torch",)


Update = Callable[[torch.Tensor, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], float, float], None]


def update(
    v0: torch.Tensor,
    parameters: tuple[torch.Tensor, ...],
    velocities: tuple[torch.Tensor, ...],
    learning_rate: float,
    momentum: float,
) -> None:
    """One update in place, of weights and both biases."""
    weights, visible_bias, hidden_bias = parameters
    h0 = torch.addmm(hidden_bias, v0, weights).sigmoid_()
    v1 = torch.addmm(visible_bias, torch.bernoulli(h0), weights.T).sigmoid_()
    h1 = torch.addmm(hidden_bias, v1, weights).sigmoid_()
    gradients = (
        (v0.T @ h0).addmm_(v1.T, h1, alpha=-1).div_(len(v0)),
        (v0 - v1).mean(dim=0),
        (h0 - h1).mean(dim=0),
    )
    for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
        velocity.mul_(momentum).add_(gradient)
        parameter.add_(velocity, alpha=learning_rate)


@torch.no_grad()
def train(x: np.ndarray, setting: Setting, done: Done, update: Update = update) -> None:
    """Calls ``done`` after the last update of every epoch."""
    torch.manual_seed(setting.seed)
    data = torch.from_numpy(x)
    weights = 0.01 * torch.randn(setting.n_visible, setting.n_hidden)
    visible_bias, hidden_bias = torch.zeros(setting.n_visible), torch.zeros(setting.n_hidden)
    parameters = (weights, visible_bias, hidden_bias)
    velocities = tuple(torch.zeros_like(parameter) for parameter in parameters)
    every = torch.get_num_threads()
    trial: dict[int, float] = {}
    for threads in (every, 1):  # a compiled update compiles for each
        torch.set_num_threads(threads)
        update(data[: setting.batch_size], parameters, velocities, setting.learning_rate, setting.momentum)
    for number in range(setting.epochs):
        if number < setting.warmup:
            torch.set_num_threads(every if number % 2 == 0 else 1)
        began = time.perf_counter()
        for rows in torch.randperm(len(data)).split(setting.batch_size):
            update(data[rows], parameters, velocities, setting.learning_rate, setting.momentum)
        if number < setting.warmup:
            trial[torch.get_num_threads()] = time.perf_counter() - began
        if number == setting.warmup - 1:
            torch.set_num_threads(min(trial, key=lambda threads: trial[threads]))
        facts = {"device": "cpu", "precision": f"float32, matmul precision {torch.get_float32_matmul_precision()}"}
        done(facts | {"threads": torch.get_num_threads(), "warmup_seconds_by_threads": trial})
