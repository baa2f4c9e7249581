"""Deep autoencoders: the shapes of the mirror, and unrolled stacks against passes up and down written in numpy."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from pretrain import (
    Batch,
    BernoulliRBM,
    Classifier,
    DeepAutoencoder,
    Dense,
    Network,
    Pretrained,
    Sgd,
    Stage,
    member,
    unroll,
)
from pretrain.learners.rbm import RBMParams

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_deep_autoencoder_mirrors_its_encoder() -> None:
    data = Batch(jnp.full((3, 7), 0.5))
    params, state = jax.eval_shape(DeepAutoencoder((5, 3)).init, jax.random.key(0), data)
    assert state == ()
    assert [layer.weights.shape for layer in params.encoder] == [(7, 5), (5, 3)]
    assert [layer.weights.shape for layer in params.decoder] == [(3, 5), (5, 7)]
    assert [layer.bias.shape[0] for layer in (*params.encoder, *params.decoder)] == [5, 3, 5, 7]
    assert params.decoder[-1].activation == "sigmoid"
    linear, _ = jax.eval_shape(DeepAutoencoder((5, 3), loss="squared_error").init, jax.random.key(0), data)
    assert linear.decoder[-1].activation == "linear"


def test_unrolled_stack_is_a_mean_field_pass_up_and_down() -> None:
    """A population of two stacks of RBMs with arbitrary parameters; and the loss of the unrolled network by hand."""
    random, sizes, members = np.random.default_rng(0), (6, 4, 3), 2

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(random.standard_normal((members, *shape)), jnp.float32)

    params = tuple(RBMParams(normal(n, m), normal(n), normal(m)) for n, m in itertools.pairwise(sizes))
    layers = tuple(Dense(p.weights, p.hidden_bias, "sigmoid") for p in params)
    stages = tuple(Stage(BernoulliRBM(n), Sgd(), epochs=1) for n in sizes[1:])
    unrolled = unroll(Pretrained(layers, params, stages, ()))
    x = random.random((9, 6))
    for m in range(members):
        (w1, b1, c1), (w2, b2, c2) = (tuple(np.asarray(a[m], np.float64) for a in p[:3]) for p in params)
        code = expit(expit(x @ w1 + c1) @ w2 + c2)
        reconstruction = expit(expit(code @ w2.T + b2) @ w1.T + b1)
        network, rows = member(unrolled, m), jnp.asarray(x, jnp.float32)
        np.testing.assert_allclose(network.encode(rows), code, rtol=1e-5)
        np.testing.assert_allclose(network.reconstruct(rows), reconstruction, rtol=1e-5)
        measures = DeepAutoencoder(sizes[1:]).evaluate(network, Batch(rows), jax.random.key(0))
        entropy = -(x * np.log(reconstruction) + (1 - x) * np.log1p(-reconstruction)).sum(axis=1).mean()
        np.testing.assert_allclose(measures["loss"], entropy, rtol=1e-5)
        np.testing.assert_allclose(
            measures["squared_error"], np.square(x - reconstruction).sum(axis=1).mean(), rtol=1e-5
        )


def test_unroll_refuses_a_learner_without_decoder() -> None:
    stage = Stage(Classifier(2), Sgd(), epochs=1)
    layer = Dense(jnp.zeros((1, 4, 2)), jnp.zeros((1, 2)), "linear")
    with pytest.raises(ValueError, match="Classifier learns no decoder"):
        unroll(Pretrained((layer,), (Network((layer,)),), (stage,), ()))


def test_what_is_unrolled_has_the_layers_that_are_declared() -> None:
    params, _ = DeepAutoencoder((5, 3)).init(jax.random.key(0), batch := Batch(jnp.full((2, 7), 0.5)))
    for other in (DeepAutoencoder((5, 4)), DeepAutoencoder((5, 3), code_activation="linear")):
        with pytest.raises(ValueError, match=r"layers of \(5, 3\) and a sigmoid code, but .*they must agree"):
            other.gradient(params, (), batch, jax.random.key(1))
