"""The deep Boltzmann machine against enumeration; doubled RBMs, its way to a classifier, and bounded norms."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import chi2

from pretrain import (
    CD,
    DBM,
    PCD,
    RBM,
    Batch,
    BernoulliRBM,
    Classifier,
    Dense,
    GaussianRBM,
    GaussianUnits,
    MeanField,
    Momentum,
    Network,
    ParallelTempering,
    Pretrained,
    RectifiedUnits,
    Sgd,
    SoftmaxUnits,
    SparsityTarget,
    Stage,
    annealed_importance_sampling,
    encode,
    fine_tune,
    load,
    log_partition,
    member,
    predict,
    pretrain,
    save,
    to_nnx,
)
from pretrain.generative import DBMParams, DBMState, temperatures
from pretrain.generative.dbm_params import sweep
from pretrain.layers import compose
from pretrain.learners.rbm import RBMParams
from pretrain.optim import Recipe

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIGMAS = 5.0
"""Bounds of random tests, in standard errors: passed but once in 1.7 million by chance."""

SIZES = {1: (4, 3), 2: (4, 3, 2), 3: (3, 3, 2, 2)}


def arrays(sizes: tuple[int, ...], scale: float = 0.8, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    weights = [scale * random.standard_normal(shape) for shape in itertools.pairwise(sizes)]
    return weights, [scale * random.standard_normal(n) for n in sizes]


def as_params(weights: Any, biases: Any) -> DBMParams:
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), DBMParams(tuple(weights), tuple(biases)))


def binary(n: int) -> np.ndarray:
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def joint(weights: Any, biases: Any, visible: np.ndarray | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """Every joint state, a layer's values at a time, and minus its energy; the visible states are the outermost."""
    layers = [binary(len(bias)) for bias in biases]
    layers[0] = layers[0] if visible is None else visible
    numbers = np.array(list(itertools.product(*(range(len(layer)) for layer in layers))))
    states = [layer[numbers[:, i]] for i, layer in enumerate(layers)]
    own = states[0] @ biases[0] if visible is None else -0.5 * np.square(states[0] - biases[0]).sum(axis=1)
    minus_energy = own + sum(state @ bias for state, bias in zip(states[1:], biases[1:], strict=True))
    for w, (below, above) in zip(weights, itertools.pairwise(states), strict=True):
        minus_energy = minus_energy + np.einsum("si,ij,sj->s", below, w, above)
    return states, minus_energy


def moments(weights: Any, biases: Any) -> DBMParams:
    """The exact means under the model of what the energy is linear in."""
    states, minus_energy = joint(weights, biases)
    p = np.exp(minus_energy - logsumexp(minus_energy))
    products = [np.einsum("s,si,sj->ij", p, below, above) for below, above in itertools.pairwise(states)]
    return DBMParams(tuple(products), tuple(p @ state for state in states))


def settled(weights: Any, biases: Any, x: np.ndarray, sweeps: int = 300) -> list[np.ndarray]:
    """Mean-field posteriors in float64, the odd layers first; from the doubled pass up."""
    states = [x]
    for layer, w in enumerate(weights, 1):
        states.append(expit((2.0 if layer < len(weights) else 1.0) * states[-1] @ w + biases[layer]))
    for _ in range(sweeps):
        for layer in (*range(1, len(states), 2), *range(2, len(states), 2)):
            total = states[layer - 1] @ weights[layer - 1] + biases[layer]
            above = states[layer + 1] @ weights[layer].T if layer < len(weights) else 0.0
            states[layer] = expit(total + above)
    return states[1:]


def evidence(weights: Any, biases: Any, x: np.ndarray, means: Any) -> np.ndarray:
    """``E_q[-E] + H(q)`` of each row, the expectation over every hidden state."""
    values = []
    for row, *q in zip(x, *means, strict=True):
        states, minus_energy = joint(weights, biases)
        of_row = (states[0] == row).all(axis=1)
        q, hidden = np.concatenate(q), np.concatenate(states[1:], axis=1)[of_row]
        log_q = (hidden * np.log(q) + (1 - hidden) * np.log(1 - q)).sum(axis=1)
        values.append((np.exp(log_q) * (minus_energy[of_row] - log_q)).sum())
    return np.array(values)


def assert_close(one: Any, other: Any, **tolerances: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerances)


def assert_distribution(values: Any, weights: Any, biases: Any) -> None:
    """A chi-squared test of visible states against the enumerated model."""
    minus_energy = joint(weights, biases)[1].reshape(2 ** len(biases[0]), -1)
    p = np.exp(logsumexp(minus_energy, axis=1) - logsumexp(minus_energy))
    numbers = (np.asarray(values) @ 2 ** np.arange(len(biases[0]))[::-1]).astype(int)
    counts, expected = np.bincount(numbers, minlength=len(p)), len(values) * p
    assert expected.min() > 5
    assert (np.square(counts - expected) / expected).sum() < chi2.isf(2.9e-7, len(p) - 1)


