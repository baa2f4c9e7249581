"""The general RBM's gradient against its surrogate's; sparsity, rows of probabilities, and what does not go."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_rbm import arrays, as_params
from enumeration import SIGMAS, binary
from scipy.special import expit

from pretrain import (
    CD,
    PCD,
    RBM,
    Batch,
    BernoulliRBM,
    FastPCD,
    GaussianRBM,
    GaussianUnits,
    Momentum,
    ParallelTempering,
    RectifiedUnits,
    SoftmaxUnits,
    SparsityTarget,
    fit,
)
from pretrain.learners.rbm import FEW_ROWS, LOWEST_LOG_VARIANCE, RBMParams
from pretrain.samplers import FastChains, Phase, gibbs_chain

pytestmark = pytest.mark.usefixtures("quick_compilation")


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


def test_statistics_of_few_rows_are_those_of_many() -> None:
    """Rows that come up many times change no mean, but are no longer few."""
    machine, random = BernoulliRBM(4), np.random.default_rng(0)
    values = [random.normal(size=(7, n)).astype(np.float32) for n in (6, 4, 6, 4)]
    params = machine.init(jax.random.key(0), Batch(jnp.ones((7, 6))))[0]
    few, many = (
        machine.contrast(params, *(Phase(*(np.tile(v, (times, 1)) for v in pair)) for pair in (values[:2], values[2:])))
        for times in (1, FEW_ROWS)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), few, many)
    assert np.abs(few.weights).min() > 1e-4


def test_a_learned_variance_sinks_no_further_than_its_bound() -> None:
    """A constant feature pulls its variance down for ever; below the bound it is drawn back, in proportion."""
    machine = GaussianRBM(2, GaussianUnits(True))
    batch = Batch(jnp.asarray(np.random.default_rng(0).standard_normal((200, 2)) * [0.0, 1.0], jnp.float32))

    @jax.jit
    def slope(log_variance: Any) -> Any:
        params, state = machine.init(jax.random.key(0), batch)
        at = params._replace(log_variance=jnp.full((2,), log_variance))
        return machine.gradient(at, state, batch, jax.random.key(1))[0].log_variance

    slopes = [slope(LOWEST_LOG_VARIANCE + offset) for offset in (0.1, -0.1)]
    assert slopes[0][0] > 0.1
    np.testing.assert_allclose(slopes[1][0], -0.1, rtol=1e-4)
    assert slopes[1][1] < -1.0


@pytest.mark.slow
def test_a_learned_variance_settles_at_its_bound_under_momentum() -> None:
    """Its velocity, which goes on where the slope has ended, is used up and the variance comes back."""
    x = np.random.default_rng(0).standard_normal((200, 2))
    x = np.sqrt([0.0, 2.0]) * (x - x.mean(axis=0)) / x.std(axis=0)
    variances: list[float] = []
    fit.run(
        GaussianRBM(2, GaussianUnits(True)),
        Momentum(0.01),
        Batch(jnp.asarray(x, jnp.float32)),
        epochs=30,
        batch_size=20,
        on_chunk=lambda progress: variances.append(float(np.exp(progress.params.log_variance[0, 0]))),
    )
    assert variances[0] > 0.5
    np.testing.assert_allclose(variances[-10:], np.exp(LOWEST_LOG_VARIANCE), rtol=0.1)


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


@pytest.mark.slow
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
