"""The general restricted Boltzmann machine: units, samplers, label units and sparsity, against enumeration and
integration.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp, ndtr, softmax
from scipy.stats import chi2

from pretrain import (
    CD,
    PCD,
    RBM,
    Batch,
    BernoulliRBM,
    BernoulliUnits,
    FastPCD,
    GaussianRBM,
    GaussianUnits,
    ParallelTempering,
    RectifiedUnits,
    SoftmaxUnits,
    SparsityTarget,
)
from pretrain.learners.rbm import LOWEST_LOG_VARIANCE, RBMParams
from pretrain.samplers import FastChains, Phase, gibbs_chain, log_swap_ratio, swap
from pretrain.units import standard_normal

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIGMAS = 5.0
"""Bounds of random tests, in standard errors: passed but once in 1.7 million by chance."""

GRID = np.linspace(-14.0, 14.0, 1401)
"""Where real-valued units are integrated: the trapezoidal rule on a smooth density is exact to rounding."""
STEP = GRID[1] - GRID[0]


def arrays(n_visible: int, n_hidden: int, scale: float = 0.6, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    shapes = (n_visible, n_hidden), n_visible, n_hidden
    return tuple(scale * random.standard_normal(shape) for shape in shapes)


def as_params(*values: np.ndarray | None) -> RBMParams:
    return RBMParams(*(None if a is None else jnp.asarray(a, jnp.float32) for a in values))  # type: ignore[arg-type]


def binary(n: int) -> np.ndarray:
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


# ---------------------------------------------------------------- units


TOTALS = np.array([[-6.0, -1.3, 0.0, 0.4, 2.0, 7.0]])


def moments(units: Any, log_variance: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of 200,000 samples at `TOTALS`, each unit."""
    total = jnp.asarray(np.repeat(TOTALS, 200_000, axis=0), jnp.float32)
    drawn = np.asarray(jax.jit(lambda total: units.sample(jax.random.key(0), total, log_variance))(total), np.float64)
    return drawn.mean(axis=0), drawn.var(axis=0)


@pytest.mark.parametrize("units", [BernoulliUnits(), GaussianUnits(), RectifiedUnits(), SoftmaxUnits(3)])
def test_samples_have_the_mean_that_units_declare(units: Any) -> None:
    mean, variance = moments(units)
    error = SIGMAS * np.sqrt(variance / 200_000) + 1e-6
    assert (np.abs(mean - np.asarray(units.mean(jnp.asarray(TOTALS, jnp.float32)))[0]) < error).all()


def test_means_are_those_of_the_densities() -> None:
    """Bernoulli and softmax by their exponentials, rectified ones by integrating the rectified normal."""
    t = jnp.asarray(TOTALS, jnp.float32)
    np.testing.assert_allclose(BernoulliUnits().mean(t), expit(TOTALS), rtol=1e-5)
    groups = softmax(TOTALS.reshape(2, 3), axis=-1).reshape(1, 6)
    np.testing.assert_allclose(SoftmaxUnits(3).mean(t), groups, rtol=1e-5)
    deviation = np.sqrt(expit(TOTALS[0]))
    fine = np.linspace(-12.0, 12.0, 240_001)
    density = np.exp(-0.5 * fine**2) / np.sqrt(2 * np.pi) * (fine[1] - fine[0])
    values = [(np.maximum(a + s * fine, 0.0) * density).sum() for a, s in zip(TOTALS[0], deviation, strict=True)]
    np.testing.assert_allclose(RectifiedUnits().mean(t)[0], values, rtol=1e-4, atol=1e-7)
    extreme = RectifiedUnits().mean(jnp.asarray([-1e4, -200.0, 200.0, 1e4], jnp.float32))
    np.testing.assert_allclose(extreme, [0.0, 0.0, 200.0, 1e4])