# ---------------------------------------------------------------- log Z and the bound


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equivalent_rbm_has_the_partition_function_of_the_sum_over_all_states(depth: int) -> None:
    sizes = SIZES[depth]
    values, dbm = arrays(sizes), DBM(sizes[1:])
    states, minus_energy = joint(*values)
    rbm = dbm.as_rbm(as_params(*values))
    visible = np.concatenate(states[::2], axis=1)
    hidden = np.concatenate(states[1::2], axis=1)
    same = visible @ rbm.visible_bias + hidden @ rbm.hidden_bias + ((visible @ rbm.weights) * hidden).sum(axis=1)
    np.testing.assert_allclose(same, minus_energy, atol=1e-5)
    np.testing.assert_allclose(log_partition(rbm), logsumexp(minus_energy), rtol=1e-5)


def test_annealed_importance_sampling_finds_log_z_from_the_mean_field_base() -> None:
    """Exact log Z within the interval; the base has the rows' means and those of the posterior of h2."""
    values, x = arrays(SIZES[3], 1.5), jnp.asarray(binary(3)[[1, 3, 3, 6]], jnp.float32)
    params, dbm = as_params(*values), DBM((3, 2, 2), tolerance=1e-6)
    base = dbm.base_bias(params, x)
    assert base.shape == (5,)
    means = np.concatenate([x, settled(*values, np.asarray(x))[1]], axis=1).mean(axis=0)
    np.testing.assert_allclose(expit(base), np.clip(means, 0.2, 0.8), atol=1e-4)
    estimate = annealed_importance_sampling(dbm.as_rbm(params), jax.random.key(0), temperatures(300), base, 200)
    exact = logsumexp(joint(*values)[1])
    assert estimate.interval[0] < exact < estimate.interval[1]
    assert estimate.standard_error < 0.05


@pytest.mark.parametrize("depth", [2, 3])
def test_bound_is_that_of_the_mean_field_and_no_row_exceeds_its_log_probability(depth: int) -> None:
    """Independently: float64 sweeps to rest, and the expectation by enumeration."""
    sizes = SIZES[depth]
    weights, biases = arrays(sizes, 1.2, seed=1)
    x, dbm = binary(sizes[0]), DBM(sizes[1:], tolerance=1e-6, max_steps=200)
    minus_energy = joint(weights, biases)[1]
    log_z = logsumexp(minus_energy)
    exact = logsumexp(minus_energy.reshape(len(x), -1), axis=1) - log_z
    params = as_params(weights, biases)
    posterior = dbm.mean_field(params, x)
    means = settled(weights, biases, x)
    assert_close(posterior.means, tuple(means), atol=1e-5)
    assert posterior.change < 1e-6
    assert 1 < posterior.steps < 200
    bound = dbm.log_probability_bound(params, x, log_z)
    np.testing.assert_allclose(bound, evidence(weights, biases, x, means) - log_z, atol=1e-5)
    assert (bound <= exact + 1e-5).all()
    assert (bound < exact - 1e-3).any()
    alone = weights[:1], [np.zeros_like(w) for w in weights[1:]]
    idle, log_z = [*alone[0], *alone[1]], logsumexp(joint([*alone[0], *alone[1]], biases)[1])
    exact = logsumexp(joint(idle, biases)[1].reshape(len(x), -1), axis=1) - log_z
    np.testing.assert_allclose(dbm.log_probability_bound(as_params(idle, biases), x, log_z), exact, atol=1e-5)


def test_no_sweep_lowers_the_bound() -> None:
    """From random posteriors of a strongly coupled machine, row by row, until nothing changes."""
    weights, biases = arrays(SIZES[3], 2.0, seed=2)
    x, params, random = binary(3), as_params(weights, biases), np.random.default_rng(0)
    means = tuple(jnp.asarray(random.uniform(0.02, 0.98, (8, n)), jnp.float32) for n in SIZES[3][1:])
    values = []
    for _ in range(12):
        inside = [np.clip(np.asarray(q, np.float64), 1e-9, 1.0 - 1e-9) for q in means]
        values.append(evidence(weights, biases, x, inside))
        means = sweep(params, jnp.asarray(x, jnp.float32) @ params.weights[0], means)
    gains = np.diff(values, axis=0)
    assert (gains > -1e-5).all()
    assert (gains[0] > 0.1).all()


@pytest.mark.parametrize("depth", [2, 3])
def test_one_sweep_is_of_the_odd_then_of_the_even_layers_from_the_doubled_pass_up(depth: int) -> None:
    """As written out in float64; of two hidden layers the fixed layer's one sweep is the same."""
    sizes = SIZES[depth]
    values, x = arrays(sizes, 2.0, seed=8), binary(sizes[0])
    params, dbm = as_params(*values), DBM(sizes[1:], max_steps=1)
    posterior = dbm.mean_field(params, x)
    expected = settled(*values, x, sweeps=1)
    assert_close(posterior.means, tuple(expected), atol=1e-5)
    change = [np.abs(a - b).max() for a, b in zip(expected, settled(*values, x, sweeps=0), strict=True)]
    np.testing.assert_allclose(posterior.change, max(change), atol=1e-5)
    if depth == 2:
        layer = dbm.discriminative_layers(params)[0]
        np.testing.assert_allclose(layer(jnp.asarray(x))[:, sizes[0] :], expected[1], atol=1e-5)


