"""From a stack to the deep Boltzmann machine and on to a classifier, against conditionals and posteriors by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbm import SIZES, arrays, as_params, assert_close, settled
from enumeration import binary
from scipy.special import expit

from pretrain import (
    DBM,
    RBM,
    Batch,
    BernoulliRBM,
    Classifier,
    Dense,
    GaussianRBM,
    GaussianUnits,
    MeanField,
    Momentum,
    Network,
    Pretrained,
    RectifiedUnits,
    Sgd,
    SoftmaxUnits,
    SparsityTarget,
    Stage,
    encode,
    fine_tune,
    load,
    log_partition,
    member,
    predict,
    pretrain,
    save,
    to_nnx,
)
from pretrain.generative import DBMParams
from pretrain.layers import compose
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


# ---------------------------------------------------------------- from a stack


def stack(*stages: tuple[RBM, int], members: int = 2) -> Pretrained:
    """As though pretrained: random parameters, every array with a member axis."""
    random, params, n = np.random.default_rng(0), [], 4
    for _, n_hidden in stages:
        shapes = (n, n_hidden), (n,), (n_hidden,)
        params.append(RBMParams(*(jnp.asarray(random.standard_normal((members, *s)), jnp.float32) for s in shapes)))
        n = n_hidden
    return Pretrained((), tuple(params), tuple(Stage(machine) for machine, _ in stages), ())


def test_stack_becomes_the_machine_whose_conditionals_are_its_geometric_means() -> None:
    """Of three layers, each conditional is the normalised square root of the product of the two models'."""
    kinds = [BernoulliRBM(n, doubled=d) for n, d in ((3, "up"), (5, "both"), (2, "down"))]  # type: ignore[arg-type]
    pretrained = stack(*((kind, kind.n_hidden) for kind in kinds))
    params = DBM.from_stack(pretrained)
    assert params.n_hidden == (3, 5, 2)
    one, machines = member(params, 1), [member(p, 1) for p in pretrained.params]
    random = np.random.default_rng(1)
    states = [jnp.asarray(random.integers(2, size=(6, n)), jnp.float32) for n in (4, 3, 5, 2)]
    for layer in (1, 2):
        below = kinds[layer - 1].layer(machines[layer - 1])(states[layer - 1])
        above = kinds[layer].decoder(machines[layer])(states[layer + 1])
        on, off = np.sqrt(below * above), np.sqrt((1.0 - below) * (1.0 - above))
        total = states[layer - 1] @ one.weights[layer - 1] + states[layer + 1] @ one.weights[layer].T
        np.testing.assert_allclose(expit(total + one.biases[layer]), on / (on + off), rtol=1e-4, atol=1e-6)
    bottom = kinds[0].decoder(machines[0])(states[1])
    top = kinds[2].layer(machines[2])(states[2])
    np.testing.assert_allclose(expit(states[1] @ one.weights[0].T + one.biases[0]), bottom, rtol=1e-5)
    np.testing.assert_allclose(expit(states[2] @ one.weights[2] + one.biases[3]), top, rtol=1e-5)
    assert_close(DBM.from_stack(pretrained, 1), one, rtol=0.0)
    single = DBM.from_stack(stack((BernoulliRBM(3), 3)), 0)
    assert (len(single.weights), len(single.biases)) == (1, 2)


def test_label_units_of_the_highest_machine_are_left_out_as_a_label_not_known() -> None:
    """What h2 hears of the label: the mean of ``y U`` over classes, weighed by what the labels' biases say of them."""
    told = BernoulliRBM(2, doubled="down", n_classes=3)
    plain = stack((BernoulliRBM(3, doubled="up"), 3), (BernoulliRBM(2, doubled="down"), 2))
    random = np.random.default_rng(4)
    labels, biases = random.standard_normal((2, 3, 2)), random.standard_normal((2, 3))
    lower, upper = plain.params
    joined = upper._replace(
        weights=jnp.concatenate([upper.weights, labels], axis=1),
        visible_bias=jnp.concatenate([upper.visible_bias, biases], axis=1),
    )
    stages = (plain.stages[0], Stage(told))
    params = DBM.from_stack(plain._replace(params=(lower, joined), stages=stages))
    expected = DBM.from_stack(plain)
    assert_close(params.weights, expected.weights, rtol=0.0)
    assert_close(params.biases[:2], expected.biases[:2], rtol=0.0)
    for index in range(2):
        heard = sum(p * row for p, row in zip(np.exp(biases[index]), labels[index], strict=True))
        heard /= np.exp(biases[index]).sum()
        np.testing.assert_allclose(params.biases[2][index] - expected.biases[2][index], heard, rtol=1e-4, atol=1e-6)


