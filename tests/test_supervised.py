"""Partial supervision, dropout, initialisations and adaptive recipes: equalities, statistics and loops by hand."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from enumeration import SIGMAS

from pretrain import (
    SESM,
    Adagrad,
    Adam,
    Autoencoder,
    Batch,
    BernoulliRBM,
    Classifier,
    Dense,
    Embedding,
    Linear,
    LogisticAutoregression,
    Network,
    PartiallySupervised,
    Pretrained,
    Sgd,
    Stage,
    SupervisedGreedy,
    fine_tune,
    fit,
    unroll,
)
from pretrain.layers import INITIALIZATIONS, uniform
from pretrain.learners.partially_supervised import (
    PartiallySupervisedParams,
    labelled_losses,
    labelled_mean,
)
from pretrain.samplers import PCD
from pretrain.types import labelled_share

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(5)
LABELS = np.array([0, -1, 2, 2, -1, 0, 1, -1], np.int32)


def batch(labels: np.ndarray = LABELS) -> Batch:
    x = np.random.default_rng(1).random((len(labels), 4))
    return Batch(jnp.asarray(x, jnp.float32), jnp.asarray(labels))


@jax.jit
def gradient(learner: Any, params: Any, state: Any, rows: Batch, key: jax.Array = KEY) -> Any:
    return learner.gradient(params, state, rows, key)


def assert_equal(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- partial supervision

INNER = {
    "autoencoder": Autoencoder(3),
    "rbm": BernoulliRBM(3),
    "rbm-pcd": BernoulliRBM(3, sampler=PCD(n_chains=5)),
    "sesm": SESM(3),
}


def started(inner: Any, weight: float) -> tuple[PartiallySupervised, PartiallySupervisedParams, Any]:
    """The learner with an output layer that is not zero any more."""
    learner = PartiallySupervised(inner, 3, weight)
    params, state = learner.init(KEY, batch())
    weights = jnp.asarray(np.random.default_rng(2).standard_normal(params.output.weights.shape), jnp.float32)
    return learner, params._replace(output=params.output.replace(weights=weights)), state


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_partial_supervision_adds_the_weighted_cross_entropy_of_labelled_rows(inner: Any) -> None:
    """What it adds is the gradient of the mean over the labelled rows alone, as a batch of their own."""
    learner, params, state = started(inner, 0.3)
    grads, next_state, metrics = gradient(learner, params, state, batch())
    own, own_state, own_metrics = gradient(inner, params.inner, state.inner, batch())
    labelled = LABELS >= 0

    def cross_entropy(params: PartiallySupervisedParams) -> jax.Array:
        logits = params.output(inner.layer(params.inner)(batch().x[labelled]))
        return -jax.nn.log_softmax(logits)[np.arange(labelled.sum()), LABELS[labelled]].mean()

    value, supervised = jax.jit(jax.value_and_grad(cross_entropy))(params)
    expected = PartiallySupervisedParams(
        jax.tree.map(lambda a, b: a + 0.3 * b, own, supervised.inner),
        jax.tree.map(lambda a: 0.3 * a, supervised.output),
    )
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(supervised.inner))
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert_equal((next_state.inner, [metrics[name] for name in own_metrics]), (own_state, list(own_metrics.values())))
    assert metrics.keys() == {*own_metrics, "cross_entropy"}
    np.testing.assert_allclose(metrics["cross_entropy"], value, rtol=1e-5)


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_without_weight_or_without_labels_it_is_the_learner_itself(inner: Any) -> None:
    """To the bit: the start, the gradient, the state, the metrics; the output layer is left alone."""
    learner, params, state = started(inner, 0.0)
    assert_equal((params.inner, state.inner), inner.init(KEY, batch()))
    unlabelled = batch(np.full(8, -1, np.int32))
    for one, rows in ((learner, batch()), (learner.replace(weight=0.7), unlabelled)):
        grads, next_state, metrics = gradient(one, params, state, rows)
        own = gradient(inner, params.inner, state.inner, rows)
        assert_equal((grads.inner, next_state.inner, {name: metrics[name] for name in own[2]}), own)
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads.output))
    assert float(metrics["cross_entropy"]) == 0.0


def test_of_all_minibatches_the_mean_gradient_is_the_objectives() -> None:
    """However few labels there are: over every minibatch of two of eight rows, of which five, one or all have a label;
    so is the mean cross-entropy. Where all have, every minibatch's is its own mean.
    """
    pairs = np.array(list(itertools.combinations(range(8), 2)))
    learner, params, _ = started(INNER["autoencoder"], 1.0)
    every = jax.jit(jax.vmap(gradient, in_axes=(None, None, None, 0)))

    @jax.jit
    def objective(params: PartiallySupervisedParams, rows: Batch) -> jax.Array:
        return labelled_mean(labelled_losses(learner._logits(params, rows.x), rows.y), rows.y)

    for labels in (LABELS, np.where(np.arange(8) == 5, 2, -1), np.abs(LABELS)):
        whole = batch(labels)
        _, state = learner.init(KEY, whole)
        parts = jax.tree.map(lambda leaf: leaf[pairs], whole)
        (grads, _, metrics), (own, _, _) = (every(learner.replace(weight=w), params, state, parts) for w in (1.0, 0.0))
        value, expected = objective(params, whole), jax.grad(objective)(params, whole)
        for a, b, c in zip(*map(jax.tree.leaves, (grads, own, expected)), strict=True):
            np.testing.assert_allclose((a - b).mean(axis=0), c, atol=1e-6)
        np.testing.assert_allclose(metrics["cross_entropy"].mean(), value, rtol=1e-5)
    alone = labelled_losses(jax.vmap(learner._logits, in_axes=(None, 0))(params, parts.x), parts.y).mean(axis=1)
    np.testing.assert_allclose(metrics["cross_entropy"], alone, rtol=1e-6)  # all rows have a label


def test_the_history_of_a_partially_supervised_layer_tells_the_mean_of_labelled_rows() -> None:
    """At a rate of 0, over minibatches of two of which some have no label."""
    whole = batch(np.where(np.arange(8) < 3, LABELS, -1))
    learner, params, _ = started(INNER["autoencoder"], 1.0)
    start = jax.tree.map(lambda leaf: leaf[None], params)
    history = fit.run(learner, Sgd(0.0), whole, epochs=2, batch_size=2, params=start).history
    expected = labelled_mean(labelled_losses(learner._logits(params, whole.x), whole.y), whole.y)
    np.testing.assert_allclose(history["cross_entropy"], np.full((2, 1), expected), rtol=1e-5)


@pytest.mark.parametrize("remainder", [0, 1])
def test_the_share_of_labelled_rows_is_that_of_all_rows(remainder: int) -> None:
    """Also of those that ``init`` is not shown: every third has a label, and it sees every second or third."""
    n = 2 * fit.INIT_ROWS + 1
    labels = np.where(np.arange(n) % 3 == remainder, 1, -1).astype(np.int32)
    rows = Batch(jnp.zeros((n, 2)), jnp.asarray(labels), jnp.zeros((n, 2)))
    for learner in (
        PartiallySupervised(Autoencoder(1), 2),
        PartiallySupervised(Embedding(1, at="output", n_classes=2), 2),
        Embedding(1, at="output", n_classes=2),
    ):
        begun = jax.jit(lambda learner, rows: fit.start(learner, Sgd(0.1), rows, KEY, batch_size=20).state)
        shares = jax.tree.leaves(begun(learner, rows))
        np.testing.assert_allclose(shares, (labels == 1).mean(), rtol=1e-6)


def test_without_labelled_rows_the_share_is_that_of_one_row() -> None:
    assert labelled_share(jnp.full(8, -1)) == labelled_share(jnp.arange(8) - 7) == 1 / 8
    assert labelled_share(jnp.arange(8)) == 1.0


def test_partial_supervision_measures_labelled_rows_and_passes_the_learner_on() -> None:
    inner = Autoencoder(3)
    learner, params, _ = started(inner, 1.0)
    measures = learner.evaluate(params, batch(), KEY)
    assert list(measures) == ["loss", "error"]
    np.testing.assert_array_equal(measures["loss"], inner.evaluate(params.inner, batch(), KEY)["loss"])
    predicted = np.asarray(params.output(inner.layer(params.inner)(batch().x))).argmax(axis=1)
    labelled = LABELS >= 0
    wrong = 100.0 * (predicted[labelled] != LABELS[labelled]).mean()
    assert 0.0 < wrong < 100.0
    np.testing.assert_allclose(measures["error"], wrong, rtol=1e-6)
    nothing = learner.evaluate(params, batch(np.full(8, -1, np.int32)), KEY)
    assert np.isfinite(nothing["loss"])
    assert np.isnan(nothing["error"])
    assert_equal(learner.layer(params), inner.layer(params.inner))
    assert_equal(learner.decoder(params), inner.decoder(params.inner))
    assert not hasattr(PartiallySupervised(LogisticAutoregression(3), 3), "decoder")
    assert (learner.inputs, learner.needs) == ("unit", ("some labels",))
    assert PartiallySupervised(SESM(3), 3).inputs == "real"
    assert PartiallySupervised(SupervisedGreedy(3, (3,)), 3).needs == ("labels",)


def test_partially_supervised_layers_are_unrolled() -> None:
    """A population of two; the output layer of classes is thrown away."""
    learner = PartiallySupervised(Autoencoder(3), 3)
    params, _ = jax.vmap(lambda key: learner.init(key, batch()))(jax.random.split(KEY, 2))
    layer = jax.vmap(learner.layer)(params)
    network = unroll(Pretrained((layer,), (params,), (Stage(learner, Sgd(), epochs=1),), ()))
    assert_equal(network.encoder, (layer,))
    np.testing.assert_array_equal(network.decoder[0].weights, layer.weights.swapaxes(1, 2))


# ---------------------------------------------------------------- dropout


def linear_network() -> Network:
    random = np.random.default_rng(3)
    layers = [
        Dense(jnp.asarray(random.standard_normal(shape), jnp.float32), jnp.zeros(shape[1]), "linear")
        for shape in ((4, 6), (6, 5), (5, 3))
    ]
    return Network(tuple(layers), head=True)


def test_dropout_keeps_the_mean_of_a_linear_network() -> None:
    """Over many masks, every logit's mean is that without dropout, to within its standard error."""
    learner, network, n = Classifier(3, dropout=0.5, input_dropout=0.2), linear_network(), 20_000
    x = batch().x
    logits = jax.jit(jax.vmap(lambda key: learner._training_logits(network, x, key)))(jax.random.split(KEY, n))
    logits = np.asarray(logits, np.float64)
    errors = logits.std(axis=0) / np.sqrt(n)
    assert errors.min() > 0.0
    assert (np.abs(logits.mean(axis=0) - np.asarray(network(x))) < SIGMAS * errors).all()