def test_one_hidden_layer_is_a_restricted_machine() -> None:
    """The same free energy, statistics and hidden means, after one sweep."""
    (w,), (b, c) = arrays(SIZES[1])
    params, machine = as_params([w], [b, c]), RBMParams(*(jnp.asarray(a, jnp.float32) for a in (w, b, c)))
    dbm, rbm = DBM((3,), n_chains=6, k=2), BernoulliRBM(3)
    batch = Batch(jnp.asarray(binary(4)[::2], jnp.float32))
    posterior = dbm.mean_field(params, batch.x)
    assert int(posterior.steps) == 1
    np.testing.assert_allclose(posterior.means[0], rbm.layer(machine)(batch.x), rtol=1e-5)
    np.testing.assert_allclose(dbm.layer(params)(batch.x), rbm.layer(machine)(batch.x), rtol=1e-6)
    measures = dbm.evaluate(params, batch, jax.random.key(0))
    assert_close(list(measures.values()), list(rbm.evaluate(machine, batch, jax.random.key(0)).values()), rtol=1e-5)
    assert list(measures) == ["reconstruction_error", "variational_free_energy"]


# ---------------------------------------------------------------- the gradient


def chain_statistics(weights: Any, biases: Any, chains: Any) -> DBMParams:
    """Those of samples of the even layers and of the odd ones' means given them, float64."""
    states: list[Any] = [
        np.asarray(chains[layer // 2], np.float64) if layer % 2 == 0 else None for layer in range(len(biases))
    ]
    for layer in range(1, len(biases), 2):
        total = states[layer - 1] @ weights[layer - 1] + biases[layer]
        states[layer] = expit(total + (states[layer + 1] @ weights[layer].T if layer < len(weights) else 0.0))
    products = [below.T @ above / len(below) for below, above in itertools.pairwise(states)]
    return DBMParams(tuple(products), tuple(state.mean(axis=0) for state in states))


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_is_that_of_the_bound(depth: int) -> None:
    """Central differences of the enumerated bound, the mean field brought to rest anew at each of its points.

    The chains' part of the gradient is replaced by the model's exact means: what is left is the data's.
    """
    sizes = SIZES[depth]
    weights, biases = arrays(sizes, seed=3)
    x = binary(sizes[0])[[0, 1, 3, 3, 6]]
    dbm = DBM(sizes[1:], n_chains=7, k=2, tolerance=1e-7, max_steps=300)
    params, batch = as_params(weights, biases), Batch(jnp.asarray(x, jnp.float32))
    state = jax.jit(dbm.init)(jax.random.key(0), batch)[1]
    grads, state, metrics = jax.jit(dbm.gradient)(params, state, batch, jax.random.key(1))
    model = chain_statistics(weights, biases, state.chains)
    found = jax.tree.map(lambda exact, chains, grad: exact - chains + grad, moments(weights, biases), model, grads)

    leaves, structure = jax.tree.flatten(DBMParams(tuple(weights), tuple(biases)))

    def bound(vector: np.ndarray) -> float:
        parts = np.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
        w, b = jax.tree.unflatten(structure, [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)])
        return float((evidence(w, b, x, settled(w, b, x, 100))).mean() - logsumexp(joint(w, b)[1]))

    at = np.concatenate([leaf.ravel() for leaf in leaves])
    steps = 1e-4 * np.eye(len(at))
    slopes = np.array([bound(at + step) - bound(at - step) for step in steps]) / 2e-4
    np.testing.assert_allclose(-np.concatenate([np.ravel(a) for a in jax.tree.leaves(found)]), slopes, atol=2e-5)
    assert np.abs(slopes).max() > 0.1
    reconstruction = expit(settled(weights, biases, x)[0] @ weights[0].T + biases[0])
    np.testing.assert_allclose(metrics["reconstruction_error"], np.square(x - reconstruction).sum(1).mean(), rtol=1e-4)
    gap = np.square(np.asarray(state.chains[0]).mean(axis=0) - x.mean(axis=0)).sum()
    np.testing.assert_allclose(metrics["mean_gap"], gap, rtol=1e-4)


@pytest.mark.parametrize("depth", [2, 3])
def test_persistent_chains_sample_the_model(depth: int) -> None:
    """Parameters held fixed, chains from the biases reach the enumerated distribution; so do the draws of `sample`; and
    the statistics of the negative phase are the exact ones, within their standard errors.
    """
    sizes, n = SIZES[depth], 20_000
    values = arrays(sizes, seed=4)
    dbm, params = DBM(sizes[1:], n_chains=n, k=20, max_steps=1), as_params(*values)
    batch = Batch(jnp.asarray(binary(sizes[0])[:2], jnp.float32))

    @jax.jit
    def run() -> Any:
        state = dbm.init(jax.random.key(0), batch)[1]
        return dbm.gradient(params, state, batch, jax.random.key(1))[:2]

    grads, state = run()
    assert_distribution(state.chains[0], *values)
    exact, data = moments(*values), jax.tree.map(lambda a: a, chain_statistics(*values, state.chains))
    assert_close(data, exact, atol=SIGMAS * 0.5 / np.sqrt(n))
    posterior = dbm.mean_field(params, batch.x)
    rows = [np.asarray(batch.x), *map(np.asarray, posterior.means)]
    positive = [below.T @ above / 2 for below, above in itertools.pairwise(rows)]
    assert_close(jax.tree.map(np.add, grads.weights, tuple(positive)), exact.weights, atol=SIGMAS * 0.5 / np.sqrt(n))
    drawn = dbm.sample(params, jax.random.key(2), n, 20)
    assert_distribution(drawn.x, *values)
    assert drawn.labels is None
    np.testing.assert_allclose(drawn.probabilities.mean(axis=0), exact.biases[0], atol=SIGMAS * 0.5 / np.sqrt(n))
    assert 0.01 < np.abs(drawn.probabilities - drawn.x).mean() < 0.5


def test_sparsity_adds_its_pull_to_each_hidden_layer() -> None:
    """``cost (q - p)`` on biases and, times the mean below, on weights; nothing on the visible bias."""
    plain = DBM((3, 2), n_chains=5)
    sparse = plain.replace(sparsity=(SparsityTarget(0.1, 0.7, 0.8), SparsityTarget(0.3, 0.2, 0.5)))  # type: ignore[attr-defined]
    values = arrays(SIZES[2])
    params, batch = as_params(*values), Batch(jnp.asarray(binary(4)[3:9], jnp.float32))

    @jax.jit
    def updates(params: DBMParams) -> Any:
        state, key = sparse.init(jax.random.key(0), batch)[1], jax.random.key(1)
        without = plain.gradient(params, DBMState(state.chains, ()), batch, key)
        return state, without, sparse.gradient(params, state, batch, key)

    state, (without, bare, _), (grads, after, metrics) = updates(params)
    assert_close(state.activity, (np.full(3, 0.1), np.full(2, 0.3)), rtol=1e-6)
    assert bare.activity == ()
    rows = [batch.x, *plain.mean_field(params, batch.x).means]
    below, *means = (np.asarray(row).mean(axis=0) for row in rows)
    np.testing.assert_allclose(metrics["mean_activation"], np.concatenate(means).mean(), rtol=1e-5)
    np.testing.assert_array_equal(grads.biases[0], without.biases[0])
    for layer, (target, cost, decay) in enumerate([(0.1, 0.7, 0.8), (0.3, 0.2, 0.5)]):
        running = decay * target + (1 - decay) * means[layer]
        np.testing.assert_allclose(after.activity[layer], running, rtol=1e-5)
        pull = cost * (running - target)
        np.testing.assert_allclose(grads.biases[layer + 1] - without.biases[layer + 1], pull, atol=1e-6)
        np.testing.assert_allclose(grads.weights[layer] - without.weights[layer], np.outer(below, pull), atol=1e-6)
        below = means[layer]


def test_members_side_by_side_are_what_each_is_alone() -> None:
    """Though their mean fields come to rest after different numbers of sweeps."""
    dbm = DBM((3, 2), n_chains=5)
    members = [as_params(*arrays(SIZES[2], scale, seed=5)) for scale in (0.2, 3.0)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    batch = Batch(jnp.asarray(binary(4), jnp.float32))
    keys = jax.random.split(jax.random.key(0), 2)
    states = [dbm.init(key, batch)[1] for key in keys]
    together = jax.jit(jax.vmap(dbm.gradient, in_axes=(0, 0, None, 0)))(
        both, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), batch, keys
    )
    alone = [jax.jit(dbm.gradient)(*each, batch, key) for *each, key in zip(members, states, keys, strict=True)]
    for index in (0, 1):
        assert_close(member(together, index), alone[index], atol=1e-5)
    first, second = together[2]["mean_field_steps"]
    assert first < second


# ---------------------------------------------------------------- Gaussian visible units


def test_gaussian_machine_is_bounded_by_and_samples_its_integral() -> None:
    """The integral over v, hidden states enumerated: ``Z = sum_h exp(b.h + h1 W2 h2 + b0.u + |u|^2/2) (2 pi)^(n/2)``,
    ``u = W1 h1``: a mixture of unit Gaussians with the means ``b0 + u``.
    """
    weights, biases = arrays((2, 3, 2), seed=6)
    dbm, params = DBM((3, 2), GaussianUnits(), n_chains=20_000, k=15, tolerance=1e-6), as_params(weights, biases)
    x = 1.5 * np.random.default_rng(0).standard_normal((20, 2))
    minus_energy = joint(weights, biases, x)[1].reshape(20, -1)
    hidden, rest = joint(weights[1:], biases[1:])
    shift = hidden[0] @ weights[0].T
    log_mixture = rest + shift @ biases[0] + 0.5 * np.square(shift).sum(axis=1)
    log_z = logsumexp(log_mixture) + np.log(2 * np.pi)
    exact = logsumexp(minus_energy, axis=1) - log_z
    bound = dbm.log_probability_bound(params, jnp.asarray(x, jnp.float32), log_z)
    assert (bound <= exact + 1e-5).all()
    assert (exact - bound).max() < 1.0
    idle = [weights[0], np.zeros((3, 2))]
    flat = logsumexp(joint(idle, biases, x)[1].reshape(20, -1), axis=1)
    np.testing.assert_allclose(
        dbm.log_probability_bound(as_params(idle, biases), jnp.asarray(x, jnp.float32), 0.0), flat, atol=1e-4
    )
    batch = Batch(jnp.asarray(x, jnp.float32))

    @jax.jit
    def run() -> Any:
        state = dbm.init(jax.random.key(0), batch)[1]
        return dbm.gradient(params, state, batch, jax.random.key(1))

    grads, state, _ = run()
    share = np.exp(log_mixture - logsumexp(log_mixture))
    mean = share @ (biases[0] + shift)
    variance = 1.0 + share @ np.square(shift) - np.square(share @ shift)
    drawn = np.asarray(state.chains[0], np.float64)
    assert (np.abs(drawn.mean(axis=0) - mean) < SIGMAS * np.sqrt(variance / 20_000)).all()
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=SIGMAS * np.sqrt(3.0 / 20_000))
    np.testing.assert_allclose(grads.biases[0], drawn.mean(axis=0) - x.mean(axis=0), atol=1e-4)
    assert dbm.inputs == "standardised"
    with pytest.raises(ValueError, match="GaussianUnits is no Bernoulli RBM"):
        dbm.as_rbm(params)