def test_noisy_rectified_units_stand_for_many_shifted_bernoulli_copies() -> None:
    """Off zero, mean and variance are those of the sum of copies, sampled; the log-partition is theirs throughout."""
    shifts = np.arange(1, 60) - 0.5
    totals = np.array([-6.0, 3.0, 7.0])
    probabilities = expit(totals[:, None] - shifts)
    copies = (np.random.default_rng(0).random((20_000, *probabilities.shape)) < probabilities).sum(axis=-1)
    repeated = jnp.asarray(np.repeat(totals[None], 20_000, axis=0), jnp.float32)
    drawn = jax.jit(RectifiedUnits().sample)(jax.random.key(0), repeated)
    np.testing.assert_allclose(np.mean(drawn, axis=0), copies.mean(axis=0), atol=0.06)
    np.testing.assert_allclose(np.var(drawn, axis=0), copies.var(axis=0), atol=0.06)
    exact = np.logaddexp(0.0, TOTALS[0][:, None] - shifts).sum(axis=1)
    approximate = jax.jit(RectifiedUnits().log_partition)(jnp.asarray(TOTALS.T, jnp.float32))
    np.testing.assert_allclose(approximate, exact + expit(TOTALS[0]) / 24, atol=2e-3)  # the midpoint rule's error


def test_gaussian_samples_have_the_learned_variance() -> None:
    log_variance = jnp.linspace(-2.0, 1.5, 6)
    mean, variance = moments(GaussianUnits(True), log_variance)
    expected = np.exp(np.asarray(log_variance, np.float64))
    assert (np.abs(variance / expected - 1.0) < SIGMAS * np.sqrt(2.0 / 200_000)).all()
    assert (np.abs(mean - TOTALS[0]) < SIGMAS * np.sqrt(expected / 200_000)).all()


def test_normal_draws_are_normal() -> None:
    """Counts between the deciles; and no draw is infinite, not even from the ends of the uniform ones."""
    drawn = np.asarray(jax.jit(lambda: standard_normal(jax.random.key(0), (200_000,)))(), np.float64)
    assert np.isfinite(drawn).all()
    counts = np.histogram(ndtr(drawn), bins=10, range=(0, 1))[0]
    assert (np.square(counts - 20_000) / 20_000).sum() < chi2.isf(2.9e-7, 9)


# ---------------------------------------------------------------- energies: conditionals and free energies


def joint_table(visible: np.ndarray, hidden: np.ndarray, params: tuple, kind: str) -> np.ndarray:
    """Minus the energy of every pair, by the module's equations, one term at a time; float64, ``[visible, hidden]``."""
    weights, b, c, z = params
    table = np.zeros((len(visible), len(hidden)))
    precision = np.ones(len(b)) if z is None else np.concatenate([np.exp(-z), np.ones(len(b) - len(z))])
    n_gaussian = {"bernoulli": 0, "gaussian": len(b), "gaussian labels": len(b) - 3}[kind]
    for m, v in enumerate(visible):
        own = sum(-0.5 * (v[i] - b[i]) ** 2 * precision[i] if i < n_gaussian else v[i] * b[i] for i in range(len(b)))
        table[m] = own + hidden @ c + hidden @ (weights.T @ (v * precision))
    return table


