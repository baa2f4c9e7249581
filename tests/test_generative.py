"""The models that sample and score, against machines and networks small enough to be enumerated in float64."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp, softmax
from scipy.stats import binom, chi2

from pretrain import Autoencoder, Batch, BernoulliRBM, Pretrained, Sgd, Stage, fine_tune, member
from pretrain.generative import (
    DBN,
    UpDown,
    annealed_importance_sampling,
    average_log_probability,
    class_log_weights,
    gibbs_chain,
    join_labels,
    log_partition,
    temperatures,
)
from pretrain.generative.ais import _softplus_increment, summarise
from pretrain.layers import Dense
from pretrain.learners.rbm import RBMParams, free_energy

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIGMAS = 5.0
"""Bounds of random tests, in standard errors: passed but once in 1.7 million by chance."""


def binary(n_units: int) -> np.ndarray:
    """All states of so many units, ``[2**n_units, n_units]``."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n_units))).reshape(2**n_units, n_units)


def with_labels(n_binary: int, n_classes: int) -> np.ndarray:
    """All visible states; the label changes fastest."""
    if n_classes == 0:
        return binary(n_binary)
    return np.array([[*x, *label] for x in binary(n_binary) for label in np.eye(n_classes)])


def machine(n_visible: int, n_hidden: int, scale: float = 0.7, seed: int = 0) -> RBMParams:
    """A random machine in float64, label units included in ``n_visible``; its numbers are exact in float32."""
    random = np.random.default_rng(seed)
    shapes = ((n_visible, n_hidden), (n_visible,), (n_hidden,))
    return RBMParams(*(np.float64(np.float32(scale * random.standard_normal(shape))) for shape in shapes))


def single(tree: Any) -> Any:
    """In float32."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def log_weights(params: RBMParams, visible: np.ndarray) -> np.ndarray:
    """Log of sum_h exp(-E(v, h)), by enumeration of h, in float64."""
    hidden = binary(params.weights.shape[1])
    joint = (visible @ params.visible_bias)[:, None] + hidden @ params.hidden_bias + visible @ params.weights @ hidden.T
    return logsumexp(joint, axis=1)


def exact_log_z(params: RBMParams, n_classes: int) -> float:
    return float(logsumexp(log_weights(params, with_labels(params.weights.shape[0] - n_classes, n_classes))))


def assert_drawn_from(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Pearson's chi-squared test, passed but once in a million by chance."""
    expected = counts.sum() * probabilities
    assert expected.min() > 5.0
    assert (np.square(counts - expected) / expected).sum() < chi2.ppf(1 - 1e-6, counts.size - 1)


def numbers_of(states: Any) -> np.ndarray:
    """The number of each state ``[..., units]`` in `binary`."""
    states = np.asarray(states)
    return (states @ 2 ** np.arange(states.shape[-1])[::-1]).astype(int)


# ---------------------------------------------------------------- the exact partition function


@pytest.mark.parametrize(
    ("n_binary", "n_hidden", "n_classes", "scale"),
    [(6, 4, 0, 0.7), (3, 6, 4, 0.7), (6, 4, 2, 60.0)],
)
def test_log_partition_is_the_sum_over_all_pairs_of_states(
    n_binary: int, n_hidden: int, n_classes: int, scale: float
) -> None:
    """Whichever side is enumerated, with and without label units, and where the weights overflow an exponential."""
    params = machine(n_binary + n_classes, n_hidden, scale)
    expected = exact_log_z(params, n_classes)
    if scale > 1.0:
        assert expected > np.log(np.finfo(np.float32).max)
    np.testing.assert_allclose(log_partition(single(params), n_classes), expected, rtol=2e-6)


def test_log_partition_of_many_blocks() -> None:
    """4,096 visible states in four blocks, against the hidden states summed in float64."""
    params, hidden = machine(12, 13, 0.5), binary(13)
    summed = np.logaddexp(0.0, hidden @ params.weights.T + params.visible_bias).sum(axis=1)
    expected = logsumexp(hidden @ params.hidden_bias + summed)
    np.testing.assert_allclose(log_partition(single(params)), expected, rtol=1e-6)