# ---------------------------------------------------------------- from a stack


def stack(*stages: tuple[RBM, int], members: int = 2) -> Pretrained:
    """As though pretrained: random parameters, every array with a member axis."""
    random, params, n = np.random.default_rng(0), [], 4
    for _, n_hidden in stages:
        shapes = (n, n_hidden), (n,), (n_hidden,)
        params.append(RBMParams(*(jnp.asarray(random.standard_normal((members, *s)), jnp.float32) for s in shapes)))
        n = n_hidden
    return Pretrained((), tuple(params), tuple(Stage(machine) for machine, _ in stages), ())


def test_stack_becomes_the_machine_whose_conditionals_are_its_geometric_means() -> None:
    """Of three layers, each conditional is the normalised square root of the product of the two models'."""
    kinds = [BernoulliRBM(n, doubled=d) for n, d in ((3, "up"), (5, "both"), (2, "down"))]  # type: ignore[arg-type]
    pretrained = stack(*((kind, kind.n_hidden) for kind in kinds))
    params = DBM.from_stack(pretrained)
    assert params.n_hidden == (3, 5, 2)
    one, machines = member(params, 1), [member(p, 1) for p in pretrained.params]
    random = np.random.default_rng(1)
    states = [jnp.asarray(random.integers(2, size=(6, n)), jnp.float32) for n in (4, 3, 5, 2)]
    for layer in (1, 2):
        below = kinds[layer - 1].layer(machines[layer - 1])(states[layer - 1])
        above = kinds[layer].decoder(machines[layer])(states[layer + 1])
        on, off = np.sqrt(below * above), np.sqrt((1.0 - below) * (1.0 - above))
        total = states[layer - 1] @ one.weights[layer - 1] + states[layer + 1] @ one.weights[layer].T
        np.testing.assert_allclose(expit(total + one.biases[layer]), on / (on + off), rtol=1e-4, atol=1e-6)
    bottom = kinds[0].decoder(machines[0])(states[1])
    top = kinds[2].layer(machines[2])(states[2])
    np.testing.assert_allclose(expit(states[1] @ one.weights[0].T + one.biases[0]), bottom, rtol=1e-5)
    np.testing.assert_allclose(expit(states[2] @ one.weights[2] + one.biases[3]), top, rtol=1e-5)
    assert_close(DBM.from_stack(pretrained, 1), one, rtol=0.0)
    single = DBM.from_stack(stack((BernoulliRBM(3), 3)), 0)
    assert (len(single.weights), len(single.biases)) == (1, 2)


