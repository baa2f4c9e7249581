"""Persistent chains, fast ones and tempered ones against the enumerated machine; swaps and their balance."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_rbm import arrays, as_params
from enumeration import SIGMAS, binary, numbers_of
from scipy.special import logsumexp
from scipy.stats import chi2

from pretrain import PCD, RBM, Batch, BernoulliRBM, FastPCD, ParallelTempering
from pretrain.learners.rbm import RBMParams
from pretrain.samplers import FastChains, Phase, log_swap_ratio, swap

pytestmark = pytest.mark.usefixtures("quick_compilation")


def visible_distribution(params: tuple[np.ndarray, ...]) -> np.ndarray:
    weights, b, c = params
    visible, hidden = binary(len(b)), binary(len(c))
    log_p = logsumexp((visible @ b)[:, None] + hidden @ c + visible @ weights @ hidden.T, axis=1)
    return np.exp(log_p - logsumexp(log_p))


def mixing_distance(params: tuple[np.ndarray, ...], steps: int) -> float:
    """The farthest total variation of the Gibbs chain from the model after so many steps, over starting states."""
    weights, b, c = params
    visible, hidden = binary(len(b)), binary(len(c))
    joint = np.exp((visible @ b)[:, None] + hidden @ c + visible @ weights @ hidden.T)
    transition = (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T
    after = np.linalg.matrix_power(transition, steps)
    return float(0.5 * np.abs(after - visible_distribution(params)).sum(axis=1).max())


def simulate(machine: RBM, params: RBMParams, rows: Batch, steps: int, chains: Any = None) -> tuple[Any, Any]:
    """The sampler's state after so many updates at fixed parameters, and the last metrics; ``chains`` to start from."""

    @jax.jit
    def run(params: RBMParams) -> Any:
        state = machine.init(jax.random.key(0), rows)[1] if chains is None else chains

        def update(state: Any, step: Any) -> Any:
            return machine.gradient(params, state, rows, jax.random.fold_in(jax.random.key(1), step))[1:]

        state, metrics = jax.lax.scan(update, state, jnp.arange(steps))
        return state, jax.tree.map(lambda values: values[-1], metrics)

    return run(params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        PCD(k=3, n_chains=20_000),
        FastPCD(k=3, n_chains=20_000, learning_rate=0.0),
        ParallelTempering(k=3, n_chains=20_000, n_temperatures=3),
    ],
    ids=["pcd", "fpcd", "tempering"],
)
def test_chains_sample_the_model(sampler: Any) -> None:
    """Parameters held fixed, the chains end up distributed as the enumerated machine: a chi-squared test.

    After 18 Gibbs steps the farthest starting state is within 1e-4 of the model in total variation. Parallel tempering
    is held to its tempered distributions at every temperature.
    """
    values = arrays(4, 3, seed=1)
    assert mixing_distance(values, 18) < 1e-4
    machine, params = BernoulliRBM(3, sampler=sampler), as_params(*values)
    rows = Batch(jnp.asarray(np.eye(4)[:2], jnp.float32))
    state, metrics = simulate(machine, params, rows, 6)
    visible = state.visible if isinstance(state, FastChains) else state
    tempered = {1.0: visible}
    if isinstance(sampler, ParallelTempering):
        tempered = dict(zip((1.0, 0.5, 0.0), visible, strict=True))
    for beta, chains in tempered.items():
        counts = np.bincount(numbers_of(chains), minlength=16)
        expected = 20_000 * visible_distribution(tuple(beta * a for a in values))
        assert expected.min() > 5
        assert (np.square(counts - expected) / expected).sum() < chi2.isf(2.9e-7, 15), beta
    gap = np.square(np.asarray(tempered[1.0]).mean(axis=0) - np.asarray(rows.x).mean(axis=0)).sum()
    np.testing.assert_allclose(metrics["mean_gap"], gap, rtol=1e-3)


