"""The learners and augmentations of the tricks: rules by hand, averages over all dropout masks, known rotations."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pretrain as pt
from benchmarks import contrasts, pictures
from benchmarks.papers import tricks
from benchmarks.summary import Summary
from pretrain.data import Rotations, digits
from pretrain.layers import Rescaling

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(3).random((6, 5)).astype(np.float32)
Y = np.array([0, 2, 1, 1, 0, 2], np.int32)


def test_a_perceptron_moves_towards_the_right_class_and_away_from_the_wrong_one() -> None:
    """Row by row, as Rosenblatt's rule does, by hand."""
    learner, rate = pt.Perceptron(3), 0.5
    params = learner.init(jax.random.key(0), pt.Batch(jnp.asarray(X), jnp.asarray(Y)))[0]
    weights, bias = np.zeros((5, 3), np.float32), np.zeros(3, np.float32)
    mistakes = 0
    for x, y in zip(X, Y, strict=True):
        batch = pt.Batch(jnp.asarray(x[None]), jnp.asarray(y[None]))
        grads, _, measures = learner.gradient(params, (), batch, jax.random.key(1))
        params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        predicted = int((x @ weights + bias).argmax())
        if predicted != y:
            mistakes += 1
            weights[:, y] += rate * x
            weights[:, predicted] -= rate * x
            bias[y] += rate
            bias[predicted] -= rate
        assert float(measures["error"]) == 100.0 * (predicted != y)
    assert mistakes > 2
    np.testing.assert_allclose(params.layers[0].weights, weights, atol=1e-6)
    np.testing.assert_allclose(params.layers[0].bias, bias, atol=1e-6)


def test_a_perceptron_separates_what_is_separable_and_takes_no_hidden_layer() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = (x @ np.float32([1, -2, 3, 0.5]) > 0).astype(np.int32)
    x += 0.3 * np.float32([1, -2, 3, 0.5]) * (2 * y[:, None] - 1)  # a margin
    data = pt.Batch(jnp.asarray(x), jnp.asarray(y))
    progress = pt.run(pt.Perceptron(2), pt.Sgd(1.0), data, epochs=20, batch_size=1)
    assert pt.evaluate(pt.member(progress.params, 0), data) == 0.0
    with pytest.raises(ValueError, match="a perceptron has no hidden layers"):
        pt.Perceptron(2, (3,))