def test_stacks_that_are_no_such_machine_are_refused_by_name() -> None:
    up, down = BernoulliRBM(3, doubled="up"), BernoulliRBM(2, doubled="down")
    refused: list[tuple[str, list[Any]]] = [
        (r"stage 1 of 2 must be an RBM with doubled='up'.*got doubled='neither'", [BernoulliRBM(3), down]),
        (r"stage 2 of 3 must be an RBM with doubled='both'.*got doubled='up'", [up, up, down]),
        (r"stage 1 of 1 must be an RBM with doubled='neither'.*got doubled='up'", [up]),
        ("got Classifier as stage 2", [up, Classifier(3)]),
        ("got visible GaussianUnits in stage 2", [up, GaussianRBM(2, doubled="down")]),
        ("got hidden GaussianUnits in stage 1", [RBM(3, hidden=GaussianUnits())]),
        (r"visible units of a deep Boltzmann machine.*got SoftmaxUnits\(n_states=2\)", [RBM(3, SoftmaxUnits(2))]),
        ("no label units; stage 1 has 3", [BernoulliRBM(3, n_classes=3)]),
    ]
    for message, kinds in refused:
        with pytest.raises(ValueError, match=message):
            DBM.from_stack(stack(*((kind, 3) for kind in kinds)))


def test_machines_that_cannot_be_are_refused() -> None:
    two, one = (as_params(*arrays(SIZES[depth])) for depth in (2, 1))
    refused: dict[str, Any] = {
        r"n_hidden must be a tuple.*got 3": lambda: DBM(3),  # type: ignore[arg-type]
        r"n_hidden\[1\] must be a whole number": lambda: DBM((3, 0)),
        "a target for each of the 2 hidden layers; got 1": lambda: DBM((3, 2), sparsity=(SparsityTarget(),)),
        r"got GaussianUnits\(learn_variance=True\)": lambda: DBM((3,), GaussianUnits(True)),
        r"got RectifiedUnits\(\)": lambda: DBM((3,), RectifiedUnits()),
        r"layers of \(3, 2\), but DBM was given n_hidden=\(3,\)": lambda: DBM((3,)).discriminative_layers(two),
        "needs at least two hidden layers; got one": lambda: DBM((3,)).discriminative_layers(one),
    }
    for message, build in refused.items():
        with pytest.raises(ValueError, match=message):
            build()


