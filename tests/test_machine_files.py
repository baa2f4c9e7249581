"""Saved generative models: what is loaded samples as what was saved, and nothing is believed unchecked."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_network import rewritten

import pretrain as pt
from pretrain.generative.dbm_params import DBMParams
from pretrain.learners.rbm import RBMParams


def drawn(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(len(shape)).normal(0.0, 0.3, shape).astype(np.float32))


def machine(visible: int = 5, hidden: int = 3, variances: int = 0) -> RBMParams:
    return RBMParams(drawn(visible, hidden), drawn(visible), drawn(hidden), drawn(variances) if variances else None)


def deep(*sizes: int) -> DBMParams:
    return DBMParams(tuple(drawn(*joined) for joined in itertools.pairwise(sizes)), tuple(drawn(n) for n in sizes))


def belief_network(n_classes: int = 2) -> pt.DBN:
    up, down = pt.Dense(drawn(6, 4), drawn(4)), pt.Dense(drawn(4, 6), drawn(6), "linear")
    return pt.DBN((up,), (down,), machine(4 + n_classes), n_classes)


MODELS = {
    "rbm": machine(),
    "learned variances beside label units": machine(variances=3),
    "dbm": deep(5, 3, 2),
    "dbn of Gaussian units, with labels": belief_network(),
    "dbn of one machine": pt.DBN((), (), machine(), 0),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_array_and_choice_comes_back(model: Any, tmp_path: Path) -> None:
    pt.save(model, tmp_path / "model.npz")
    again = pt.load(tmp_path / "model.npz")
    assert type(again) is type(model)
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    if isinstance(model, pt.DBN):
        before, after = (dbn.sample(jax.random.key(0), n=4, n_steps=2) for dbn in (model, again))
        np.testing.assert_array_equal(before.x, after.x)


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (machine(), {"machine.0.weights": np.ones((4, 3), np.float32)}, r"weights \(4, 3\), visible_bias \(5,\) and"),
        (machine(), {"machine.0.hidden_bias": None}, r"missing arrays \['machine\.0\.hidden_bias'\]"),
        (machine(), {"header": {"machine": []}}, "unexpected arrays"),
        (machine(variances=3), {"machine.0.log_variance": np.ones(6, np.float32)}, "6 variances of 5 visible units"),
        (machine(), {"header": {"machine": [{"kind": "visible layer"}]}}, r"missing arrays \['machine\.0\.bias'\]"),
        (deep(5, 3, 2), {"visible.0.bias": np.ones(4, np.float32)}, "its layers do not fit those below"),
        (deep(5, 3, 2), {"hidden.1.weights": np.ones((4, 2), np.float32)}, "its layers do not fit those below"),
        (belief_network(), {"header": {"n_classes": 1}}, r"4 units and there are 1 label units, .* has 6 visible ones"),
        (belief_network(), {"header": {"n_classes": 2.0}}, r"n_classes is 2\.0, expected a whole number"),
        (belief_network(), {"generative.0.bias": np.ones(5, np.float32)}, r"weights \(4, 6\) and bias \(5,\)"),
        (
            belief_network(),
            {"generative.0.weights": np.ones((3, 6), np.float32)},
            "its layers up and its layers down are not of the same sizes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, change: dict, message: str, tmp_path: Path) -> None:
    pt.save(model, tmp_path / "model.npz")
    with pytest.raises(ValueError, match=message):
        pt.load(rewritten(tmp_path / "model.npz", **change))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_populations_and_what_has_diverged_are_not_saved(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="take one member of the population first"):
        pt.save(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), model), tmp_path / "model.npz")
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        pt.save(jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), model), tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_trained_machine_is_kept(tmp_path: Path) -> None:
    learner = pt.DBM((4, 3), n_chains=10)
    train = pt.Batch((pt.data.digits().train.x[:40] > 0.5).astype(jnp.float32))
    done = pt.run(learner, pt.Sgd(0.01), train, epochs=1, batch_size=20)
    params = pt.member(done.params, 0)
    pt.save(params, tmp_path / "dbm.npz")
    again = pt.load(tmp_path / "dbm.npz")
    before, after = (learner.sample(p, jax.random.key(1), 3, 2) for p in (params, again))
    np.testing.assert_array_equal(before.x, after.x)
