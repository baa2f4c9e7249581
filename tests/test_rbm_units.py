"""The units of the general RBM, and machines of them, against enumeration, integration and sampled copies."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_rbm import arrays, as_params
from enumeration import SIGMAS, binary
from scipy.special import expit, logsumexp, ndtr, softmax
from scipy.stats import chi2

from pretrain import RBM, Batch, BernoulliUnits, GaussianRBM, GaussianUnits, RectifiedUnits, SoftmaxUnits
from pretrain.learners.rbm import RBMParams
from pretrain.units import standard_normal

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = np.linspace(-14.0, 14.0, 1401)
"""Where real-valued units are integrated: the trapezoidal rule on a smooth density is exact to rounding."""
STEP = GRID[1] - GRID[0]


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
