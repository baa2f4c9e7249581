"""Learners of pairs, against objectives looped in numpy, finite differences and scipy's closed form."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.linalg import eigh
from scipy.special import expit, log_softmax

from pretrain import Batch, Dense, Embedding, Momentum, SlowFeatures, data, fit, member, report
from pretrain.data.neighbours import with_neighbours
from pretrain.learners.embedding import EmbeddingParams, others
from pretrain.learners.slow_features import NOISE, SlowFeatureParams

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, FEATURES, UNITS = 7, 5, 4


# ---------------------------------------------------------------- embedding


def rows(seed: int, n_rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_rows, FEATURES))


@jax.jit
def gradient(learner: Any, params: Any, batch: Batch) -> Any:
    """The gradient and the metrics of a learner that draws nothing, on the rows that it begins with."""
    _, state = learner.init(jax.random.key(0), batch)
    grads, _, metrics = learner.gradient(params, state, batch, jax.random.key(0))
    return grads, metrics


LEARNERS = {
    "internal": Embedding(UNITS, margin=0.6),
    "internal-l1": Embedding(UNITS, margin=3.0, distance="l1", activation="tanh"),
    "auxiliary": Embedding(UNITS, at="auxiliary", n_embedding=3, margin=0.6),
    "output": Embedding(UNITS, at="output", n_classes=3, margin=0.15, supervised_weight=0.7),
    "slow": SlowFeatures(UNITS, decorrelation=0.3),
}


def params_of(learner: Any) -> Any:
    """Float64 parameters, larger than the initial ones, so that some pairs are within the margin and some are not."""
    some = Batch(jnp.asarray(rows(0), jnp.float32), jnp.zeros(ROWS, int))
    initial, _ = learner.init(jax.random.key(0), some)
    random = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.asarray(0.7 * random.standard_normal(leaf.shape)), initial)


def embedding_measures(learner: Embedding, params: EmbeddingParams, batch: Batch) -> dict[str, float]:
    """The objective as a loop over rows, in numpy; some other rows are within the margin and some are not."""
    x, y, pair = (np.asarray(field) for field in batch)
    margin, n_rows = float(learner.margin), len(x)

    def outputs(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the cross-entropy and what the margin loss is of."""
        z = row @ np.asarray(params.weights) + np.asarray(params.bias)
        f = np.tanh(z) if learner.activation == "tanh" else expit(z)
        if params.top is not None:
            f = f @ np.asarray(params.top.weights) + np.asarray(params.top.bias)
        return f, np.exp(log_softmax(f)) if learner.at == "output" else f

    pull, push, losses, errors = [], [], [], []
    for i in range(n_rows):
        (logits, f), (_, partner), (_, other) = outputs(x[i]), outputs(pair[i]), outputs(x[(i + 3) % n_rows])
        if learner.distance == "l1":
            pull.append(np.abs(f - partner).sum())
            push.append(max(0.0, margin - np.abs(f - other).sum()))
        else:
            pull.append(((f - partner) ** 2).sum())
            push.append(max(0.0, margin - np.linalg.norm(f - other)) ** 2)
        if y[i] >= 0:
            losses.append(-log_softmax(logits)[y[i]])
            errors.append(100.0 * (logits.argmax() != y[i]))
    assert 0 < np.count_nonzero(push) < n_rows
    measures = {"margin_loss": np.mean(pull) + np.mean(push), "attraction": np.mean(pull), "repulsion": np.mean(push)}
    if learner.at == "output":
        measures |= {"cross_entropy": np.mean(losses), "error": np.mean(errors)}
    return measures  # type: ignore[return-value]