def test_stacks_that_are_no_such_machine_are_refused_by_name() -> None:
    up, down = BernoulliRBM(3, doubled="up"), BernoulliRBM(2, doubled="down")
    refused: list[tuple[str, list[Any]]] = [
        (r"stage 1 of 2 must be an RBM with doubled='up'.*got doubled='neither'", [BernoulliRBM(3), down]),
        (r"stage 2 of 3 must be an RBM with doubled='both'.*got doubled='up'", [up, up, down]),
        (r"stage 1 of 1 must be an RBM with doubled='neither'.*got doubled='up'", [up]),
        ("got Classifier as stage 2", [up, Classifier(3)]),
        ("got visible GaussianUnits in stage 2", [up, GaussianRBM(2, doubled="down")]),
        ("got hidden GaussianUnits in stage 1", [RBM(3, hidden=GaussianUnits())]),
        (r"visible units of a deep Boltzmann machine.*got SoftmaxUnits\(n_states=2\)", [RBM(3, SoftmaxUnits(2))]),
        (
            "only the highest RBM of at least two, doubled 'down', may have label units; stage 1 of 1 has 3",
            [BernoulliRBM(3, n_classes=3)],
        ),
    ]
    for message, kinds in refused:
        with pytest.raises(ValueError, match=message):
            DBM.from_stack(stack(*((kind, 3) for kind in kinds)))


def test_machines_that_cannot_be_are_refused() -> None:
    two, one = (as_params(*arrays(SIZES[depth])) for depth in (2, 1))
    refused: dict[str, Any] = {
        r"n_hidden must be a tuple.*got 3": lambda: DBM(3),  # type: ignore[arg-type]
        r"n_hidden\[1\] must be a whole number": lambda: DBM((3, 0)),
        "a target for each of the 2 hidden layers; got 1": lambda: DBM((3, 2), sparsity=(SparsityTarget(),)),
        r"got GaussianUnits\(learn_variance=True\)": lambda: DBM((3,), GaussianUnits(True)),
        r"got RectifiedUnits\(\)": lambda: DBM((3,), RectifiedUnits()),
        r"layers of \(3, 2\), but DBM was given n_hidden=\(3,\)": lambda: DBM((3,)).discriminative_layers(two),
        "needs at least two hidden layers; got one": lambda: DBM((3,)).discriminative_layers(one),
    }
    for message, build in refused.items():
        with pytest.raises(ValueError, match=message):
            build()


# ---------------------------------------------------------------- to a classifier


def test_discriminative_layers_compute_the_mean_field() -> None:
    """With two hidden layers, all posteriors: of h2 beside x, of h1, and of h2 again."""
    x = jnp.asarray(binary(4), jnp.float32)
    params = as_params(*arrays(SIZES[2], 1.5, seed=7))
    dbm = DBM((3, 2), tolerance=1e-6, max_steps=100)
    first, second = dbm.mean_field(params, x).means

    @jax.jit
    def outputs(params: DBMParams, x: Any) -> Any:
        layers = dbm.discriminative_layers(params)
        many = layers[0](jnp.tile(x, (70, 1)))  # in blocks
        short = dbm.discriminative_layers(params, steps=1)[0](x)
        return [compose(layers[:depth], x) for depth in (1, 2, 3)], many, short, layers[0](x[3]), dbm.layer(params)(x)

    (beside, lower, upper), many, short, one, up = outputs(params, x)
    np.testing.assert_allclose(beside, np.concatenate([x, second], axis=1), atol=1e-5)
    np.testing.assert_allclose(lower, first, atol=1e-5)
    np.testing.assert_allclose(upper, second, atol=1e-5)
    np.testing.assert_allclose(many, np.tile(beside, (70, 1)), atol=1e-6)
    np.testing.assert_allclose(one, beside[3], atol=1e-6)
    assert np.abs(short - beside).max() > 1e-3
    assert np.abs(up - second).max() > 0.05  # the pass up alone is not it