def test_gaussian_machine_has_the_conditionals_and_the_free_energy_of_its_energy() -> None:
    """One row of hidden states against a grid of two real units, of variances 1 and learned."""
    weights, b, c = arrays(2, 3)
    hidden = binary(3)
    grid = np.stack(np.meshgrid(GRID[::10], GRID[::10], indexing="ij"), axis=-1).reshape(-1, 2)
    for z in (None, np.array([-0.7, 0.5])):
        machine = GaussianRBM(3, GaussianUnits(z is not None))
        params = as_params(weights, b, c, z)
        joint = joint_table(grid, hidden, (weights, b, c, z), "gaussian")
        np.testing.assert_allclose(machine.free_energy(params, grid[::97]), -logsumexp(joint, axis=1)[::97], rtol=1e-4)
        given_visible = softmax(joint, axis=1) @ hidden
        mean = machine.hidden.mean(machine.hidden_input(params, grid[::97]))
        np.testing.assert_allclose(mean, given_visible[::97], rtol=2e-4, atol=1e-6)
        given_hidden = softmax(joint, axis=0)
        np.testing.assert_allclose(machine.visible_input(params, hidden), given_hidden.T @ grid, atol=1e-5)
        variance = given_hidden.T @ grid**2 - (given_hidden.T @ grid) ** 2
        np.testing.assert_allclose(variance, np.ones((8, 1)) * np.exp(np.zeros(2) if z is None else z), rtol=1e-5)


def test_gaussian_hidden_units_have_the_free_energy_of_their_integral() -> None:
    weights, b, c = arrays(3, 1)
    visible, machine, params = binary(3), RBM(1, hidden=GaussianUnits()), as_params(weights, b, c)
    total = visible @ weights + c
    integral = logsumexp(total * GRID - 0.5 * GRID**2, axis=1) + np.log(STEP)
    np.testing.assert_allclose(machine.free_energy(params, visible), -visible @ b - integral, rtol=1e-5)
    np.testing.assert_allclose(machine.hidden_input(params, visible), total, rtol=1e-5)


def test_softmax_machine_has_the_conditionals_and_the_free_energy_of_its_energy() -> None:
    weights, b, c = arrays(6, 3)
    visible = np.array([[*one, *other] for one in np.eye(3) for other in np.eye(3)])
    hidden, machine, params = binary(3), RBM(3, SoftmaxUnits(3)), as_params(weights, b, c)
    joint = joint_table(visible, hidden, (weights, b, c, None), "bernoulli")
    np.testing.assert_allclose(machine.free_energy(params, visible), -logsumexp(joint, axis=1), rtol=1e-5)
    mean = machine.visible_units.mean(machine.visible_input(params, jnp.asarray(hidden, jnp.float32)))
    np.testing.assert_allclose(mean, softmax(joint, axis=0).T @ visible, rtol=1e-5)


@pytest.mark.parametrize("gaussian", [False, True])
def test_class_probabilities_are_those_of_the_enumerated_joint(gaussian: bool) -> None:
    weights, b, c = arrays(5, 3)
    z = np.array([-0.5, 0.3]) if gaussian else None
    visible = GaussianUnits(True) if gaussian else BernoulliUnits()
    machine, params = RBM(3, visible, n_classes=3), as_params(weights, b, c, z)
    x = np.random.default_rng(1).standard_normal((7, 2)) if gaussian else binary(2)
    kind = "gaussian labels" if gaussian else "bernoulli"
    rows = np.array([[*row, *label] for row in x for label in np.eye(3)])
    joint = logsumexp(joint_table(rows, binary(3), (weights, b, c, z), kind), axis=1).reshape(-1, 3)
    expected = joint - logsumexp(joint, axis=1, keepdims=True)
    np.testing.assert_allclose(machine.class_log_probabilities(params, jnp.asarray(x)), expected, atol=1e-5)
    y = np.arange(len(x)) % 3
    batch = Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y))
    first = []

    @jax.jit
    def evaluate(params: RBMParams) -> Any:
        measures = machine.evaluate(params, batch, jax.random.key(0))
        first.append(next(iter(measures)))
        return measures

    measures = evaluate(params)
    np.testing.assert_allclose(measures["error"], 100 * (expected.argmax(axis=1) != y).mean(), rtol=1e-6)
    np.testing.assert_allclose(measures["free_energy"], -joint[np.arange(len(x)), y].mean(), rtol=1e-4)
    assert first == ["reconstruction_error"]
    layer, hidden = machine.layer(params), machine.decoder(params)
    without = np.asarray(x) * (1 if z is None else np.exp(-z)) @ weights[:2] + c
    np.testing.assert_allclose(layer(batch.x), expit(without), rtol=1e-4)
    assert hidden(layer(batch.x)).shape == x.shape
    with pytest.raises(ValueError, match="no label units: train it with n_classes"):
        RBM(3).class_log_probabilities(params, batch.x)