def test_log_partition_refuses_what_it_cannot_enumerate() -> None:
    with pytest.raises(ValueError, match=r"2\*\*21 states: 21 binary visible and 22 hidden .* at most 20"):
        log_partition(single(machine(21, 22)))
    with pytest.raises(ValueError, match=r"2\*\*21 states: 21 binary visible"):
        log_partition(single(machine(31, 22)), n_classes=10)
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 3\).*pretrain\.member"):
        log_partition(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), single(machine(3, 3))))
    with pytest.raises(ValueError, match=r"n_classes must be from 0 to 2.*got 3"):
        log_partition(single(machine(3, 3)), n_classes=3)
    with pytest.raises(ValueError, match="Gaussian visible units"):
        log_partition(single(machine(3, 3))._replace(log_variance=jnp.zeros(3)))


def test_class_log_weights_are_those_of_the_visible_layer_with_each_label() -> None:
    params, x = machine(7, 4), binary(4)
    expected = log_weights(params, with_labels(4, 3)).reshape(16, 3)
    np.testing.assert_allclose(class_log_weights(single(params), single(x), 3), expected, rtol=1e-5)


# ---------------------------------------------------------------- annealed importance sampling


def test_temperatures_are_the_published_schedule_at_every_length() -> None:
    for count in (2, 145, 1_000, 14_500):
        betas = temperatures(count)
        assert (betas.shape, betas.dtype, betas[0], betas[-1]) == ((count,), np.float32, 0.0, 1.0)
        assert (np.diff(betas) > 0).all()
    assert abs((betas < 0.5).sum() - 500) <= 1
    assert abs((betas < 0.9).sum() - 4_500) <= 1
    np.testing.assert_allclose(np.diff(betas)[[0, 2_000, 10_000]], [1e-3, 1e-4, 1e-5], rtol=0.01)
    with pytest.raises(ValueError, match="at least 2"):
        temperatures(1)


def test_weight_increments_of_close_temperatures_do_not_cancel() -> None:
    """14,500 of them add up to what the first and the last temperature give, for inputs of every size."""
    x = np.float32([-200.0, -30.0, -1.0, 0.0, 1e-3, 1.0, 30.0, 200.0])
    betas = temperatures()
    increments = np.asarray(_softplus_increment(x[:, None], betas[:-1], betas[1:]), np.float64)
    expected = np.logaddexp(0.0, betas[1:] * np.float64(x)[:, None]) - np.logaddexp(
        0.0, betas[:-1] * np.float64(x)[:, None]
    )
    np.testing.assert_allclose(increments, expected, rtol=3e-6, atol=1e-30)
    np.testing.assert_allclose(increments.sum(axis=1), np.logaddexp(0.0, np.float64(x)) - np.log(2.0), rtol=1e-6)


N_BINARY, N_HIDDEN, RUNS, N_CHAINS = 5, 4, 400, 100


