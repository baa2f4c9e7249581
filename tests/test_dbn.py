"""Gibbs chains and deep belief networks: samples and bounds, against the enumerated joint distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbn import (
    CLASSES,
    assert_drawn_from,
    enumerated,
    exact_log_z,
    log_weights,
    machine,
    network,
    single,
    stack,
    with_labels,
)
from enumeration import SIGMAS, binary, numbers_of
from scipy.special import logsumexp, softmax

from pretrain import Autoencoder, BernoulliRBM, member
from pretrain.generative import DBN, gibbs_chain, log_partition
from pretrain.layers import Dense
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- Gibbs chains

CHAINS = 20_000
run_chains = jax.jit(gibbs_chain, static_argnames="n_classes")


@pytest.mark.parametrize("n_classes", [0, 3])
def test_gibbs_chains_take_the_steps_of_the_enumerated_machine_and_reach_its_distribution(n_classes: int) -> None:
    params, states = machine(3 + n_classes, 3), with_labels(3, n_classes)
    hidden = binary(3)
    joint = (states @ params.visible_bias)[:, None] + hidden @ params.hidden_bias + states @ params.weights @ hidden.T
    transition = softmax(joint, axis=1) @ softmax(joint, axis=0).T
    start = single(np.broadcast_to(states[1], (CHAINS, states.shape[1])))
    for n_steps, expected in ((1, transition[1]), (100, softmax(log_weights(params, states)))):
        chains = run_chains(single(params), jax.random.key(n_steps), start, n_steps, n_classes)
        which = (np.asarray(chains.visible)[:, None] == states).all(axis=2)
        assert (which.sum(axis=1) == 1).all()  # one label is on
        assert_drawn_from(which.sum(axis=0), expected)
        spread = np.sqrt(np.asarray(chains.probabilities).var(axis=0) / CHAINS)
        assert (np.abs(chains.probabilities.mean(axis=0) - expected @ states) < SIGMAS * spread).all()
    untouched = run_chains(single(params), jax.random.key(0), start, 0, n_classes)
    np.testing.assert_array_equal(untouched.visible, start)


def test_clamped_chains_sample_the_conditional() -> None:
    params, labels = machine(6, 3), jnp.arange(CHAINS) % 3
    start = jnp.zeros((CHAINS, 6))
    chains = run_chains(single(params), jax.random.key(5), start, 60, 3, labels)
    for part in chains:
        np.testing.assert_array_equal(part[:, 3:], jax.nn.one_hot(labels, 3))
    conditional = softmax(log_weights(params, with_labels(3, 3)).reshape(8, 3), axis=0)
    for label in range(3):
        drawn = numbers_of(chains.visible[labels == label, :3])
        assert_drawn_from(np.bincount(drawn, minlength=8), conditional[:, label])


def test_gibbs_chain_refuses_what_does_not_fit() -> None:
    params, key = single(machine(6, 3)), jax.random.key(0)
    with pytest.raises(ValueError, match="6 visible units, label units included; got 3"):
        gibbs_chain(params, key, jnp.zeros((2, 3)), 1, 3)
    with pytest.raises(ValueError, match="has no label units"):
        gibbs_chain(params, key, jnp.zeros((2, 6)), 1, labels=jnp.zeros(2, int))
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=rf"labels must lie in 0..2; got {max(labels, key=abs)}"):
            gibbs_chain(params, key, jnp.zeros((2, 6)), 1, 3, np.array(labels))
    dbn = DBN((), (), params, 3)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\)"):
        dbn.sample(key, 3, 2, labels=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"labels must lie in 0..2; got 7"):
        dbn.bound(jnp.zeros((2, 3)), jnp.zeros(()), y=np.array([0, 7]))
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\], for binary units; got 0.0 to 255.0"):
        dbn.bound(jnp.array([[0.0, 255.0, 1.0]]), jnp.zeros(()))


# ---------------------------------------------------------------- deep belief networks


@pytest.mark.parametrize("labelled", [False, True])
def test_bound_is_the_enumerated_one_and_never_exceeds_the_log_probability(labelled: bool) -> None:
    dbn, x = network(), binary(4)
    joint, posterior = enumerated(dbn)
    y = np.arange(16) % CLASSES
    log_p = joint[np.arange(16), :, :, y] if labelled else logsumexp(joint, axis=3)
    exact = logsumexp(log_p, axis=(1, 2))
    elbo = (np.exp(posterior) * (log_p - posterior)).sum(axis=(1, 2))
    assert (elbo < exact - 0.01).all()

    log_z = log_partition(single(dbn.top), CLASSES)
    bound = single(dbn).bound(
        single(x), log_z, jax.random.key(1), n_samples=2_000, y=jnp.asarray(y) if labelled else None
    )
    gap = (exact - elbo).mean()
    assert (np.abs(bound.rows - elbo) < SIGMAS * bound.standard_errors).all()
    assert (bound.rows < exact).all()
    assert (bound.importance > bound.rows).all()
    assert np.abs(bound.importance - exact).mean() < 0.1 * gap  # 2,000 samples: nearly tight
    assert abs(bound.mean - elbo.mean()) < SIGMAS * bound.standard_error
    np.testing.assert_allclose(bound.standard_error, np.sqrt(np.square(bound.standard_errors).sum()) / 16, rtol=1e-5)


def test_bound_is_tight_where_recognition_is_the_posterior() -> None:
    """A machine under its own transpose is that machine again, and its hidden units are independent given x."""
    lower, x = machine(4, 3), binary(4)
    top = RBMParams(lower.weights.T, lower.hidden_bias, lower.visible_bias)
    dbn = DBN((Dense(lower.weights, lower.hidden_bias),), (Dense(lower.weights.T, lower.visible_bias),), top)
    exact = log_weights(lower, x) - exact_log_z(lower, 0)
    for same in (dbn, DBN((), (), lower)):  # and a machine alone needs no bound
        bound = single(same).bound(single(x), exact_log_z(same.top, 0), jax.random.key(2), n_samples=5)
        np.testing.assert_allclose(bound.rows, exact, atol=1e-5)
        np.testing.assert_allclose(bound.importance, exact, atol=1e-5)
        np.testing.assert_allclose(bound.standard_errors, 0.0, atol=1e-6)


@pytest.mark.slow
def test_samples_follow_the_enumerated_joint_and_conditional() -> None:
    dbn = network()
    joint = np.exp(logsumexp(enumerated(dbn)[0], axis=(1, 2)))  # [16, classes]
    samples = single(dbn).sample(jax.random.key(3), CHAINS, 60)
    assert samples.labels is not None
    counts = np.bincount(numbers_of(samples.x) * CLASSES + np.asarray(samples.labels), minlength=joint.size)
    assert_drawn_from(counts, joint.ravel())
    spread = np.sqrt(np.asarray(samples.probabilities).var(axis=0) / CHAINS)
    assert (np.abs(samples.probabilities.mean(axis=0) - joint.sum(axis=1) @ binary(4)) < SIGMAS * spread).all()

    labels = jnp.arange(CHAINS) % CLASSES
    given = single(dbn).sample(jax.random.key(4), CHAINS, 60, labels)
    np.testing.assert_array_equal(given.labels, labels)
    for label in range(CLASSES):
        drawn = np.bincount(numbers_of(given.x[labels == label]), minlength=16)
        assert_drawn_from(drawn, joint[:, label] / joint[:, label].sum())


def test_network_of_a_stack_has_its_weights() -> None:
    pretrained = stack((BernoulliRBM(3), BernoulliRBM(5, n_classes=2)))
    dbn = DBN.from_stack(pretrained, 1)
    lower, top = (member(params, 1) for params in pretrained.params)
    np.testing.assert_array_equal(dbn.recognition[0].weights, lower.weights)
    np.testing.assert_array_equal(dbn.recognition[0].bias, lower.hidden_bias)
    np.testing.assert_array_equal(dbn.generative[0].weights, lower.weights.T)
    np.testing.assert_array_equal(dbn.generative[0].bias, lower.visible_bias)
    np.testing.assert_array_equal(dbn.top.weights, top.weights)
    assert (dbn.n_classes, dbn.top.weights.shape) == (2, (5, 5))
    population = DBN.from_stack(pretrained)
    assert jax.tree.structure(population) == jax.tree.structure(dbn)
    for whole, part in zip(jax.tree.leaves(population), jax.tree.leaves(dbn), strict=True):
        np.testing.assert_array_equal(whole[1], part)
    for layer, stage, own in zip(population.layers(), pretrained.stages, pretrained.params, strict=True):
        expected = jax.vmap(stage.learner.layer)(own)
        np.testing.assert_array_equal(layer.weights, expected.weights)
        np.testing.assert_array_equal(layer.bias, expected.bias)


def test_network_of_other_stacks_is_refused() -> None:
    with pytest.raises(ValueError, match="a stack of RBMs; got Autoencoder as stage 1"):
        DBN.from_stack(stack((Autoencoder(3), BernoulliRBM(2))))
    with pytest.raises(ValueError, match="only the top RBM may have label units; stage 1 of 2 has"):
        DBN.from_stack(stack((BernoulliRBM(3, n_classes=2), BernoulliRBM(2))))
    with pytest.raises(ValueError, match="stage 2 is an RBM with doubled='down', a layer of a deep Boltzmann"):
        DBN.from_stack(stack((BernoulliRBM(3), BernoulliRBM(2, doubled="down"))))
    with pytest.raises(ValueError, match="no label units"):
        DBN((), (), single(machine(4, 3))).bound(jnp.zeros((2, 4)), jnp.zeros(()), y=jnp.zeros(2, int))
