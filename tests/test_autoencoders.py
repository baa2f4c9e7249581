"""Penalised autoencoders and the SESM, against Jacobians, finite differences and sums written by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import assert_agree, automatic_and_numeric
from scipy.special import expit

from pretrain import L1, SESM, Autoencoder, Batch, Contractive, Dense, KLSparsity, Masking, NoPenalty
from pretrain.layers import ACTIVATIONS
from pretrain.learners.sesm import SESMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, VISIBLE, HIDDEN = 7, 4, 3


def rows() -> np.ndarray:
    return np.random.default_rng(1).random((ROWS, VISIBLE))


def encoder(activation: str) -> tuple[np.ndarray, np.ndarray, Dense]:
    random = np.random.default_rng(2)
    weights, bias = random.standard_normal((VISIBLE, HIDDEN)), random.standard_normal(HIDDEN)
    return weights, bias, Dense(jnp.asarray(weights), jnp.asarray(bias), activation)


# ---------------------------------------------------------------- penalties


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.usefixtures("x64")
def test_contractive_penalty_is_the_norm_of_the_jacobian(activation: str) -> None:
    """The closed form against forward-mode differentiation, a row at a time."""
    *_, layer = encoder(activation)
    x = jnp.asarray(4.0 * rows() - 2.0)
    code = layer(x)
    if activation == "relu":  # some units on, some off
        assert 0 < np.count_nonzero(code) < code.size
    jacobians = jax.vmap(jax.jacfwd(layer))(x)
    assert jacobians.shape == (ROWS, HIDDEN, VISIBLE)
    expected = 0.3 * np.square(jacobians).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(Contractive(0.3)(layer, x, code), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_kl_sparsity_and_l1_are_the_sums_written_by_hand() -> None:
    weights, bias, layer = encoder("sigmoid")
    x = rows()
    code = expit(x @ weights + bias)
    divergence = 0.0
    for mean in code.mean(axis=0):
        divergence += 0.2 * np.log(0.2 / mean) + 0.8 * np.log(0.8 / (1.0 - mean))
    arguments = layer, jnp.asarray(x), layer(jnp.asarray(x))
    np.testing.assert_allclose(KLSparsity(0.2, 0.7)(*arguments), 0.7 * divergence, rtol=1e-12)
    np.testing.assert_allclose(L1(0.7)(*arguments), 0.7 * code.sum() / ROWS, rtol=1e-12)
    signed = Dense(layer.weights, layer.bias, "linear")
    code = x @ weights + bias
    assert code.min() < 0.0
    arguments = signed, jnp.asarray(x), signed(jnp.asarray(x))
    np.testing.assert_allclose(L1(0.7)(*arguments), 0.7 * np.abs(code).sum() / ROWS, rtol=1e-12)
    assert float(NoPenalty()(*arguments)) == 0.0


def test_kl_sparsity_is_zero_at_its_target_and_finite_at_saturation() -> None:
    layer, x = Dense(jnp.zeros((VISIBLE, HIDDEN)), jnp.zeros(HIDDEN)), jnp.asarray(rows(), jnp.float32)
    penalty = KLSparsity(0.25, 1.0)
    np.testing.assert_allclose(penalty(layer, x, jnp.full((ROWS, HIDDEN), 0.25)), 0.0, atol=1e-6)
    saturated = jax.jit(jax.value_and_grad(lambda bias: penalty(layer, x, jax.nn.sigmoid(bias))))
    for bias in (-200.0, 200.0):
        value, slopes = saturated(jnp.full((ROWS, HIDDEN), bias))
        assert 1.0 < value < np.inf
        assert np.isfinite(slopes).all()


PENALISED = {
    "kl-tied": Autoencoder(HIDDEN, penalty=KLSparsity(0.1, 0.5)),
    "l1-untied-tanh": Autoencoder(HIDDEN, tied=False, activation="tanh", penalty=L1(0.5)),
    "contractive-masking": Autoencoder(HIDDEN, corruption=Masking(0.3), penalty=Contractive(0.5)),
    "contractive-tanh-squared": Autoencoder(
        HIDDEN, tied=False, loss="squared_error", activation="tanh", penalty=Contractive(0.5)
    ),
}


@pytest.mark.parametrize("learner", PENALISED.values(), ids=PENALISED.keys())
@pytest.mark.usefixtures("x64")
def test_gradient_is_that_of_reconstruction_plus_penalty(learner: Any) -> None:
    """Central differences of the sum of the two it reports, one parameter at a time."""
    batch, measures = Batch(jnp.asarray(rows())), ("loss", "penalty")
    assert_agree(*automatic_and_numeric(learner, batch, np.random.default_rng(1), measures))


@pytest.mark.usefixtures("x64")
def test_loss_stays_the_reconstruction_and_the_penalty_is_of_what_the_encoder_saw() -> None:
    """Training: the corrupted rows' code; evaluation: the clean rows'. Without a penalty none is reported. In float64:
    in float32 two programs' sums may differ by more than the bound, by how threads divide them.
    """
    key, batch = jax.random.key(3), Batch(jnp.asarray(rows()))
    plain = Autoencoder(HIDDEN, corruption=Masking(0.4))
    params, _ = plain.init(key, batch)
    seen = plain.corruption(batch.x, key)
    assert np.any(np.asarray(seen) != np.asarray(batch.x))
    layer = plain.layer(params)

    @jax.jit
    def metrics(learner: Autoencoder) -> Any:
        return learner.gradient(params, (), batch, key)[2], learner.evaluate(params, batch, key)

    of_plain = metrics(plain)
    assert all(list(measures) == ["loss"] for measures in of_plain)
    for penalty in (KLSparsity(0.1, 0.5), L1(0.5), Contractive(0.5)):
        trained, measured = metrics(plain.replace(penalty=penalty))
        assert trained.keys() == measured.keys() == {"loss", "penalty"}
        for own, other in zip((trained, measured), of_plain, strict=True):
            np.testing.assert_allclose(own["loss"], other["loss"], rtol=1e-6)
        np.testing.assert_allclose(trained["penalty"], penalty(layer, seen, layer(seen)), rtol=1e-6)
        np.testing.assert_allclose(measured["penalty"], penalty(layer, batch.x, layer(batch.x)), rtol=1e-6)
        assert abs(float(trained["penalty"] - measured["penalty"])) > 1e-4


def test_weights_of_a_penalty_are_a_population() -> None:
    """A vmapped population of weights is each alone; weight 0 is the plain autoencoder."""
    key, batch = jax.random.key(0), Batch(jnp.asarray(rows(), jnp.float32))
    plain = Autoencoder(HIDDEN)
    params, _ = plain.init(key, batch)
    weights = jnp.asarray([0.0, 0.5])
    gradient = jax.jit(lambda learner: learner.gradient(params, (), batch, key)[0])
    grads = jax.vmap(lambda w: gradient(plain.replace(penalty=Contractive(w))))(weights)
    for index, learner in enumerate((plain, plain.replace(penalty=Contractive(0.5)))):
        alone = gradient(learner)
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- the sparse encoding symmetric machine

MACHINE = SESM(5, code=0.7, sparsity=0.4, weight_l1=0.01, gain=2.0, relaxation_rate=0.02, n_relaxations=6)


def machine_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    return tuple(0.7 * random.standard_normal(shape) for shape in ((VISIBLE, 5), 5, VISIBLE))


def energy_by_hand(arrays: tuple[np.ndarray, ...], x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """E(x, z) of each row of the docstring, in numpy."""
    weights, bias, decoder_bias = arrays
    active = expit(2.0 * z)
    energy = np.square(x - active @ weights.T - decoder_bias).sum(axis=1)
    energy = energy + 0.7 * np.square(z - x @ weights - bias).sum(axis=1)
    return energy + 0.4 * np.log(1.0 + active**2).sum(axis=1) + 0.01 * np.abs(weights).sum()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_relaxation_descends_the_energy_of_every_row() -> None:
    """Each step is one of gradient descent, by differences of the energy written by hand; after each, every row's
    energy is lower, and after many the slope has vanished.
    """
    arrays, x = machine_arrays(), rows()
    params = SESMParams(*map(jnp.asarray, arrays))
    code = np.asarray(MACHINE.encode(params, x))
    np.testing.assert_allclose(code, x @ arrays[0] + arrays[1])
    energies = [energy_by_hand(arrays, x, code)]
    for steps in range(1, 7):
        slope = np.empty_like(code)
        for unit in range(5):
            move = 1e-6 * np.eye(5)[unit]
            slope[:, unit] = energy_by_hand(arrays, x, code + move) - energy_by_hand(arrays, x, code - move)
        code = code - 0.02 * slope / 2e-6
        relaxed = MACHINE.replace(n_relaxations=steps).relax(params, jnp.asarray(x))
        np.testing.assert_allclose(relaxed, code, atol=1e-8)
        np.testing.assert_allclose(MACHINE.energy(params, x, relaxed), energy_by_hand(arrays, x, code), rtol=1e-7)
        energies.append(energy_by_hand(arrays, x, np.asarray(relaxed)))
    assert (np.diff(energies, axis=0) < 0.0).all()
    settled = MACHINE.replace(n_relaxations=3000).relax(params, jnp.asarray(x))
    slope = jax.grad(lambda z: MACHINE.energy(params, x, z).sum())(settled)
    assert np.abs(slope).max() < 1e-6


@pytest.mark.usefixtures("x64")
def test_gradient_is_that_of_the_energy_at_held_codes() -> None:
    """Central differences of the mean energy, the codes as they were; they would follow the parameters otherwise."""
    arrays, x, step = machine_arrays(), rows(), 1e-6
    params = SESMParams(*map(jnp.asarray, arrays))
    grads, state, metrics = MACHINE.gradient(params, (), Batch(jnp.asarray(x)), jax.random.key(0))
    held = np.asarray(MACHINE.relax(params, jnp.asarray(x)))
    assert state == ()
    np.testing.assert_allclose(metrics["energy"], energy_by_hand(arrays, x, held).mean(), rtol=1e-10)
    for index, grad in enumerate(grads):
        numeric = np.empty(grad.shape)
        for place in np.ndindex(grad.shape):
            up, down = ([a.copy() for a in arrays] for _ in range(2))
            up[index][place] += step
            down[index][place] -= step
            up, down = energy_by_hand(tuple(up), x, held).mean(), energy_by_hand(tuple(down), x, held).mean()
            numeric[place] = (up - down) / (2 * step)
        np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


def test_layer_is_the_encoder_under_the_logistic_and_reconstruction_starts_from_it() -> None:
    arrays, x = machine_arrays(), rows()
    params = SESMParams(*(jnp.asarray(a, jnp.float32) for a in arrays))
    direct = x @ arrays[0] + arrays[1]
    layer, decoder = MACHINE.layer(params), MACHINE.decoder(params)
    np.testing.assert_allclose(layer(x), expit(2.0 * direct), rtol=1e-5)
    reconstruction = expit(2.0 * direct) @ arrays[0].T + arrays[2]
    np.testing.assert_allclose(decoder(layer(x)), reconstruction, rtol=1e-4, atol=1e-5)
    measures = MACHINE.evaluate(params, Batch(jnp.asarray(x, jnp.float32)), jax.random.key(0))
    assert next(iter(measures)) == "reconstruction_error"
    expected = np.square(x - reconstruction).sum(axis=1).mean()
    np.testing.assert_allclose(measures["reconstruction_error"], expected, rtol=1e-5)
    np.testing.assert_allclose(measures["energy"], energy_by_hand(arrays, x, direct).mean(), rtol=1e-5)