def test_discriminative_layers_of_a_deeper_machine_go_on_with_the_doubled_pass_up() -> None:
    values = arrays(SIZES[3], seed=7)
    both = jax.tree.map(lambda a: jnp.stack([0.5 * a, a]), as_params(*values))
    x = jnp.asarray(binary(3), jnp.float32)

    @jax.jit
    def outputs(both: DBMParams, x: Any) -> Any:
        layers = member(DBM((3, 2, 2), max_steps=60).discriminative_layers(both), 1)
        return [compose(layers[:depth], x) for depth in (1, 2, 3, 4)]

    beside, lower, middle, upper = outputs(both, x)
    means = settled(*values, np.asarray(x))
    np.testing.assert_allclose(beside, np.concatenate([x, means[1]], axis=1), atol=1e-5)
    np.testing.assert_allclose(lower, means[0], atol=1e-5)
    up = expit(2.0 * means[0] @ values[0][1] + values[1][2])
    np.testing.assert_allclose(middle, up, atol=1e-5)
    np.testing.assert_allclose(upper, expit(up @ values[0][2] + values[1][3]), atol=1e-5)


def test_mean_field_layer_stays_fixed_but_passes_gradients_to_its_input() -> None:
    layer = DBM((3, 2)).discriminative_layers(as_params(*arrays(SIZES[2])), steps=5)[0]
    assert isinstance(layer, MeanField)
    x = jnp.asarray(binary(4)[5:8], jnp.float32)

    @jax.jit
    def slopes(layer: MeanField, x: Any) -> Any:
        squares = lambda layer, x: jnp.square(layer(x)).sum()  # noqa: E731
        steps = 1e-2 * jnp.eye(4)
        differences = [(jnp.square(layer(x + s)) - jnp.square(layer(x - s))).sum(axis=1) / 2e-2 for s in steps]
        return *jax.grad(squares, argnums=(0, 1))(layer, x), jnp.stack(differences, axis=1)

    own, slope, differences = slopes(layer, x)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(own))
    np.testing.assert_allclose(slope, differences, atol=2e-3)
    assert np.abs(slope - 2.0 * x).max() > 0.01  # not of x alone


@pytest.mark.slow
def test_stack_is_trained_together_and_fine_tuned_saved_and_loaded(tmp_path: Path) -> None:
    """Rows of two kinds: greedily, then as one machine, then as a classifier on its mean field."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (random.random((60, 4)) < np.where(y[:, None] == 1, [0.9, 0.8, 0.2, 0.1], [0.1, 0.3, 0.8, 0.9])).astype("f4")
    rows, seeds = Batch(jnp.asarray(x), jnp.asarray(y)), (0, 1)
    machines = BernoulliRBM(3, doubled="up", initial_scale=0.3), BernoulliRBM(2, doubled="down")
    pretrained = pretrain([Stage(m, Momentum(0.2), 8, 20) for m in machines], rows, seeds=seeds)
    dbm = DBM((3, 2), n_chains=20)
    start = DBM.from_stack(pretrained)
    before = [member(start, index) for index in (0, 1)]
    together = fine_tune((), Stage(dbm, Sgd(0.3), 40, 20), rows, valid=rows, seeds=seeds, params=start)
    for old, new in zip(before, (member(together.params, index) for index in (0, 1)), strict=True):
        bounds = [dbm.log_probability_bound(p, rows.x, log_partition(dbm.as_rbm(p))).mean() for p in (old, new)]
        assert bounds[1] > bounds[0] + 0.1
    layers = dbm.discriminative_layers(together.params, steps=4)
    tuned = fine_tune(layers, Stage(Classifier(2), Sgd(1.0), 20, 20), rows, valid=rows, seeds=seeds)
    assert (tuned.history["valid/error"][-1] < 20.0).all()
    network = member(tuned.params, 1)
    assert [type(layer) for layer in network.layers] == [MeanField, Dense, Dense, Dense]
    assert_close(network.layers[0], member(layers[0], 1), rtol=0.0)
    save(network, tmp_path / "network.npz")
    loaded = load(tmp_path / "network.npz")
    assert isinstance(loaded, Network)
    assert loaded.layers[0].steps == 4
    np.testing.assert_array_equal(predict(loaded, rows.x), predict(network, rows.x))
    np.testing.assert_allclose(to_nnx(loaded)(rows.x), network(rows.x), atol=1e-5)
    assert encode(loaded, rows.x, depth=1).shape == (60, 6)
    damaged = Network((loaded.layers[0].replace(n_second=5), *loaded.layers[1:]), head=True)
    assert damaged.layers[0].n_out == 6  # h2 has two units, whatever the file says