# ---------------------------------------------------------------- to a classifier


def test_discriminative_layers_compute_the_mean_field() -> None:
    """With two hidden layers, all posteriors: of h2 beside x, of h1, and of h2 again."""
    x = jnp.asarray(binary(4), jnp.float32)
    params = as_params(*arrays(SIZES[2], 1.5, seed=7))
    dbm = DBM((3, 2), tolerance=1e-6, max_steps=100)
    first, second = dbm.mean_field(params, x).means

    @jax.jit
    def outputs(params: DBMParams, x: Any) -> Any:
        layers = dbm.discriminative_layers(params)
        many = layers[0](jnp.tile(x, (70, 1)))  # in blocks
        short = dbm.discriminative_layers(params, steps=1)[0](x)
        return [compose(layers[:depth], x) for depth in (1, 2, 3)], many, short, layers[0](x[3]), dbm.layer(params)(x)

    (beside, lower, upper), many, short, one, up = outputs(params, x)
    np.testing.assert_allclose(beside, np.concatenate([x, second], axis=1), atol=1e-5)
    np.testing.assert_allclose(lower, first, atol=1e-5)
    np.testing.assert_allclose(upper, second, atol=1e-5)
    np.testing.assert_allclose(many, np.tile(beside, (70, 1)), atol=1e-6)
    np.testing.assert_allclose(one, beside[3], atol=1e-6)
    assert np.abs(short - beside).max() > 1e-3
    assert np.abs(up - second).max() > 0.05  # the pass up alone is not it


def test_discriminative_layers_of_a_deeper_machine_go_on_with_the_doubled_pass_up() -> None:
    values = arrays(SIZES[3], seed=7)
    both = jax.tree.map(lambda a: jnp.stack([0.5 * a, a]), as_params(*values))
    x = jnp.asarray(binary(3), jnp.float32)

    @jax.jit
    def outputs(both: DBMParams, x: Any) -> Any:
        layers = member(DBM((3, 2, 2), max_steps=60).discriminative_layers(both), 1)
        return [compose(layers[:depth], x) for depth in (1, 2, 3, 4)]

    beside, lower, middle, upper = outputs(both, x)
    means = settled(*values, np.asarray(x))
    np.testing.assert_allclose(beside, np.concatenate([x, means[1]], axis=1), atol=1e-5)
    np.testing.assert_allclose(lower, means[0], atol=1e-5)
    up = expit(2.0 * means[0] @ values[0][1] + values[1][2])
    np.testing.assert_allclose(middle, up, atol=1e-5)
    np.testing.assert_allclose(upper, expit(up @ values[0][2] + values[1][3]), atol=1e-5)


def test_mean_field_layer_stays_fixed_but_passes_gradients_to_its_input() -> None:
    layer = DBM((3, 2)).discriminative_layers(as_params(*arrays(SIZES[2])), steps=5)[0]
    assert isinstance(layer, MeanField)
    x = jnp.asarray(binary(4)[5:8], jnp.float32)

    @jax.jit
    def slopes(layer: MeanField, x: Any) -> Any:
        squares = lambda layer, x: jnp.square(layer(x)).sum()  # noqa: E731
        steps = 1e-2 * jnp.eye(4)
        differences = [(jnp.square(layer(x + s)) - jnp.square(layer(x - s))).sum(axis=1) / 2e-2 for s in steps]
        return *jax.grad(squares, argnums=(0, 1))(layer, x), jnp.stack(differences, axis=1)

    own, slope, differences = slopes(layer, x)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(own))
    np.testing.assert_allclose(slope, differences, atol=2e-3)
    assert np.abs(slope - 2.0 * x).max() > 0.01  # not of x alone


