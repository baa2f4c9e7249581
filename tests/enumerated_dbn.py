"""RBMs with label units, and deep belief networks on them, small enough to be enumerated in float64."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from enumeration import binary
from scipy.special import log_expit, logsumexp
from scipy.stats import chi2

from pretrain import Pretrained, Sgd, Stage
from pretrain.generative import DBN
from pretrain.layers import Dense
from pretrain.learners.rbm import RBM, RBMParams


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


def stack(learners: tuple[Any, ...], members: int = 2) -> Pretrained:
    """An untrained stack of machines on four features; what is no machine has no parameters."""
    params, n_in = [], 4
    for learner in learners:
        own = [machine(n_in + getattr(learner, "n_classes", 0), learner.n_hidden, 0.5, seed) for seed in range(members)]
        params.append(single(jax.tree.map(lambda *a: np.stack(a), *own)) if isinstance(learner, RBM) else ())
        n_in = learner.n_hidden
    return Pretrained((), tuple(params), tuple(Stage(learner, Sgd(0.1), 1) for learner in learners), ())