@pytest.mark.slow
def test_the_squared_error_is_descended_and_measured() -> None:
    """Its gradient is that of the sum written in NumPy, by finite differences."""
    learner = pt.SquaredErrorClassifier(3, (4,), output_scale=1.0)
    batch = pt.Batch(jnp.asarray(X), jnp.asarray(Y))
    params, state = learner.init(jax.random.key(2), batch)
    grads, _, measures = learner.gradient(params, state, batch, jax.random.key(0))

    def loss(params: pt.Network) -> float:
        hidden, output = ([np.asarray(a, float) for a in (layer.weights, layer.bias)] for layer in params.layers)
        code = 1 / (1 + np.exp(-(X @ hidden[0] + hidden[1])))
        odds = np.exp(code @ output[0] + output[1])
        return float(np.square(odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[Y]).mean())

    assert float(measures["loss"]) == pytest.approx(loss(params), rel=1e-5)
    assert set(learner.evaluate(params, batch, jax.random.key(0))) == {"error", "loss"}
    for index, name in itertools.product((0, 1), ("weights", "bias")):
        layer = params.layers[index]
        values = np.asarray(getattr(layer, name), float)
        place = (1,) * values.ndim

        def moved(step: float, index=index, name=name, layer=layer, values=values, place=place) -> float:
            changed = values.copy()
            changed[place] += step
            layers = list(params.layers)
            layers[index] = layer.replace(**{name: changed})
            return loss(params.replace(layers=tuple(layers)))

        slope = (moved(1e-4) - moved(-1e-4)) / 2e-4
        assert float(getattr(grads.layers[index], name)[place]) == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_without_dropout_the_network_is_the_geometric_mean_of_all_masks() -> None:
    """Exactly so for softmax on dropped inputs: the normalised geometric mean of the 32 networks' outputs, weighted by
    the probability of each mask, is the output with nothing dropped. The paper's form, weights times 1 - p at
    evaluation and no division while training, is the same network in other units.
    """
    rate = 0.3
    random = np.random.default_rng(4)
    weights, bias = random.normal(size=(5, 3)), random.normal(size=3)
    masks = np.array(list(itertools.product((0, 1), repeat=5)))
    chances = np.prod(np.where(masks, 1 - rate, rate), axis=1)
    logits = (X[0] * masks / (1 - rate)) @ weights + bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    mean = np.exp(chances @ logs)
    network = pt.Network((pt.Dense(jnp.asarray(weights), jnp.asarray(bias), "linear"),), head=True)
    ours = jax.nn.softmax(network(jnp.asarray(X[0])))
    np.testing.assert_allclose(ours, mean / mean.sum(), rtol=1e-5)

    paper = pt.Network((pt.Dense(jnp.asarray(weights / (1 - rate)), jnp.asarray(bias), "linear"),), head=True)
    scaled = pt.Network((pt.Dense(paper.layers[0].weights * (1 - rate), paper.layers[0].bias, "linear"),), head=True)
    np.testing.assert_allclose(jax.nn.softmax(scaled(jnp.asarray(X[0]))), ours, rtol=1e-5)

    learner = pt.Classifier(3, input_dropout=rate)  # and what is trained draws these masks
    drawn = jax.vmap(lambda key: learner._training_logits(network, jnp.asarray(X[:1]), key))
    seen = np.asarray(drawn(jax.random.split(jax.random.key(0), 20_000)))[:, 0]
    nearest = np.abs(seen[:, None] - logits[None]).max(axis=2)
    assert nearest.min(axis=1).max() < 1e-4
    shares = np.bincount(nearest.argmin(axis=1), minlength=len(masks)) / len(seen)
    np.testing.assert_allclose(shares, chances, atol=5 * np.sqrt(0.25 / len(seen)))


def test_layers_that_stay_fixed_drop_nothing() -> None:
    x, key = jnp.asarray(X), jax.random.key(0)
    learner = pt.Classifier(3, dropout=0.5)
    top = pt.Dense(jnp.ones((5, 3)), jnp.zeros(3), "linear")
    rescaled = pt.Network((Rescaling(jnp.zeros(5), jnp.ones(5)), top), head=True)
    np.testing.assert_array_equal(learner._training_logits(rescaled, x, key), rescaled(x))
    dense = pt.Network((pt.Dense(jnp.eye(5), jnp.zeros(5), "linear"), top), head=True)  # the same function
    assert (learner._training_logits(dense, x, key) != dense(x)).any()


