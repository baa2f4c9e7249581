"""The deep Boltzmann machine's gradient and chains, against differences of the enumerated bound and exact moments."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbm import (
    SIZES,
    arrays,
    as_params,
    assert_close,
    assert_distribution,
    evidence,
    joint,
    moments,
    settled,
)
from enumeration import SIGMAS, binary
from scipy.special import expit, logsumexp

from pretrain import DBM, Batch, GaussianUnits, Sgd, SparsityTarget, member, run
from pretrain.generative import DBMParams, DBMState

pytestmark = pytest.mark.usefixtures("quick_compilation")


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_columns_of_its_matrices_are_bounded() -> None:
    rows = Batch(jnp.asarray(np.random.default_rng(0).random((40, 6)) < 0.3, jnp.float32))
    done = run(DBM((4, 3), n_chains=10), Sgd(0.5, max_norm=0.05), rows, epochs=3, batch_size=10)
    norms = [np.linalg.norm(weights[0], axis=0) for weights in done.params.weights]
    assert max(map(np.max, norms)) == pytest.approx(0.05, abs=1e-6)