# ---------------------------------------------------------------- the gradient is that of its surrogate

SURROGATES = {
    "gaussian": GaussianRBM(4, sampler=CD(2)),
    "learned-variance": GaussianRBM(4, GaussianUnits(True)),
    "learned-variance-labels-pcd": GaussianRBM(4, GaussianUnits(True), sampler=PCD(n_chains=9), n_classes=3),
    "linear-code": RBM(4, hidden=GaussianUnits()),
    "labels-fpcd": BernoulliRBM(4, n_classes=3, sampler=FastPCD(n_chains=9)),
    "softmax": RBM(4, SoftmaxUnits(3)),
    "tempering": BernoulliRBM(4, sampler=ParallelTempering(n_chains=9, n_temperatures=3)),
}


@pytest.mark.parametrize("machine", SURROGATES.values(), ids=SURROGATES.keys())
def test_gradient_is_that_of_the_surrogate_with_samples_held(machine: RBM) -> None:
    """The statistics equal jax.grad of ``mean F(v0) - mean F(vk)``, every leaf of them, and they are not zero."""
    random, key = np.random.default_rng(2), jax.random.key(3)
    x = random.standard_normal((10, 6)) if machine.inputs == "standardised" else random.random((10, 6)).round()
    x = np.eye(3)[random.integers(3, size=(10, 2))].reshape(10, 6) if isinstance(machine.visible, SoftmaxUnits) else x
    batch = Batch(jnp.asarray(x, jnp.float32), jnp.asarray(np.arange(10) % 3))
    shapes = jax.eval_shape(machine.init, key, batch)[0]
    noise = jax.tree.map(lambda a: np.float32(0.4 * random.standard_normal(a.shape)), shapes)

    @jax.jit
    def both(noise: RBMParams) -> Any:
        start, state = machine.init(key, batch)
        params = jax.tree.map(jnp.add, start, noise)
        state = state._replace(fast=noise) if isinstance(state, FastChains) else state
        grads, after, _ = machine.gradient(params, state, batch, key)
        visible = machine.rows(batch)
        if isinstance(machine.sampler, CD):
            total, k = machine.hidden_input(params, visible), machine.sampler.k
            chains = gibbs_chain(machine, params, total, key, k, sampled=machine.sampled)[0].visible
        elif isinstance(machine.sampler, ParallelTempering):
            chains = after[0]
        else:
            chains = after.visible if isinstance(after, FastChains) else after

        def surrogate(params: RBMParams) -> jax.Array:
            return machine.free_energy(params, visible).mean() - machine.free_energy(params, chains).mean()

        return grads, after, jax.grad(surrogate)(params)

    grads, after, expected = both(noise)
    assert jax.tree.structure(grads) == jax.tree.structure(expected)
    for closed, automatic in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert np.abs(automatic).max() > 1e-3
        np.testing.assert_allclose(closed, automatic, rtol=1e-4, atol=1e-5)
    if isinstance(after, FastChains):
        for fast, old, grad in zip(*map(jax.tree.leaves, (after.fast, noise, grads)), strict=True):
            np.testing.assert_allclose(fast, 0.95 * old - 0.05 * grad, rtol=1e-5, atol=1e-6)