def test_swaps_satisfy_detailed_balance_on_two_temperatures() -> None:
    """For every pair of states, the flow into the exchanged pair is the flow back; and `swap` accepts as often.

    Enumerated: ``p_1(v) p_b(w) A(v, w) = p_1(w) p_b(v) A(w, v)`` with the machine's own acceptance.
    """
    values, beta = arrays(3, 2, 1.5), jnp.asarray([1.0, 0.3])[:, None, None]
    machine, params, visible = BernoulliRBM(2), as_params(*values), binary(3)
    pairs = jnp.asarray(list(itertools.product(visible, visible)), jnp.float32).transpose(1, 0, 2)
    chains = Phase(pairs, machine.hidden_input(params, pairs))
    accept = np.exp(np.minimum(np.asarray(log_swap_ratio(beta, params.visible_bias, chains), np.float64), 0.0))
    cold, warm = (visible_distribution(tuple(b * a for a in values)) for b in (1.0, 0.3))
    flow = np.outer(cold, warm) * accept.reshape(8, 8)
    np.testing.assert_allclose(flow, flow.T, rtol=1e-4)
    assert 0.01 < accept.min() < 0.6
    repeated = Phase(*(jnp.tile(a, (1, 2_000, 1)) for a in chains))
    swapped = jax.jit(swap)(beta, params.visible_bias, repeated, jax.random.key(0))
    np.testing.assert_allclose(swapped.total, machine.hidden_input(params, swapped.visible), atol=1e-5)
    apart = numbers_of(pairs[0]) != numbers_of(pairs[1])
    moved = (numbers_of(swapped.visible[0]) == numbers_of(repeated.visible[1])).reshape(2_000, 64).mean(axis=0)
    error = SIGMAS * np.sqrt(accept[0] * (1 - accept[0]) / 2_000) + 1e-6
    assert (np.abs(moved - accept[0])[apart] < error[apart]).all()


def test_swaps_lose_no_state_and_reach_every_neighbour() -> None:
    """Every chain keeps its set of five states; pairs (0, 1), (2, 3) come first, then (1, 2), (3, 4)."""
    marked = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 3_000, 1))
    chains = Phase(marked, jnp.zeros((5, 3_000, 2)))  # no energy: every swap is accepted
    beta = jnp.linspace(1.0, 0.0, 5)[:, None, None]
    swapped = jax.jit(swap)(beta, jnp.zeros(1), chains, jax.random.key(0)).visible[..., 0]
    np.testing.assert_array_equal(swapped, np.array([1, 3, 0, 4, 2])[:, None] * np.ones((1, 3_000)))


@pytest.mark.slow
def test_tempering_mixes_between_modes_that_persistent_chains_do_not_leave() -> None:
    """All on or all off, of equal probability, with a barrier of some 18 nats; every chain starts in one of them."""
    n, strength = 6, 6.0
    weights = np.full((n, 2), strength)
    params = as_params(weights, np.full(n, -strength), np.full(2, -strength * n / 2))
    rows = Batch(jnp.ones((4, n)))
    probabilities = visible_distribution(tuple(np.asarray(a, np.float64) for a in params[:3]))
    np.testing.assert_allclose(probabilities[[0, -1]], 0.5, atol=0.02)
    share = {}
    for sampler in (PCD(k=5, n_chains=400), ParallelTempering(k=5, n_chains=400, n_temperatures=12)):
        shape = (400, n) if isinstance(sampler, PCD) else (12, 400, n)
        state, _ = simulate(BernoulliRBM(2, sampler=sampler), params, rows, 20, jnp.ones(shape))
        coldest = state if isinstance(sampler, PCD) else state[0]
        share[type(sampler)] = float((np.asarray(coldest).mean(axis=1) > 0.5).mean())
    assert share[PCD] == 1.0
    assert abs(share[ParallelTempering] - 0.5) < SIGMAS * 0.5 / np.sqrt(400)
