"""Plain PyTorch loops on the CPU, the same updates as ours, reshuffled.

They are written as one who knows torch would write them: no autograd where the gradient is known, ``addmm`` for
products with a bias, updates in place; fine-tuning is a module, autograd and an optimizer. Torch's threads wait for
each other after every operation, so where other processes hold a core one thread can be faster than all: the untimed
epochs try both, and the faster is kept.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # an optional peer

from benchmarks.peers import MASKED, SWEEPS, Done, Setting

ALGORITHM = (
    "as ours: sampled hiddens, mean-field visibles (sampled ones in persistent chains), momentum (but for PCD and the "
    "deep Boltzmann machine); reshuffled every epoch; eager, in place, no autograd but for fine-tuning; one thread or "
    "all, whichever was faster in the warm-up"
)
TASKS = ("cd", "pcd", "denoising", "fine-tuning", "dbm")
PACKAGES = ("torch",)

Tensors = Sequence[torch.Tensor]
Update = Callable[[torch.Tensor], None]
"""One minibatch ``[batch, features]``; what is learned is changed in place."""


def descend(parameters: Tensors, velocities: Tensors, gradients: Tensors, setting: Setting) -> None:
    """Momentum, in place."""
    for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
        velocity.mul_(setting.momentum).add_(gradient)
        parameter.add_(velocity, alpha=setting.learning_rate)


def up(x: torch.Tensor, parameters: Tensors) -> torch.Tensor:
    """Hidden probabilities."""
    return torch.addmm(parameters[2], x, parameters[0]).sigmoid_()


def down(h: torch.Tensor, parameters: Tensors) -> torch.Tensor:
    """Visible probabilities."""
    return torch.addmm(parameters[1], h, parameters[0].T).sigmoid_()


def statistics(v0: torch.Tensor, h0: torch.Tensor, v1: torch.Tensor, h1: torch.Tensor) -> Tensors:
    """The gradient of weights and biases, from data and chains."""
    weights = (v0.T @ h0).addmm_(v1.T, h1, alpha=-1).div_(len(v0))
    return weights, (v0 - v1).mean(dim=0), (h0 - h1).mean(dim=0)


def contrastive_divergence(v0: torch.Tensor, parameters: Tensors, velocities: Tensors, setting: Setting) -> None:
    """CD-1."""
    h0 = up(v0, parameters)
    v1 = down(torch.bernoulli(h0), parameters)
    descend(parameters, velocities, statistics(v0, h0, v1, up(v1, parameters)), setting)


def persistent(v0: torch.Tensor, parameters: Tensors, chains: torch.Tensor, setting: Setting) -> None:
    """PCD-1, without momentum; the chains are visible states, moved in place."""
    if len(v0) != len(chains):
        return  # the last, smaller minibatch
    h = torch.bernoulli(up(chains, parameters))
    chains.copy_(torch.bernoulli(down(h, parameters)))
    gradients = statistics(v0, up(v0, parameters), chains, up(chains, parameters))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.add_(gradient, alpha=setting.learning_rate)


def denoising(x: torch.Tensor, parameters: Tensors, velocities: Tensors, setting: Setting) -> None:
    """The cross-entropy of a tied autoencoder that sees masked inputs; its gradient written down."""
    seen = x * (torch.rand_like(x) >= MASKED)
    h = up(seen, parameters)
    error = x - down(h, parameters)
    below = torch.mm(error, parameters[0]).mul_(h).mul_(1 - h)
    weights = (seen.T @ below).addmm_(error.T, h).div_(len(x))
    descend(parameters, velocities, (weights, error.mean(dim=0), below.mean(dim=0)), setting)


def machine(v: torch.Tensor, weights: Tensors, biases: Tensors, chains: Tensors, setting: Setting) -> None:
    """A deep Boltzmann machine of two hidden layers: mean field, a step of the chains (visible and second hidden
    states), and the statistics of both, without momentum.
    """
    if len(v) != len(chains[0]):
        return
    (w1, w2), (b0, b1, b2) = weights, biases
    heard = torch.addmm(b1, v, w1)
    h1 = (2 * heard - b1).sigmoid_()
    h2 = torch.addmm(b2, h1, w2).sigmoid_()
    for _ in range(SWEEPS):
        h1 = torch.addmm(heard, h2, w2.T).sigmoid_()
        h2 = torch.addmm(b2, h1, w2).sigmoid_()
    u, u2 = chains
    u1 = torch.bernoulli(torch.addmm(b1, u, w1).addmm_(u2, w2.T).sigmoid_())
    u.copy_(torch.bernoulli(torch.addmm(b0, u1, w1.T).sigmoid_()))
    u2.copy_(torch.bernoulli(torch.addmm(b2, u1, w2).sigmoid_()))
    u1 = torch.addmm(b1, u, w1).addmm_(u2, w2.T).sigmoid_()
    rate = setting.learning_rate
    for w, b, (below, above), (below_chain, above_chain) in zip(
        weights, biases[1:], ((v, h1), (h1, h2)), ((u, u1), (u1, u2)), strict=True
    ):
        w.addmm_(below.T, above, alpha=rate / len(v)).addmm_(below_chain.T, above_chain, alpha=-rate / len(v))
        b.add_((above - above_chain).mean(dim=0), alpha=rate)
    b0.add_((v - u).mean(dim=0), alpha=rate)


def network(setting: Setting) -> Update:
    """Fine-tuning: a module, autograd, an optimizer."""
    sizes = [setting.n_visible, *(setting.n_hidden,) * 3]
    layers: list[torch.nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(setting.n_hidden, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate)
    labels = torch.arange(setting.batch_size) % 10

    def update(x: torch.Tensor) -> None:
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(model(x), labels[: len(x)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return update


def updates(setting: Setting, wrap: Callable[[Any], Any]) -> Update:
    """The update of the setting's task."""
    if setting.task == "fine-tuning":
        return network(setting)
    if setting.task == "dbm":
        sizes = (setting.n_visible, setting.n_hidden, setting.n_hidden)
        weights = [0.01 * torch.randn(below, above) for below, above in itertools.pairwise(sizes)]
        chains = [torch.bernoulli(torch.full((setting.batch_size, n), 0.5)) for n in sizes[::2]]
        biases = [torch.zeros(n) for n in sizes]
        return functools.partial(wrap(machine), weights=weights, biases=biases, chains=chains, setting=setting)
    parameters = (
        0.01 * torch.randn(setting.n_visible, setting.n_hidden),
        torch.zeros(setting.n_visible),
        torch.zeros(setting.n_hidden),
    )
    velocities = tuple(torch.zeros_like(parameter) for parameter in parameters)
    if setting.task == "pcd":
        chains = torch.bernoulli(torch.full((setting.batch_size, setting.n_visible), 0.5))
        return functools.partial(wrap(persistent), parameters=parameters, chains=chains, setting=setting)
    function = {"cd": contrastive_divergence, "denoising": denoising}[setting.task]
    return functools.partial(wrap(function), parameters=parameters, velocities=velocities, setting=setting)


@torch.no_grad()
def train(x: np.ndarray, setting: Setting, done: Done, wrap: Callable[[Any], Any] = lambda function: function) -> None:
    """Calls ``done`` after the last update of every epoch; ``wrap`` may compile the update."""
    torch.manual_seed(setting.seed)
    data = torch.from_numpy(x)
    update = updates(setting, wrap)
    every = torch.get_num_threads()
    trial: dict[int, float] = {}
    for threads in (every, 1):  # a compiled update compiles for each
        torch.set_num_threads(threads)
        update(data[: setting.batch_size])
    for number in range(setting.epochs):
        if number < setting.warmup:
            torch.set_num_threads(every if number % 2 == 0 else 1)
        began = time.perf_counter()
        for rows in torch.randperm(len(data)).split(setting.batch_size):
            update(data[rows])
        if number < setting.warmup:
            trial[torch.get_num_threads()] = time.perf_counter() - began
        if number == setting.warmup - 1:
            torch.set_num_threads(min(trial, key=lambda threads: trial[threads]))
        facts = {"device": "cpu", "precision": f"float32, matmul precision {torch.get_float32_matmul_precision()}"}
        done(facts | {"threads": torch.get_num_threads(), "warmup_seconds_by_threads": trial})