def test_a_learned_variance_sinks_no_further_than_its_bound() -> None:
    """A constant feature pulls its variance down for ever; below the bound it stops, and may only rise."""
    machine = GaussianRBM(2, GaussianUnits(True))
    batch = Batch(jnp.asarray(np.random.default_rng(0).standard_normal((200, 2)) * [0.0, 1.0], jnp.float32))

    @jax.jit
    def slope(log_variance: Any) -> Any:
        params, state = machine.init(jax.random.key(0), batch)
        at = params._replace(log_variance=jnp.full((2,), log_variance))
        return machine.gradient(at, state, batch, jax.random.key(1))[0].log_variance

    slopes = [slope(LOWEST_LOG_VARIANCE + offset) for offset in (0.1, -0.1)]
    assert slopes[0][0] > 0.1
    assert slopes[1][0] == 0.0
    assert slopes[1][1] < -1.0


# ---------------------------------------------------------------- samplers


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


def states(visible: Any) -> np.ndarray:
    visible = np.asarray(visible)
    return (visible @ 2 ** np.arange(visible.shape[-1])[::-1]).astype(int)


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
        counts = np.bincount(states(chains), minlength=16)
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
    apart = states(pairs[0]) != states(pairs[1])
    moved = (states(swapped.visible[0]) == states(repeated.visible[1])).reshape(2_000, 64).mean(axis=0)
    error = SIGMAS * np.sqrt(accept[0] * (1 - accept[0]) / 2_000) + 1e-6
    assert (np.abs(moved - accept[0])[apart] < error[apart]).all()


def test_swaps_lose_no_state_and_reach_every_neighbour() -> None:
    """Every chain keeps its set of five states; pairs (0, 1), (2, 3) come first, then (1, 2), (3, 4)."""
    marked = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 3_000, 1))
    chains = Phase(marked, jnp.zeros((5, 3_000, 2)))  # no energy: every swap is accepted
    beta = jnp.linspace(1.0, 0.0, 5)[:, None, None]
    swapped = jax.jit(swap)(beta, jnp.zeros(1), chains, jax.random.key(0)).visible[..., 0]
    np.testing.assert_array_equal(swapped, np.array([1, 3, 0, 4, 2])[:, None] * np.ones((1, 3_000)))


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


# ---------------------------------------------------------------- sparsity


