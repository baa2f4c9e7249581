"""Doubled RBMs against the enumerated machine with its copies: conditionals, gradients and chains."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbm import SIZES, arrays, assert_close
from enumeration import SIGMAS, binary
from scipy.special import expit, logsumexp

from pretrain import (
    CD,
    PCD,
    RBM,
    Batch,
    BernoulliRBM,
    GaussianRBM,
    GaussianUnits,
    ParallelTempering,
    RectifiedUnits,
    SoftmaxUnits,
)
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


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


@pytest.mark.slow
def test_label_units_of_a_machine_doubled_down_are_visible_ones_among_two_hidden_copies() -> None:
    """Free energy, classes and gradient against sums over the states of both copies, the label among the values."""
    n_classes, (n, m) = 3, (4, 2)
    random = np.random.default_rng(3)
    w, b, c = (random.standard_normal(shape) for shape in ((n + n_classes, m), (n + n_classes,), (m,)))
    params = RBMParams(*(jnp.asarray(a, jnp.float32) for a in (w, b, c)))
    machine = BernoulliRBM(m, n_classes=n_classes, doubled="down", sampler=PCD(k=1, n_chains=11))
    x, y = binary(n), np.arange(2**n) % n_classes
    h = binary(m)

    def log_sum(label: Any) -> np.ndarray:
        pull = np.concatenate([x, np.eye(n_classes)[label]], axis=1) @ w @ h.T
        own = np.concatenate([x, np.eye(n_classes)[label]], axis=1) @ b
        pairs = own[:, None, None] + pull[:, :, None] + pull[:, None] + (h @ c)[:, None] + h @ c
        return logsumexp(pairs, axis=(1, 2))

    batch = Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y))
    np.testing.assert_allclose(machine.free_energy(params, machine.rows(batch)), -log_sum(y), rtol=1e-4, atol=1e-5)
    scores = np.stack([log_sum(np.full(2**n, label)) for label in range(n_classes)], axis=1)
    expected = scores - logsumexp(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(machine.class_log_probabilities(params, batch.x), expected, rtol=1e-4, atol=1e-5)

    grads, chains, _ = machine.gradient(params, machine.init(jax.random.key(0), batch)[1], batch, jax.random.key(1))

    def surrogate(params: RBMParams) -> Any:
        return machine.free_energy(params, machine.rows(batch)).mean() - machine.free_energy(params, chains).mean()

    slopes = jax.grad(surrogate)(params)
    share = (0.5, 1.0, 0.5)
    assert_close(grads[:3], [s * a for s, a in zip(share, slopes[:3], strict=True)], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(chains[:, n:].sum(axis=1), 1.0)


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