@pytest.mark.parametrize("n_classes", [0, 3])
def test_ais_interval_covers_the_exact_log_partition_and_its_error_is_neither_too_small_nor_too_large(
    n_classes: int,
) -> None:
    """A population of 400 estimates, 200 each of two machines: the misses of three sigma are as rare as a binomial test
    allows, the standardised error has unit spread, the mean of the estimates of Z is Z, and a member is what it is
    alone.
    """
    machines = [machine(N_BINARY + n_classes, N_HIDDEN, scale) for scale in (0.6, 0.9)]
    exact = np.repeat([exact_log_z(params, n_classes) for params in machines], RUNS // 2)
    population = jax.tree.map(lambda *leaves: single(np.repeat(leaves, RUNS // 2, axis=0)), *machines)
    base = single(np.linspace(-1.0, 1.0, N_BINARY + n_classes))
    keys = jax.random.split(jax.random.key(n_classes), RUNS)
    estimates = jax.vmap(lambda params, key: estimate(params, key, base, n_classes))(population, keys)
    log_z, error = np.asarray(estimates.log_z, np.float64), np.asarray(estimates.standard_error, np.float64)
    low, high = np.asarray(estimates.interval).T
    assert (error > 0.005).all()  # there is something to estimate
    assert (error < 0.3).all()

    misses = int(((exact < low) | (exact > high)).sum())
    assert binom.sf(misses - 1, RUNS, 0.0027) > 1e-4, f"{misses} of {RUNS} intervals miss"
    relative = np.exp(log_z - exact)
    standardised = (relative - 1.0) / (relative * error)
    assert abs(standardised.std() - 1.0) < SIGMAS / np.sqrt(2 * RUNS)
    assert abs(relative.mean() - 1.0) < SIGMAS * relative.std() / np.sqrt(RUNS)

    assert estimates.log_weights.shape == (RUNS, N_CHAINS)
    np.testing.assert_allclose(logsumexp(estimates.log_weights, axis=1) - np.log(N_CHAINS), log_z, rtol=1e-5)
    assert ((estimates.effective_sample_size > 1) & (estimates.effective_sample_size < N_CHAINS)).all()
    alone = estimate(single(machines[1]), keys[-1], base, n_classes)
    for one, own in zip(alone, member(estimates, -1), strict=True):
        np.testing.assert_allclose(one, own, rtol=1e-4)


def estimate(params: RBMParams, key: jax.Array, base: jax.Array, n_classes: int) -> Any:
    return annealed_importance_sampling(params, key, temperatures(100), base, N_CHAINS, n_classes)


def test_ais_is_unbiased_however_few_the_temperatures() -> None:
    """Four temperatures and very many chains: any slip between the weights and the transitions shows."""
    params = machine(N_BINARY + 3, N_HIDDEN, 0.9)
    found = annealed_importance_sampling(
        single(params), jax.random.key(8), [0.0, 0.4, 0.7, 1.0], n_chains=30_000, n_classes=3
    )
    assert float(found.standard_error) < 0.01
    assert abs(np.expm1(float(found.log_z) - exact_log_z(params, 3))) < SIGMAS * float(found.standard_error)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_ais_from_the_machine_itself_has_no_variance(n_classes: int) -> None:
    """Without weights the base with its visible biases is the machine, but for hidden biases, a constant factor."""
    params = machine(N_BINARY + n_classes, N_HIDDEN)
    params = params._replace(weights=np.zeros_like(params.weights))
    exact = exact_log_z(params, n_classes)
    found = estimate(single(params), jax.random.key(0), single(params.visible_bias), n_classes)
    np.testing.assert_allclose(found.log_z, exact, rtol=1e-6)
    np.testing.assert_allclose(found.interval, [exact, exact], rtol=1e-5)
    assert float(found.standard_error) < 1e-6
    np.testing.assert_allclose(found.effective_sample_size, N_CHAINS, rtol=1e-5)


def test_ais_summary_of_known_weights() -> None:
    """Weights 1, 2, 3: mean 2, standard deviation 1. One chain that carries all leaves no lower bound."""
    found = jax.jit(summarise)(jnp.log(jnp.array([1.0, 2.0, 3.0])) + 500.0)
    error = 1.0 / (2.0 * np.sqrt(3.0))
    np.testing.assert_allclose(found.log_z, 500.0 + np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-4)
    np.testing.assert_allclose(found.interval, 500 + np.log(2) + np.log1p([-3 * error, 3 * error]), rtol=1e-6)
    np.testing.assert_allclose(found.effective_sample_size, 36.0 / 14.0, rtol=1e-4)
    alone = jax.jit(summarise)(jnp.array([0.0, 100.0, 0.0]))
    assert float(alone.interval[0]) == -np.inf
    np.testing.assert_allclose(alone.effective_sample_size, 1.0, rtol=1e-6)
    np.testing.assert_allclose(alone.standard_error, 1.0, rtol=1e-6)


def test_ais_refuses_wrong_sizes() -> None:
    params, key = single(machine(5, 4)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"base_bias must have shape \(5,\).*\(4,\)"):
        annealed_importance_sampling(params, key, temperatures(5), jnp.zeros(4))
    with pytest.raises(ValueError, match="n_chains must be at least 2"):
        annealed_importance_sampling(params, key, temperatures(5), n_chains=1)


def test_average_log_probability_is_that_of_the_enumerated_machine() -> None:
    params, rows = machine(6, 4), binary(6)[[3, 7, 50]]
    exact = (log_weights(params, rows) - exact_log_z(params, 0)).mean()
    np.testing.assert_allclose(
        average_log_probability(single(params), single(rows), exact_log_z(params, 0)), exact, rtol=1e-5
    )


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
    with pytest.raises(ValueError, match="n_classes is 0"):
        gibbs_chain(params, key, jnp.zeros((2, 6)), 1, labels=jnp.zeros(2, int))


# ---------------------------------------------------------------- deep belief networks

SIZES, TOP, CLASSES = (4, 3, 2), 3, 2


def dense(n_in: int, n_out: int, seed: int) -> Dense:
    random = np.random.default_rng(seed)
    return Dense(*(np.float64(np.float32(0.5 * random.standard_normal(shape))) for shape in ((n_in, n_out), n_out)))


def network() -> DBN:
    """Two directed layers, 4-3-2, that recognise and generate by unlike weights, under a machine of 2 and 2 labels."""
    recognition = tuple(dense(a, b, a) for a, b in itertools.pairwise(SIZES))
    generative = tuple(dense(b, a, 10 + a) for a, b in itertools.pairwise(SIZES))
    return DBN(recognition, generative, machine(SIZES[-1] + CLASSES, TOP), CLASSES)


def log_table(layer: Dense, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Log P(output | input), ``[inputs, outputs]``, in float64."""
    total = (inputs @ layer.weights + layer.bias)[:, None]
    return (outputs * log_expit(total) + (1 - outputs) * log_expit(-total)).sum(axis=2)


def enumerated(dbn: DBN) -> tuple[np.ndarray, np.ndarray]:
    """Of `network`: log p(x, h1, h2, y) as ``[16, 8, 4, classes]``, and log q(h1, h2 | x) as ``[16, 8, 4]``."""
    x, h1, h2 = map(binary, SIZES)
    top = log_weights(dbn.top, with_labels(SIZES[-1], CLASSES)).reshape(len(h2), CLASSES)
    joint = (
        log_table(dbn.generative[0], h1, x).T[:, :, None, None]
        + log_table(dbn.generative[1], h2, h1).T[None, :, :, None]
        + (top - logsumexp(top))[None, None]
    )
    posterior = log_table(dbn.recognition[0], x, h1)[:, :, None] + log_table(dbn.recognition[1], h1, h2)[None]
    return joint, posterior


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
    for network in (dbn, DBN((), (), lower)):  # and a machine alone needs no bound
        bound = single(network).bound(single(x), exact_log_z(network.top, 0), jax.random.key(2), n_samples=5)
        np.testing.assert_allclose(bound.rows, exact, atol=1e-5)
        np.testing.assert_allclose(bound.importance, exact, atol=1e-5)
        np.testing.assert_allclose(bound.standard_errors, 0.0, atol=1e-6)


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


def stack(learners: tuple[Any, ...], members: int = 2) -> Pretrained:
    """An untrained stack of machines on four features; what is no machine has no parameters."""
    params, n_in = [], 4
    for learner in learners:
        own = [machine(n_in + getattr(learner, "n_classes", 0), learner.n_hidden, 0.5, seed) for seed in range(members)]
        params.append(single(jax.tree.map(lambda *a: np.stack(a), *own)) if isinstance(learner, BernoulliRBM) else ())
        n_in = learner.n_hidden
    return Pretrained((), tuple(params), tuple(Stage(learner, Sgd(0.1), 1) for learner in learners), ())


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


# ---------------------------------------------------------------- the up-down algorithm

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