def slow_measures(learner: SlowFeatures, params: SlowFeatureParams, batch: Batch) -> dict[str, float]:
    """The objective as loops over units, in numpy."""
    z, following = (expit(np.asarray(a) @ np.asarray(params.weights) + np.asarray(params.bias)) for a in batch[::2])
    covariance = np.cov(np.concatenate([z, following]).T, bias=True)
    slowness = correlation = 0.0
    for i in range(UNITS):
        slowness += (np.mean((z - following)[:, i] ** 2) + 2 * NOISE) / (covariance[i, i] + NOISE)
        for j in range(UNITS):
            if i != j:
                correlation += covariance[i, j] ** 2 / ((covariance[i, i] + NOISE) * (covariance[j, j] + NOISE))
    loss = slowness + float(learner.decorrelation) * correlation
    return {"loss": loss, "slowness": slowness, "correlation": correlation}


def objective_of(learner: Any, measures: Any) -> Any:
    """What the learner descends, of what it measures."""
    if isinstance(learner, SlowFeatures):
        return measures["loss"]
    return measures["margin_loss"] + (
        learner.supervised_weight * measures["cross_entropy"] if "error" in measures else 0
    )


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())
def test_objectives_are_numpys_and_gradients_finite_differences(learner: Any) -> None:
    """In float64, on labels of which some are missing."""
    with jax.enable_x64(True):
        batch = Batch(jnp.asarray(rows(1)), jnp.asarray([0, -1, 2, 1, -1, 0, 2]), jnp.asarray(rows(1) + 0.3 * rows(2)))
        params, key = params_of(learner), jax.random.key(0)
        by_hand: Any = embedding_measures if isinstance(learner, Embedding) else slow_measures
        expected = by_hand(learner, params, batch)
        grads, found = gradient(learner, params, batch)
        measures = learner.evaluate(params, batch, key)
        assert measures.keys() == expected.keys() == found.keys() | ({"error"} & expected.keys())
        for name, value in expected.items():
            np.testing.assert_allclose(measures[name], value, rtol=1e-9, err_msg=name)
            np.testing.assert_allclose(found.get(name, value), value, rtol=1e-9, err_msg=name)

        flat, unravel = ravel_pytree(params)
        steps = 1e-6 * jnp.eye(flat.size)
        measured = jax.jit(jax.vmap(lambda flat: learner.evaluate(unravel(flat), batch, key)))
        above, below = (objective_of(learner, measured(flat + step)) for step in (steps, -steps))
        slopes = (above - below) / 2e-6
        np.testing.assert_allclose(ravel_pytree(grads)[0], slopes, rtol=1e-5, atol=1e-8)


def test_of_all_minibatches_the_mean_supervised_gradient_is_the_objectives() -> None:
    """Over every minibatch of two of seven rows, of which two have labels; and so is the mean cross-entropy."""
    learner, key = LEARNERS["output"], jax.random.key(0)
    pairs = np.array(list(itertools.combinations(range(ROWS), 2)))
    with jax.enable_x64(True):
        batch = Batch(jnp.asarray(rows(1)), jnp.asarray([-1, -1, 2, -1, -1, 0, -1]), jnp.asarray(rows(2)))
        params, (_, state) = params_of(learner), learner.init(key, batch)
        parts = jax.tree.map(lambda leaf: leaf[pairs], batch)

        @jax.jit
        def mean(learner: Any) -> Any:
            found = jax.vmap(lambda part: learner.gradient(params, state, part, key)[::2])(parts)
            return jax.tree.map(lambda leaf: leaf.mean(axis=0), found)

        (grads, metrics), (own, _) = mean(learner), mean(learner.replace(supervised_weight=0.0))
        objective = jax.value_and_grad(lambda params: learner.evaluate(params, batch, key)["cross_entropy"])
        value, expected = jax.jit(objective)(params)
        np.testing.assert_allclose(metrics["cross_entropy"], value, rtol=1e-6)
        for a, b, c in zip(*map(jax.tree.leaves, (grads, own, expected)), strict=True):
            np.testing.assert_allclose(a - b, learner.supervised_weight * c, rtol=1e-5, atol=1e-9)


