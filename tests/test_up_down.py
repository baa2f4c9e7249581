"""The up-down algorithm: its states and gradients, and the exact likelihood that it raises."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbn import (
    CLASSES,
    SIZES,
    TOP,
    assert_drawn_from,
    enumerated,
    log_table,
    log_weights,
    network,
    single,
    stack,
)
from enumeration import binary, numbers_of
from scipy.special import expit, logsumexp

from pretrain import Batch, BernoulliRBM, Sgd, Stage, fine_tune, member
from pretrain.generative import DBN, UpDown, gibbs_chain, join_labels
from pretrain.layers import Dense
from pretrain.learners.rbm import free_energy

pytestmark = pytest.mark.usefixtures("quick_compilation")

LEARNER = UpDown((3, 2, TOP), n_classes=CLASSES, sample_visible=True)


@jax.jit
def phases(learner: UpDown, dbn: DBN, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
    """The gradient, and the states that it comes from."""
    wake_key, chain_key, sleep_key = jax.random.split(key, 3)
    grads, _, _ = learner.gradient(dbn, (), Batch(x, y), key)
    woken = learner.wake(dbn, x, wake_key)
    data = join_labels(woken[-1], y, CLASSES)
    chain = gibbs_chain(dbn.top, chain_key, data, learner.k, CLASSES).visible
    return grads, woken, data, chain, learner.sleep(dbn, chain[:, : SIZES[-1]], sleep_key)


def test_wake_and_sleep_states_follow_recognition_and_generation() -> None:
    dbn, rows = network(), 20_000
    _, posterior = enumerated(dbn)
    _, h1, h2 = jax.jit(LEARNER.wake)(single(dbn), jnp.ones((rows, 4)), jax.random.key(0))
    assert_drawn_from(np.bincount(numbers_of(h1) * 4 + numbers_of(h2), minlength=32), np.exp(posterior[-1]).ravel())

    x, h1, h2 = jax.jit(LEARNER.sleep)(single(dbn), jnp.ones((rows, 2)), jax.random.key(1))
    np.testing.assert_array_equal(h2, 1.0)
    generated = np.exp(log_table(dbn.generative[1], binary(2), binary(3))[-1])
    assert_drawn_from(np.bincount(numbers_of(h1), minlength=8), generated)
    given = np.exp(log_table(dbn.generative[0], binary(3), binary(4)))
    likeliest = int(generated.argmax())
    assert_drawn_from(np.bincount(numbers_of(x[numbers_of(h1) == likeliest]), minlength=16), given[likeliest])
    means = jax.jit(LEARNER.replace(sample_visible=False).sleep)(single(dbn), jnp.ones((4, 2)), jax.random.key(1))
    np.testing.assert_allclose(
        means[0], expit(means[1] @ dbn.generative[0].weights + dbn.generative[0].bias), rtol=1e-5
    )


@pytest.mark.slow
def test_gradients_are_those_of_the_log_probability_of_the_sampled_states() -> None:
    """Generative layers of the wake states, recognition layers of the sleep states, and the top machine's CD of the
    free energies of data and chains, by jax.grad.
    """
    dbn = single(network())
    x, y = single(np.random.default_rng(1).random((30, 4)) < 0.4), jnp.arange(30) % CLASSES
    key = jax.random.key(7)
    grads, woken, data, chain, slept = phases(LEARNER, dbn, x, y, key)
    assert np.abs(chain - data).sum() > 0
    assert all(np.isin(state, (0.0, 1.0)).all() for state in (*woken, *slept))

    def log_probability(layer: Dense, inputs: jax.Array, states: jax.Array) -> jax.Array:
        p = layer(inputs)
        return (states * jnp.log(p) + (1 - states) * jnp.log1p(-p)).sum(axis=1).mean()

    def objective(dbn: DBN) -> jax.Array:
        generated = map(log_probability, dbn.generative, woken[1:], woken[:-1])
        recognised = map(log_probability, dbn.recognition, slept[:-1], slept[1:])
        contrast = free_energy(dbn.top, data).mean() - free_energy(dbn.top, chain).mean()
        return contrast - sum(generated) - sum(recognised)

    automatic = jax.jit(jax.grad(objective))(dbn)
    assert jax.tree.structure(automatic) == jax.tree.structure(grads)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(automatic), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def exact_log_likelihood(dbn: DBN, x: np.ndarray) -> float:
    """Of a network with one directed layer and no labels, the mean over rows, by enumeration."""
    dbn = jax.tree.map(np.float64, dbn)
    h = binary(dbn.top.weights.shape[0])
    prior = log_weights(dbn.top, h)
    return float(logsumexp(log_table(dbn.generative[0], h, x).T + prior - logsumexp(prior), axis=1).mean())


@pytest.mark.slow
def test_fine_tuning_by_up_down_raises_the_exact_likelihood() -> None:
    """Three patterns; a population that starts from an untrained stack."""
    patterns = np.float32([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    train = Batch(jnp.asarray(np.tile(patterns, (40, 1))))
    start = DBN.from_stack(stack((BernoulliRBM(4), BernoulliRBM(4))))
    before = [exact_log_likelihood(member(start, index), patterns) for index in range(2)]
    stage = Stage(UpDown((4, 4)), Sgd(0.1), epochs=60, batch_size=12)
    progress = fine_tune((), stage, train, valid=train, seeds=(0, 1), params=start, chunk=60)
    for index in range(2):
        after = exact_log_likelihood(member(progress.params, index), patterns)
        assert before[index] < -2.5
        assert np.log(1 / 3) > after > -2.0
    errors = progress.history["valid/reconstruction_error"]
    assert (errors[-1] < errors[0]).all()


def test_up_down_refuses_a_network_of_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"hidden layers of \(3, 2, 3\) and 2 label units, .* n_hidden=\(3, 3\)"):
        UpDown((3, 3)).gradient(single(network()), (), Batch(jnp.zeros((2, 4))), jax.random.key(0))
    with pytest.raises(ValueError, match="n_hidden must be a tuple"):
        UpDown(3)  # type: ignore[arg-type]
    assert (UpDown((3,)).needs, LEARNER.needs) == ((), ("labels",))