def test_sparsity_adds_its_pull_to_biases_and_weights_alone() -> None:
    """The difference from the same update without a target is ``cost (q - p)``, and on weights that times the mean."""
    target = SparsityTarget(0.1, 0.7, 0.8)
    plain, sparse = (BernoulliRBM(3, sparsity=sparsity) for sparsity in (None, target))
    batch = Batch(jnp.asarray(np.random.default_rng(0).random((10, 4)), jnp.float32))

    @jax.jit
    def updates() -> Any:
        key, (params, state) = jax.random.key(1), sparse.init(jax.random.key(0), batch)
        return params, state, plain.gradient(params, (), batch, key), sparse.gradient(params, state, batch, key)

    params, before, (without, nothing, _), (grads, state, metrics) = updates()
    np.testing.assert_allclose(before.activity, 0.1)
    assert nothing == ()
    mean = expit(np.asarray(batch.x) @ np.asarray(params.weights)).mean(axis=0)
    np.testing.assert_allclose(state.activity, 0.8 * 0.1 + 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(metrics["mean_activation"], mean.mean(), rtol=1e-5)
    pull = 0.7 * (np.asarray(state.activity) - 0.1)
    np.testing.assert_allclose(grads.hidden_bias - without.hidden_bias, pull, atol=1e-6)
    expected = np.asarray(batch.x).mean(axis=0)[:, None] * pull
    np.testing.assert_allclose(grads.weights - without.weights, expected, atol=1e-6)
    np.testing.assert_array_equal(grads.visible_bias, without.visible_bias)


def test_sparsity_moves_the_mean_activation_to_the_target() -> None:
    """From one half, within a tenth of the target; without a cost it stays far from it."""
    batch = Batch(jnp.asarray(np.random.default_rng(0).random((50, 8)) < 0.4, jnp.float32))

    def activity(cost: Any) -> jax.Array:
        machine = BernoulliRBM(5, sparsity=SparsityTarget(0.1, cost, 0.9))
        params, state = machine.init(jax.random.key(0), batch)

        def update(step: Any, carry: Any) -> Any:
            grads, state, _ = machine.gradient(carry[0], carry[1], batch, jax.random.fold_in(jax.random.key(1), step))
            return jax.tree.map(lambda p, g: p - 0.1 * g, carry[0], grads), state

        return jax.lax.fori_loop(0, 400, update, (params, state))[1].activity

    without, pulled = jax.jit(jax.vmap(activity))(jnp.asarray([0.0, 5.0]))
    assert np.abs(without - 0.1).min() > 0.2
    np.testing.assert_allclose(pulled, 0.1, atol=0.01)


# ---------------------------------------------------------------- rows of probabilities


def test_sampled_data_give_the_expectation_over_binary_rows_not_the_mean_fields() -> None:
    """The chains of PCD do not depend on the rows, so that what differs is the data's statistics, enumerated."""
    values, p = arrays(4, 3, 4.0), np.array([0.2, 0.5, 0.7, 0.9])
    params, rows = as_params(*values), binary(4)
    weights, _, hidden_bias = values
    chances = np.prod(np.where(rows == 1.0, p, 1.0 - p), axis=1)
    expected = np.einsum("s,sv,sh->vh", chances, rows, expit(rows @ weights + hidden_bias))
    mean_field = np.outer(p, expit(p @ weights + hidden_bias))
    batch = Batch(jnp.asarray(np.repeat(p[None], 2_000, axis=0), jnp.float32))
    chains = jnp.zeros((5, 4))

    def positive(sample_data: bool, batch: Batch, key: Any) -> jax.Array:
        machine = BernoulliRBM(3, sampler=PCD(n_chains=5), sample_data=sample_data)
        grads, state, _ = machine.gradient(params, chains, batch, key)
        hidden = jax.nn.sigmoid(state @ params.weights + params.hidden_bias)
        return state.T @ hidden / 5 - grads.weights

    keys = jax.random.split(jax.random.key(0), 20)
    found = np.asarray(jax.jit(jax.vmap(lambda key: positive(True, batch, key)))(keys), np.float64)
    error = SIGMAS * found.std(axis=0, ddof=1) / np.sqrt(20) + 1e-6
    assert (np.abs(found.mean(axis=0) - expected) < 1.5 * error).all()  # 20 draws tell their own spread roughly
    assert np.abs(mean_field - expected).max() > 0.1
    np.testing.assert_allclose(positive(False, batch, keys[0]), mean_field, atol=1e-5)
    with pytest.raises(ValueError, match="only Bernoulli units take probabilities; got sample_data=True"):
        GaussianRBM(3, sample_data=True)


# ---------------------------------------------------------------- what does not go


def test_softmax_columns_must_make_whole_groups_and_have_no_decoder() -> None:
    machine = RBM(2, SoftmaxUnits(3))
    with pytest.raises(ValueError, match="multiple of 3 columns; got 4"):
        machine.init(jax.random.key(0), Batch(jnp.zeros((5, 4))))
    with pytest.raises(ValueError, match="softmax visible units have no decoder"):
        machine.decoder(as_params(*arrays(3, 2)))


def test_rectified_visible_units_have_no_free_energy_but_a_gradient() -> None:
    machine, batch = RBM(3, RectifiedUnits()), Batch(jnp.asarray(np.random.default_rng(0).random((9, 4)), jnp.float32))
    params, state = jax.jit(machine.init)(jax.random.key(0), batch)
    grads, _, _ = jax.jit(machine.gradient)(params, state, batch, jax.random.key(1))
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(grads))
    assert jax.eval_shape(machine.evaluate, params, batch, jax.random.key(0)).keys() == {"reconstruction_error"}
    with pytest.raises(ValueError, match="no free energy in closed form"):
        machine.free_energy(params, batch.x)