def test_stack_is_trained_together_and_fine_tuned_saved_and_loaded(tmp_path: Path) -> None:
    """Rows of two kinds: greedily, then as one machine, then as a classifier on its mean field."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (random.random((60, 4)) < np.where(y[:, None] == 1, [0.9, 0.8, 0.2, 0.1], [0.1, 0.3, 0.8, 0.9])).astype("f4")
    rows, seeds = Batch(jnp.asarray(x), jnp.asarray(y)), (0, 1)
    machines = BernoulliRBM(3, doubled="up", initial_scale=0.3), BernoulliRBM(2, doubled="down")
    pretrained = pretrain([Stage(m, Momentum(0.2), 8, 20) for m in machines], rows, seeds=seeds)
    dbm = DBM((3, 2), n_chains=20)
    start = DBM.from_stack(pretrained)
    before = [member(start, index) for index in (0, 1)]
    together = fine_tune((), Stage(dbm, Sgd(0.3), 40, 20), rows, valid=rows, seeds=seeds, params=start)
    for old, new in zip(before, (member(together.params, index) for index in (0, 1)), strict=True):
        bounds = [dbm.log_probability_bound(p, rows.x, log_partition(dbm.as_rbm(p))).mean() for p in (old, new)]
        assert bounds[1] > bounds[0] + 0.1
    layers = dbm.discriminative_layers(together.params, steps=4)
    tuned = fine_tune(layers, Stage(Classifier(2), Sgd(1.0), 20, 20), rows, valid=rows, seeds=seeds)
    assert (tuned.history["valid/error"][-1] < 20.0).all()
    network = member(tuned.params, 1)
    assert [type(layer) for layer in network.layers] == [MeanField, Dense, Dense, Dense]
    assert_close(network.layers[0], member(layers[0], 1), rtol=0.0)
    save(network, tmp_path / "network.npz")
    loaded = load(tmp_path / "network.npz")
    assert isinstance(loaded, Network)
    assert loaded.layers[0].steps == 4
    np.testing.assert_array_equal(predict(loaded, rows.x), predict(network, rows.x))
    np.testing.assert_allclose(to_nnx(loaded)(rows.x), network(rows.x), atol=1e-5)
    assert encode(loaded, rows.x, depth=1).shape == (60, 6)
    damaged = Network((loaded.layers[0].replace(n_second=5), *loaded.layers[1:]), head=True)
    assert damaged.layers[0].n_out == 6  # h2 has two units, whatever the file says


# ---------------------------------------------------------------- doubled RBMs


def copies_table(doubled: str, values: tuple[np.ndarray, ...], gaussian: bool = False) -> tuple[np.ndarray, ...]:
    """Minus the energy of every state of the machine with its copies, by the module's equations, one copy at a time:
    ``[visible states.., hidden states..]``; Gaussian visible copies at a few points.
    """
    weights, b, c = values
    v = np.random.default_rng(1).standard_normal((5, len(b))) if gaussian else binary(len(b))
    h = binary(len(c))
    own = -0.5 * np.square(v - b).sum(axis=1) if gaussian else v @ b
    pull = v @ weights @ h.T
    if doubled == "up":
        pairs = own[:, None, None] + own[None, :, None] + pull[:, None] + pull[None] + h @ c
    elif doubled == "down":
        pairs = own[:, None, None] + pull[:, :, None] + pull[:, None] + (h @ c)[:, None] + h @ c
    else:
        pairs = own[:, None] + 2.0 * pull + h @ c
    return v, h, pairs


@pytest.mark.parametrize("doubled", ["up", "down", "both"])
@pytest.mark.parametrize("gaussian", [False, True])
def test_doubled_machine_has_the_conditionals_and_the_free_energy_of_its_copies(doubled: Any, gaussian: bool) -> None:
    (w,), (b, c) = arrays(SIZES[1], seed=8)
    machine = (GaussianRBM if gaussian else BernoulliRBM)(3, doubled=doubled)
    params = RBMParams(*(jnp.asarray(a, jnp.float32) for a in (w, b, c)))
    v, h, table = copies_table(doubled, (w, b, c), gaussian)
    if doubled == "up":
        table = np.einsum("vvh->vh", table)
    elif doubled == "down":
        table = table.reshape(len(v), -1)
    np.testing.assert_allclose(
        machine.free_energy(params, jnp.asarray(v)), -logsumexp(table, axis=1), rtol=1e-4, atol=1e-5
    )
    states = np.array([one for one, _ in itertools.product(h, h)]) if doubled == "down" else h
    p = np.exp(table - logsumexp(table, axis=1, keepdims=True))
    np.testing.assert_allclose(machine.layer(params)(jnp.asarray(v)), p @ states, rtol=1e-4)
    heard = (2.0 if doubled != "up" else 1.0) * h @ w.T + b
    np.testing.assert_allclose(
        machine.decoder(params)(jnp.asarray(h)), heard if gaussian else expit(heard), rtol=1e-4, atol=1e-5
    )
    if not gaussian:  # of one visible copy, beside another, given equal hidden copies
        alone = copies_table(doubled, (w, b, c))[2]
        alone = alone[:, 5] if doubled == "up" else np.einsum("vhh->vh", alone) if doubled == "down" else alone
        given = np.exp(alone - logsumexp(alone, axis=0))
        np.testing.assert_allclose(machine.decoder(params)(jnp.asarray(h)), given.T @ v, rtol=1e-4)


@pytest.mark.parametrize("doubled", ["up", "down", "both"])
def test_doubled_gradient_is_that_of_its_free_energy_a_copy(doubled: Any) -> None:
    """Weights: half; the bias of the layer with copies: half; the other bias: all of it. By CD and by PCD."""
    (w,), (b, c) = arrays(SIZES[1], seed=9)
    params = RBMParams(*(jnp.asarray(a, jnp.float32) for a in (w, b, c)))
    batch = Batch(jnp.asarray(binary(4)[::3], jnp.float32))
    share = RBMParams(0.5, 0.5 if doubled == "up" else 1.0, 0.5 if doubled == "down" else 1.0)  # type: ignore[arg-type]
    machine = BernoulliRBM(3, sampler=PCD(k=2, n_chains=9), doubled=doubled)

    @jax.jit
    def both(params: RBMParams) -> Any:
        start = machine.init(jax.random.key(0), batch)[1]
        grads, chains, _ = machine.gradient(params, start, batch, jax.random.key(1))
        by_cd = machine.replace(sampler=CD(1)).gradient(params, (), batch, jax.random.key(1))  # type: ignore[attr-defined]

        def surrogate(params: RBMParams) -> Any:
            return machine.free_energy(params, batch.x).mean() - machine.free_energy(params, chains).mean()

        return grads, chains, jax.grad(surrogate)(params), by_cd

    grads, chains, slopes, by_cd = both(params)
    assert_close(grads[:3], [s * a for s, a in zip(share[:3], slopes[:3], strict=True)], rtol=1e-4, atol=1e-6)
    averaged = set(np.unique(chains))
    assert averaged == ({0.0, 0.5, 1.0} if doubled == "up" else {0.0, 1.0})
    assert by_cd[2]["reconstruction_error"] > 0.1
    assert all(np.isfinite(a).all() and np.any(a != 0) for a in by_cd[0][:3])


@pytest.mark.parametrize("doubled", ["up", "down", "both"])
def test_chains_of_a_doubled_machine_sample_it_with_its_copies(doubled: Any) -> None:
    """The mean over chains of the visible layer and of its products with the hidden one: the enumerated machine's."""
    (w,), (b, c) = arrays(SIZES[1], 1.2, seed=10)
    n = 20_000
    machine = BernoulliRBM(3, sampler=PCD(k=25, n_chains=n), doubled=doubled)
    params = RBMParams(*(jnp.asarray(a, jnp.float32) for a in (w, b, c)))
    batch = Batch(jnp.asarray(binary(4)[:2], jnp.float32))

    @jax.jit
    def run() -> Any:
        return machine.gradient(params, machine.init(jax.random.key(0), batch)[1], batch, jax.random.key(1))

    grads, chains, _ = run()
    v, h, table = copies_table(doubled, (w, b, c))
    p = np.exp(table - logsumexp(table))
    p = p.sum(axis={"up": 0, "down": 2, "both": ()}[doubled])
    hidden = expit(np.asarray(batch.x) @ w * (1.0 if doubled == "down" else 2.0) + c)
    atol = SIGMAS * 0.5 / np.sqrt(n)
    np.testing.assert_allclose(chains.mean(axis=0), p.sum(axis=1) @ v, atol=atol)
    np.testing.assert_allclose(grads.weights + np.asarray(batch.x).T @ hidden / 2, v.T @ p @ h, atol=atol)
    np.testing.assert_allclose(grads.hidden_bias + hidden.mean(axis=0), p.sum(axis=0) @ h, atol=atol)
    plain = np.exp((v @ b)[:, None] + h @ c + v @ w @ h.T)
    assert np.abs(v.T @ (plain / plain.sum() - p) @ h).max() > 2 * atol