def test_rotations_turn_within_their_range_and_none_is_none() -> None:
    x = digits().train.x[:200]
    np.testing.assert_allclose(Rotations((8, 8), 0.0)(x, jax.random.key(0)), x, atol=1e-6)
    turned = Rotations((8, 8), 90.0)(x, jax.random.key(1))
    assert turned.shape == x.shape
    assert float(turned.min()) >= 0.0
    assert float(turned.max()) <= float(x.max()) + 1e-6

    # a line from the middle to the right ends up at the angle that was drawn
    side = 41
    line = np.zeros((side, side), np.float32)
    line[side // 2, side // 2 :] = 1.0
    many = Rotations((side, side), 30.0)(jnp.tile(line.ravel(), (400, 1)), jax.random.key(2)).reshape(-1, side, side)
    y, x_ = np.meshgrid(np.arange(side) - side // 2, np.arange(side) - side // 2, indexing="ij")
    mass = np.asarray(many)
    angles = np.degrees(np.arctan2(-(mass * y).sum(axis=(1, 2)), (mass * x_).sum(axis=(1, 2))))
    assert np.abs(angles).max() < 31.0
    assert np.abs(angles).max() > 27.0
    assert abs(angles.mean()) < 5 * 30 / np.sqrt(3 * 400)
    assert np.abs(np.percentile(angles, [25, 75]) - [-15, 15]).max() < 5.0
    with pytest.raises(ValueError, match="give the shape of one row"):
        Rotations((7, 8))(x, jax.random.key(0))
    with pytest.raises(ValueError, match=r"one angle for all members; got an array of shape \(2,\)"):
        Rotations((8, 8), np.array([0.0, 90.0]))  # type: ignore[arg-type]


@pytest.mark.slow
def test_fine_tuning_sees_augmented_rows_and_its_monitors_do_not() -> None:
    """With images turned by nothing it is the plain run, also above a layer that is held."""
    train, valid = (jax.tree.map(lambda leaf: leaf[:200], part) for part in digits()[:2])
    stage = pt.Stage(pt.Classifier(10, (8,)), pt.Sgd(0.5), 3, 20)
    plain, turned = (
        pt.fine_tune((), stage, train, valid=valid, augment=augment) for augment in (None, Rotations((8, 8), 15.0))
    )
    assert not np.allclose(plain.history["loss"], turned.history["loss"])
    still = pt.fine_tune((), stage, train, valid=valid, augment=Rotations((8, 8), 0.0))
    np.testing.assert_allclose(still.history["valid/loss"], plain.history["valid/loss"], rtol=1e-4)
    stack = pt.pretrain([pt.Stage(pt.Autoencoder(8), pt.Sgd(0.1), 1, 20)], train)
    stage = pt.Stage(pt.Classifier(10), pt.Sgd(0.5), 3, 20, patience=3)
    plain, still, turned = (
        pt.fine_tune(stack.layers, stage, train, valid=valid, fixed=1, output=stage.replace(patience=None), augment=by)  # type: ignore[attr-defined]
        for by in (None, Rotations((8, 8), 0.0), Rotations((8, 8), 15.0))
    )
    np.testing.assert_allclose(still.history["valid/loss"], plain.history["valid/loss"], rtol=1e-4)
    assert not np.allclose(turned.history["loss"], plain.history["loss"], rtol=5e-4)
    for tuned in (plain, still, turned):
        np.testing.assert_array_equal(tuned.params.layers[0].weights, stack.layers[0].weights)


def told(row: str, test: float, curve: list[float]) -> str:
    """What is said of one row beside the lecture."""
    found = tricks.EXPERIMENT.row(row)
    line = {"seed": 0, "finite": True, "scale": "quick", "test_error": test, "test_rows": 10_000, "valid_curve": curve}
    line["hyperparameters"] = {"fine_tuning": {"batch_size": 100}}
    return "\n".join(tricks.beside([Summary(found, (line,))]))


def test_what_is_said_beside_the_lecture_is_what_the_curve_shows() -> None:
    assert "10.9% here, 16% in the lecture" in told("base", 10.9, [50.0, 15.9, 10.4])
    assert "in epoch 2 of 3, after 200 updates, and goes on to 10.4%" in told("base", 10.9, [50.0, 15.9, 10.4])
    assert "no epoch here has reached it; the best validation error is 40.0%" in told("base", 41.0, [50.0, 40.0, 45.0])
    assert "they agree to a point" in told("nine-layers", 89.7, [89.7])
    assert told("adam", 4.6, [4.6]) == ""  # the lecture gives no figure


def test_every_row_is_in_a_panel_and_every_panel_has_rows() -> None:
    rows = {row.name for row in tricks.EXPERIMENT.rows}
    assert rows == {name for names in tricks.PANELS.values() for name in names}
    assert set(tricks.EXPERIMENT.weights) <= rows


def test_weights_are_counted_by_size() -> None:
    counts = np.array(pictures.counted([np.array([[0.001, 0.5], [-0.5, 7.0]]), np.array([[-3.0]])]))
    assert counts.sum() == 5
    middle = pictures.BINS // 2
    assert counts[[0, middle // 2, middle, 3 * middle // 2, -1]].tolist() == [1, 1, 1, 1, 1]


def test_panels_draw_the_mean_of_the_seeds_that_reached_an_epoch() -> None:
    np.testing.assert_allclose(contrasts._mean([[4.0, 2.0, None], [6.0]]), [5.0, 2.0, np.nan])
