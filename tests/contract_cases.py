"""Every learner in each of its configurations, and runs of them on a few rows of scikit-learn's digits.

All cases are trained with the same recipe, so that most tests of a case share two compilations: the start, and chunks
of `CHUNK` epochs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pretrain import (
    CD,
    DBM,
    L1,
    PCD,
    SESM,
    Autoencoder,
    Batch,
    BernoulliRBM,
    Classifier,
    Contractive,
    DeepAutoencoder,
    Embedding,
    FastPCD,
    Gaussian,
    GaussianRBM,
    GaussianUnits,
    KLSparsity,
    Linear,
    LogisticAutoregression,
    Masking,
    Momentum,
    ParallelTempering,
    PartiallySupervised,
    Perceptron,
    RectifiedUnits,
    SaltPepper,
    SlowFeatures,
    SparsityTarget,
    SupervisedGreedy,
    UpDown,
    data,
    fit,
)
from pretrain.population import member_keys
from pretrain.progress import Progress
from pretrain.types import UNLABELLED

N_TRAIN, N_VALID, BATCH, CHUNK = 120, 60, 20, 3
UNITS, CLASSES, PIXELS = 6, 10, 64
SEEDS = (0, 1, 0)
MEMBERS = len(SEEDS)


class Case(NamedTuple):
    """A learner, the learning rate that suits it, the size of the layer it declares, and whether its rows must be
    standardised.
    """

    learner: Any
    learning_rate: float = 0.05
    size: int = UNITS
    standardise: bool = False

    def rows(self, parts: tuple[Batch, Batch]) -> tuple[Batch, Batch]:
        """The parts as the learner takes them."""
        if "some labels" in self.learner.needs:  # every third row has none
            train, valid = (p._replace(y=np.where(np.arange(len(p.y)) % 3, p.y, UNLABELLED)) for p in parts)  # type: ignore[arg-type]
            parts = train, valid
        if not self.standardise:
            return parts
        mean, deviation = parts[0].x.mean(axis=0), np.maximum(parts[0].x.std(axis=0), 0.05)
        train, valid = (part._replace(x=(part.x - mean) / deviation) for part in parts)
        return train, valid


CASES = {
    "rbm-cd1": Case(BernoulliRBM(UNITS)),
    "rbm-cd3-sampled": Case(BernoulliRBM(UNITS, sampler=CD(3), sample_visible=True)),
    "rbm-pcd": Case(BernoulliRBM(UNITS, sampler=PCD(n_chains=BATCH))),
    "rbm-fpcd": Case(BernoulliRBM(UNITS, sampler=FastPCD(n_chains=BATCH))),
    "rbm-tempering": Case(BernoulliRBM(UNITS, sampler=ParallelTempering(n_chains=BATCH, n_temperatures=4))),
    "rbm-labels": Case(BernoulliRBM(UNITS, n_classes=CLASSES)),
    "rbm-sparse": Case(BernoulliRBM(UNITS, sparsity=SparsityTarget(0.2, 0.5))),
    "rbm-gaussian": Case(GaussianRBM(UNITS), 0.01, standardise=True),
    "rbm-gaussian-learned-variance": Case(GaussianRBM(UNITS, GaussianUnits(True)), 0.003, standardise=True),
    "rbm-rectified": Case(GaussianRBM(UNITS, hidden=RectifiedUnits()), 0.005, standardise=True),
    "autoencoder": Case(Autoencoder(UNITS)),
    "autoencoder-masking": Case(Autoencoder(UNITS, corruption=Masking(0.25))),
    "autoencoder-untied-saltpepper": Case(Autoencoder(UNITS, tied=False, corruption=SaltPepper(0.1))),
    "autoencoder-untied-squared-gaussian": Case(
        Autoencoder(UNITS, tied=False, loss="squared_error", corruption=Gaussian(0.1)), 0.01
    ),
    "autoencoder-kl": Case(Autoencoder(UNITS, penalty=KLSparsity(0.2, 0.1))),
    "autoencoder-l1": Case(Autoencoder(UNITS, penalty=L1(0.1))),
    "autoencoder-contractive": Case(Autoencoder(UNITS, penalty=Contractive(0.1))),
    "sesm": Case(SESM(UNITS, n_relaxations=3), 0.01),
    "partially-supervised": Case(PartiallySupervised(Autoencoder(UNITS), CLASSES)),
    "autoregression": Case(LogisticAutoregression(PIXELS), size=PIXELS),
    "autoregression-smaller": Case(LogisticAutoregression(UNITS)),
    "supervised-greedy": Case(SupervisedGreedy(CLASSES, (UNITS,)), 0.5),
    "classifier": Case(Classifier(CLASSES, (UNITS,)), 0.5, CLASSES),
    "perceptron": Case(Perceptron(CLASSES), 0.5, CLASSES),
    "classifier-today": Case(
        Classifier(
            CLASSES,
            (UNITS,),
            activation="relu",
            output_scale=1.0,
            initialization="he",
            dropout=0.1,
            input_dropout=0.2,
        ),
        0.1,
        CLASSES,
    ),
    "deep-autoencoder": Case(DeepAutoencoder((UNITS, 4)), 0.05, 4),
    "embedding-internal": Case(Embedding(UNITS), 0.2),
    "embedding-auxiliary": Case(Embedding(UNITS, at="auxiliary", n_embedding=3)),
    "embedding-output": Case(Embedding(UNITS, at="output", n_classes=CLASSES), 0.2),
    "embedding-l1": Case(Embedding(UNITS, distance="l1"), 0.2),
    "slow-features": Case(SlowFeatures(UNITS), 0.02),
    "dbm": Case(DBM((UNITS, 4), n_chains=BATCH, sparsity=(SparsityTarget(0.2), SparsityTarget(0.1))), 0.05, 4),
    "up-down": Case(UpDown((UNITS, 4), n_classes=CLASSES), 0.05, 4),
}


def digits_in_pairs() -> tuple[Batch, Batch]:
    """A few labelled rows of the digits, each beside its nearest neighbour: for training and for validation."""
    splits = data.digits()
    some = Batch(*(a[:N_TRAIN] for a in splits.train[:2])), Batch(*(a[:N_VALID] for a in splits.valid[:2]))
    train, valid = (part._replace(pair=part.x[data.neighbours(part.x, 1)[:, 0]]) for part in some)
    return train, valid


def rates(case: Case) -> np.ndarray:
    """A learning rate a member: with `SEEDS`, members differ by seed, by rate, and by both."""
    return np.float32(case.learning_rate) * np.float32([1.0, 1.0, 0.5])


def recipe(learning_rate: Any) -> Momentum:
    return Momentum(learning_rate, switch_epoch=2.0, schedule=Linear(end=40.0, start=1.0), weight_decay=1e-4)


def run(case: Case, parts: tuple[Batch, Batch], *, epochs: int, learning_rate: Any = None, **options: Any) -> Progress:
    train, valid = case.rows(parts)
    optimizer = recipe(rates(case) if learning_rate is None else learning_rate)
    options = {"seeds": SEEDS, "chunk": CHUNK, "monitors": {"valid": valid}, **options}
    return fit.run(case.learner, optimizer, train, epochs=epochs, batch_size=BATCH, **options)


def begin(case: Case, parts: tuple[Batch, Batch], **options: Any) -> Progress:
    train, keys = case.rows(parts)[0], member_keys(SEEDS)
    return fit.begin(case.learner, recipe(rates(case)), train, batch_size=BATCH, keys=keys, **options)


def numbers(tree: Any) -> list[np.ndarray]:
    """All leaves as numpy arrays, random keys as their raw numbers."""
    keys = jax.dtypes.prng_key
    leaves = jax.tree.leaves(tree)
    return [np.asarray(jax.random.key_data(a) if jnp.issubdtype(a.dtype, keys) else a) for a in leaves]


def described(tree: Any) -> Any:
    """A tree's structure, shapes and dtypes."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one: Progress, other: Progress) -> None:
    """All that a run is and has measured is equal, bit for bit."""
    assert one.epoch == other.epoch
    assert described((one.fits, one.best)) == described((other.fits, other.best))
    for a, b in zip(numbers((one.fits, one.best)), numbers((other.fits, other.best)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.history.keys() == other.history.keys()
    for name, values in one.history.items():
        np.testing.assert_array_equal(values, other.history[name], err_msg=name)


def assert_close(one: Any, other: Any) -> None:
    """Equal but for float32 rounding (epsilon 1.2e-7) amplified by a few dozen operations and updates."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