def test_what_cannot_be_doubled_is_refused_in_one_message() -> None:
    refused: dict[str, dict[str, Any]] = {
        "ParallelTempering": {"sampler": ParallelTempering()},
        "n_classes=3": {"n_classes": 3},
        "learn_variance=True": {"visible": GaussianUnits(True)},
        "visible SoftmaxUnits": {"visible": SoftmaxUnits(2)},
        "hidden GaussianUnits": {"hidden": GaussianUnits()},
        "hidden RectifiedUnits": {"hidden": RectifiedUnits()},
    }
    for name, options in refused.items():
        RBM(3, **options)
        with pytest.raises(ValueError, match=f"doubled='up' is for Bernoulli hidden units.*got {name}"):
            RBM(3, doubled="up", **options)
    with pytest.raises(ValueError, match="doubled must be one of neither, up, down, both; got 'twice'"):
        RBM(3, doubled="twice")  # type: ignore[arg-type]


# ---------------------------------------------------------------- bounded norms


@pytest.mark.parametrize("recipe", [Sgd(1.0), Momentum(1.0, initial_momentum=0.5, weight_decay=0.1)])
def test_no_column_is_longer_than_max_norm_after_an_update(recipe: Any) -> None:
    """A column that would be is shortened, not turned; the others, vectors and fixed layers are where they would be."""
    random = np.random.default_rng(0)
    fixed = DBM((3, 2)).discriminative_layers(as_params(*arrays(SIZES[2], 3.0)), steps=2)[0]
    weights = jnp.asarray(random.standard_normal((5, 4)) * [0.1, 0.3, 1.0, 2.0], jnp.float32)
    params = {"weights": weights, "bias": 10.0 * jnp.ones(6), "fixed": fixed}
    grads = jax.tree.map(lambda a: jnp.asarray(0.1 * random.standard_normal(a.shape), jnp.float32), params)

    @jax.jit
    def after(recipe: Recipe) -> Any:
        transform, moved = recipe.build(10), params
        state = transform.init(moved)
        for _ in range(2):
            updates, state = transform.update(grads, state, moved)
            moved = jax.tree.map(jnp.add, moved, updates)
        return moved

    once = jax.jit(lambda recipe: recipe.build(10).update(grads, recipe.build(10).init(params), params)[0])
    free = jax.tree.map(jnp.add, params, once(recipe))
    bounded = jax.tree.map(jnp.add, params, once(recipe.replace(max_norm=1.0)))
    norms = np.linalg.norm(free["weights"], axis=0)
    assert norms.min() < 1.0 < norms.max()
    np.testing.assert_allclose(bounded["weights"], free["weights"] * np.minimum(1.0, 1.0 / norms), rtol=1e-5, atol=1e-6)
    assert_close((bounded["bias"], bounded["fixed"]), (free["bias"], free["fixed"]), rtol=0.0)
    assert np.linalg.norm(after(recipe.replace(max_norm=1.0))["weights"], axis=0).max() < 1.0 + 1e-5
    plain, limited = (jax.tree.structure(r.build(10).init(params)) for r in (recipe, recipe.replace(max_norm=1.0)))
    assert plain != limited  # without a bound there is nothing to carry
