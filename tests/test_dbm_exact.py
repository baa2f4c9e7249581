"""The deep Boltzmann machine's log Z, mean field and bound, against enumeration and float64 sweeps to rest."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbm import SIZES, arrays, as_params, assert_close, evidence, joint, settled
from enumeration import binary
from scipy.special import expit, logsumexp

from pretrain import (
    DBM,
    Batch,
    BernoulliRBM,
    BernoulliUnits,
    GaussianUnits,
    annealed_importance_sampling,
    log_partition,
)
from pretrain.generative import temperatures
from pretrain.generative.dbm_params import sweep
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


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


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gaussian_machine_has_the_partition_function_of_the_integrals_over_v(depth: int) -> None:
    """Given the hidden layers, v is normal: each of their states has ``exp(sum_i ((b + W h1)_i^2 - b_i^2) / 2)`` times
    the normal's ``(2 pi)^(n/2)``. Exactly, and by importance sampling from the mean-field base; the bound is below.
    """
    sizes = SIZES[depth]
    weights, biases = arrays(sizes, 0.7, seed=5)
    params, dbm = as_params(weights, biases), DBM(sizes[1:], GaussianUnits(), tolerance=1e-6)
    states, minus_energy = joint(weights, biases, np.zeros((1, sizes[0])))  # at v = 0: - b^2/2 and the hidden layers
    center = biases[0] + states[1] @ weights[0].T
    log_terms = minus_energy + 0.5 * np.square(center).sum(axis=1) + 0.5 * sizes[0] * np.log(2.0 * np.pi)
    exact, rbm = logsumexp(log_terms), dbm.as_rbm(params)
    np.testing.assert_allclose(log_partition(rbm, visible=dbm.even_units), exact, rtol=1e-5)
    for units in (BernoulliUnits(), GaussianUnits())[: 2 if depth > 1 else 1]:
        with pytest.raises(ValueError, match="even_units"):
            log_partition(rbm, visible=units)
    with pytest.raises(ValueError, match="parameters of 2 machines: take one with"):
        dbm.as_rbm(jax.tree.map(lambda a: jnp.stack([a, a]), params))

    x = np.random.default_rng(6).standard_normal((7, sizes[0]))
    base = dbm.base_bias(params, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(base[: sizes[0]], x.mean(axis=0), atol=1e-6)
    options = {"n_chains": 300, "visible": dbm.even_units}
    estimate = annealed_importance_sampling(rbm, jax.random.key(1), temperatures(400), base, **options)
    assert estimate.interval[0] < exact < estimate.interval[1]
    assert estimate.standard_error < 0.1

    log_p = [logsumexp(joint(weights, biases, row[None])[1]) - exact for row in x]
    bound = dbm.log_probability_bound(params, jnp.asarray(x, jnp.float32), exact)
    assert (bound <= np.array(log_p) + 1e-4).all()
    if depth == 1:
        np.testing.assert_allclose(bound, log_p, atol=1e-4)


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