def test_minibatches_without_labels_leave_the_history_finite() -> None:
    """Of ten minibatches nine have none: nothing of the training is reported as diverged; the monitor tells errors."""
    x = np.float32(rows(1, 40))
    batch = Batch(jnp.asarray(x), jnp.where(jnp.arange(40) == 7, 2, -1), jnp.asarray(x[::-1]))
    options = {"epochs": 2, "batch_size": 4, "monitors": {"valid": batch}, "chunk": 2}
    history = fit.run(LEARNERS["output"], Momentum(0.01), batch, **options).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert "valid/error" in history
    assert "diverged" not in report.measures(history)


@pytest.mark.parametrize("name", ["internal", "internal-l1", "output"])
def test_rows_that_coincide_are_repelled_without_a_direction(name: str) -> None:
    """The loss is that of distance 0, and gradients are finite: only cross-entropy has a direction to offer."""
    learner = LEARNERS[name]
    x = jnp.ones((4, FEATURES))
    batch = Batch(x, jnp.full(4, -1), x)
    params, _ = learner.init(jax.random.key(0), batch)
    grads, measures = gradient(learner, params, batch)
    margin = learner.margin if learner.distance == "l1" else learner.margin**2
    np.testing.assert_allclose(measures["margin_loss"], margin, rtol=1e-6)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.parametrize(("distance", "inside"), [("squared", 0.0625), ("l1", 0.25)])
def test_the_margin_is_where_repulsion_ends(distance: Any, inside: float) -> None:
    """Two rows at a distance of 1: at the margin and beyond it nothing is left, neither loss nor gradient."""
    params = EmbeddingParams(jnp.eye(2), jnp.zeros(2), None)
    batch = Batch(jnp.float32([[0, 0], [1, 0]]), pair=jnp.float32([[0, 0], [1, 0]]))
    for margin, loss in ((1.25, inside), (1.0, 0.0), (0.75, 0.0)):
        learner = Embedding(2, margin=margin, distance=distance, activation="linear")
        grads, measures = gradient(learner, params, batch)
        np.testing.assert_allclose(measures["repulsion"], loss, rtol=1e-6)
        assert bool((grads.weights != 0).any()) == (loss > 0)


@pytest.mark.parametrize("n_rows", [2, 3, 4, 7, 100])
def test_the_other_row_is_another_row(n_rows: int) -> None:
    """Of three or more, no two rows are each other's: a minibatch gives as many different pairs as it has rows."""
    other = np.asarray(others(jnp.arange(n_rows)[:, None])).ravel()
    assert sorted(other) == list(range(n_rows))
    assert (other != np.arange(n_rows)).all()
    assert n_rows == 2 or (other[other] != np.arange(n_rows)).all()


def test_what_an_embedding_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_embedding goes with at='auxiliary'; got n_embedding=None .*: give n_emb"):
        Embedding(UNITS, at="auxiliary")
    with pytest.raises(ValueError, match=r"n_classes goes with at='output'; got n_classes=3 and at='internal': leave"):
        Embedding(UNITS, n_classes=3)
    with pytest.raises(ValueError, match="at must be 'internal', 'auxiliary' or 'output'; got 'top'"):
        Embedding(UNITS, at="top")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="distance must be 'squared' or 'l1'; got 'l2'"):
        Embedding(UNITS, distance="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 1 row: give at least 2"):
        others(jnp.zeros((1, 3)))


def test_an_embedding_of_the_digits_brings_neighbours_of_a_class_together() -> None:
    """Through the loop, pairs by row number: relative to the distance of any two rows, that of neighbours falls to less
    than half of what it was in the pixels.
    """
    splits = data.digits()
    train = with_neighbours(Batch(splits.train.x), 5)
    learner: Any = Embedding(20, margin=2.0)
    progress = fit.run(learner, Momentum(0.2), train, epochs=15, batch_size=50, chunk=15)
    layer = learner.layer(member(progress.params, 0))

    def quotient(x: np.ndarray, pair: np.ndarray) -> float:
        return np.square(x - x[pair[:, 0]]).sum() / np.square(x - np.roll(x, 100, axis=0)).sum()

    pair = np.asarray(train.pair)
    assert quotient(np.asarray(layer(train.x)), pair) < 0.5 * quotient(np.asarray(train.x), pair)