def test_dropout_zeroes_its_rate_and_divides_the_rest() -> None:
    """Seen through identity layers: inputs, and one layer of hidden units, each by its own rate."""
    ones = jnp.ones((400, 250))
    identity = Dense(jnp.eye(250), jnp.zeros(250), "linear")
    network = Network((identity, identity), head=True)
    for learner, rate in ((Classifier(250, dropout=0.3), 0.3), (Classifier(250, input_dropout=0.1), 0.1)):
        values = np.asarray(learner._training_logits(network, ones, KEY))
        dropped = values == 0.0
        np.testing.assert_allclose(values[~dropped], 1.0 / (1.0 - rate), rtol=1e-6)
        assert abs(dropped.mean() - rate) < SIGMAS * np.sqrt(rate * (1.0 - rate) / values.size)
    both = np.asarray(Classifier(250, dropout=0.3, input_dropout=0.1)._training_logits(network, ones, KEY))
    kept = 0.7 * 0.9
    assert abs((both != 0.0).mean() - kept) < SIGMAS * np.sqrt(kept * (1.0 - kept) / both.size)  # independent masks


@pytest.mark.slow
def test_dropout_follows_the_key_and_leaves_evaluation_alone() -> None:
    """The metrics of training are those under dropout; rate 0 drops nothing."""
    labels = np.abs(LABELS)
    plain, dropping = Classifier(3, (6,)), Classifier(3, (6,), dropout=0.5, input_dropout=0.2)
    network, rows, other = linear_network(), batch(labels), jax.random.key(6)
    one, again, two = (gradient(dropping, network, (), rows, key) for key in (KEY, KEY, other))
    assert_equal(one, again)
    assert np.abs(np.asarray(one[0].layers[0].weights - two[0].layers[0].weights)).max() > 1e-3
    logits = dropping._training_logits(network, rows.x, KEY)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, rows.y).mean()
    np.testing.assert_allclose(one[2]["loss"], loss, rtol=1e-6)
    assert_equal(dropping.evaluate(network, rows, KEY), plain.evaluate(network, rows, other))
    none = gradient(dropping.replace(dropout=0.0, input_dropout=0.0), network, (), rows)
    for a, b in zip(jax.tree.leaves(none), jax.tree.leaves(gradient(plain, network, (), rows)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_dropout_applies_to_pretrained_layers_and_rates_are_a_population() -> None:
    """Two members of one seed and one start, fine-tuned at rates 0 and 0.5, part in all layers."""
    train, below = batch(np.abs(LABELS)), linear_network().layers[0]
    layer = jax.tree.map(lambda a: jnp.stack([a, a]), below)
    stage = Stage(Classifier(3, output_scale=1.0, dropout=np.float32([0.0, 0.5])), Sgd(0.5), 2, 4)
    network = fine_tune((layer,), stage, train, valid=train, seeds=(0, 0)).params
    for tuned in network.layers:
        assert np.isfinite(tuned.weights).all()
        assert np.abs(np.asarray(tuned.weights[0] - tuned.weights[1])).max() > 1e-3
    assert np.abs(np.asarray(network.layers[0].weights[1] - below.weights)).max() > 1e-3


# ---------------------------------------------------------------- initialisations

N_IN, N_OUT = 300, 500


def test_initial_weights_have_their_bounds_and_variances() -> None:
    """The standard error of a sample variance is var sqrt((kurtosis - 1)/n): 9/5 for a uniform, 3 for a normal."""
    expected = {"uniform": (1 / (3 * N_IN), 1.8), "glorot": (2 / (N_IN + N_OUT), 1.8), "he": (2 / N_IN, 3.0)}
    assert expected.keys() == INITIALIZATIONS.keys()
    for name, (variance, kurtosis) in expected.items():
        learner = Classifier(3, (N_OUT,), initialization=name, initial_scale=1.5)  # type: ignore[arg-type]
        network, _ = learner.init(KEY, Batch(jnp.zeros((2, N_IN))))
        weights, variance = np.asarray(network.layers[0].weights, np.float64), 1.5**2 * variance
        assert weights.shape == (N_IN, N_OUT)
        assert abs(weights.mean()) < SIGMAS * np.sqrt(variance / weights.size)
        assert abs(weights.var() - variance) < SIGMAS * variance * np.sqrt((kurtosis - 1) / weights.size)
        bound = np.sqrt(3.0 * variance)
        if name == "he":
            assert np.abs(weights).max() > 1.5 * bound
        else:
            assert 0.999 * bound < np.abs(weights).max() <= bound * (1 + 1e-6)


def test_uniform_stays_what_it_was_to_the_bit() -> None:
    network, _ = Classifier(3, (6, 5), initial_scale=2.0, output_scale=1.0).init(KEY, batch())
    keys = jax.random.split(KEY, 3)
    for layer, key, sizes, scale in zip(network.layers, keys, ((4, 6), (6, 5), (5, 3)), (2.0, 2.0, 1.0), strict=True):
        np.testing.assert_array_equal(layer.weights, uniform(key, *sizes, scale))
        draws = jax.random.uniform(key, sizes, minval=-1.0, maxval=1.0)
        np.testing.assert_array_equal(layer.weights, draws * scale / jnp.sqrt(sizes[0]))


# ---------------------------------------------------------------- adaptive recipes

STEPS_PER_EPOCH, N_STEPS = 3, 10


def adam_by_hand(value: np.ndarray, gradients: list[np.ndarray], decay: float, factor: Any) -> list[np.ndarray]:
    mean, square, path = np.zeros_like(value), np.zeros_like(value), []
    for step, grad in enumerate(gradients):
        grad = grad + decay * value
        mean, square = 0.8 * mean + 0.2 * grad, 0.95 * square + 0.05 * grad**2
        unbiased, scale = mean / (1 - 0.8 ** (step + 1)), np.sqrt(square / (1 - 0.95 ** (step + 1)))
        value = value - 0.3 * factor(step / STEPS_PER_EPOCH) * unbiased / (scale + 1e-3)
        path.append(value)
    return path


def adagrad_by_hand(value: np.ndarray, gradients: list[np.ndarray], decay: float, factor: Any) -> list[np.ndarray]:
    accumulated, path = np.full_like(value, 0.2), []
    for step, grad in enumerate(gradients):
        grad = grad + decay * value
        accumulated = accumulated + grad**2
        value = value - 0.3 * factor(step / STEPS_PER_EPOCH) * grad / np.sqrt(accumulated + 1e-3)
        path.append(value)
    return path


OPTIONS: dict[str, Any] = {"schedule": Linear(end=3.0, start=1.0), "weight_decay": 0.1, "epsilon": 1e-3}
RECIPES = {
    "adam": (Adam(0.3, 0.8, 0.95, **OPTIONS), adam_by_hand),
    "adagrad": (Adagrad(0.3, initial_accumulator=0.2, **OPTIONS), adagrad_by_hand),
}


def descend(recipe: Any, start: Any, gradients: Any) -> Any:
    """The parameters after every update: ``[steps, ...]``."""
    transform = recipe.build(STEPS_PER_EPOCH)

    def update(carry: Any, grads: Any) -> Any:
        params, state = carry
        updates, state = transform.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(update, (start, transform.init(start)), gradients)[1]


@pytest.mark.parametrize("name", RECIPES)
def test_adaptive_recipe_is_the_loop_written_by_hand(name: str) -> None:
    """L2 decay enters the gradient of matrices only, before it is rescaled; and every number is a leaf: a vmapped
    population of two recipes is each of them.
    """
    random, (recipe, by_hand) = np.random.default_rng(0), RECIPES[name]
    start = {"weights": random.standard_normal((3, 2)), "bias": random.standard_normal(2)}
    gradients = [jax.tree.map(lambda a: random.standard_normal(a.shape), start) for _ in range(N_STEPS)]
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), jnp.float32), *gradients)
    values = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), start)
    other = jax.tree.map(lambda number: 0.9 * number, recipe)
    both = jax.tree.map(lambda *numbers: jnp.asarray(numbers, jnp.float32), recipe, other)
    paths = jax.jit(jax.vmap(descend, in_axes=(0, None, None)))(both, values, stacked)
    for key, decay in (("weights", 0.1), ("bias", 0.0)):
        expected = by_hand(start[key], [g[key] for g in gradients], decay, lambda e: min(1.0, max(0.0, (3 - e) / 2)))
        np.testing.assert_allclose(paths[key][0], np.stack(expected), rtol=1e-4, atol=1e-5, err_msg=key)
    alone = jax.jit(descend)(other, values, stacked)
    for a, b in zip(jax.tree.leaves(paths), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-6)
        assert np.abs(a[1] - a[0]).max() > 1e-3