# ---------------------------------------------------------------- slow features


def film() -> tuple[np.ndarray, np.ndarray]:
    """Five sinusoids over 400 frames, the first slow, in an orthogonal mixture of variance 1 a direction."""
    time = np.arange(400)
    sources = np.sqrt(2) * np.sin(2 * np.pi * np.outer(time, [1, 7, 19, 31, 53]) / 400 + np.arange(5))
    mixture = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    return sources[:, 0], (sources @ mixture).astype(np.float32)


def film_pairs() -> Batch:
    _, x = film()
    return Batch(jnp.asarray(x[:-1]), pair=jnp.asarray(x[1:]))


@functools.partial(jax.jit, static_argnames=("steps",))
def descended(learner: Any, params: Any, batch: Batch, rate: float, steps: int) -> Any:
    """Parameters after so many steps on one batch, with momentum 0.9."""

    def step(_: Any, carry: Any) -> Any:
        params, velocity = carry
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient(learner, params, batch)[0])
        return jax.tree.map(lambda p, v: p - rate * v, params, velocity), velocity

    return jax.lax.fori_loop(0, steps, step, (params, jax.tree.map(jnp.zeros_like, params)))[0]


@pytest.mark.parametrize("units", [1, 3])
def test_linear_slow_features_are_those_of_the_closed_form(units: int) -> None:
    """The least of the objective is the sum of the smallest generalised eigenvalues of (differences, covariance); what
    attains it is uncorrelated, and holds the slow sinusoid.
    """
    slow, x = film()
    batch = film_pairs()
    learner = SlowFeatures(units, decorrelation=1.0, activation="linear")
    params = descended(learner, learner.init(jax.random.key(0), batch)[0], batch, 0.02, 3000)
    differences = np.diff(x, axis=0).T @ np.diff(x, axis=0) / 399
    least = eigh(differences, np.cov(np.concatenate([x[:-1], x[1:]]).T, bias=True), eigvals_only=True)[:units].sum()
    np.testing.assert_allclose(gradient(learner, params, batch)[1]["loss"], least, rtol=0.02, atol=2e-5)  # the noise
    z = np.asarray(learner.layer(params)(jnp.asarray(x)))
    if units > 1:
        assert np.abs(np.corrcoef(z.T) - np.eye(units)).max() < 0.02
    centred = z - z.mean(axis=0)
    fitted = centred @ np.linalg.lstsq(centred, slow, rcond=None)[0]
    assert np.corrcoef(fitted, slow)[0, 1] > 0.99


def test_no_trivial_features() -> None:
    """A constant unit costs as much as noise, the scale of one costs nothing, and a copy costs its correlation."""

    def measures(weights: np.ndarray) -> dict[str, float]:
        learner = SlowFeatures(2, activation="linear")
        grads, found = gradient(learner, SlowFeatureParams(jnp.asarray(weights), jnp.zeros(2)), film_pairs())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
        return {name: float(value) for name, value in found.items()}

    two = np.eye(5, 2, dtype=np.float32)
    assert measures(0.0 * two) == pytest.approx({"loss": 4.0, "slowness": 4.0, "correlation": 0.0})
    assert measures(two)["loss"] == pytest.approx(measures(10.0 * two)["loss"], rel=1e-4)
    assert measures(two[:, [0, 0]])["correlation"] == pytest.approx(2.0, rel=1e-4)


def test_the_layer_is_dense() -> None:
    for learner in LEARNERS.values():
        layer = learner.layer(params_of(learner))
        assert isinstance(layer, Dense)
        assert (layer.weights.shape, layer.activation) == ((FEATURES, UNITS), learner.activation)
