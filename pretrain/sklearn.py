"""Estimators in scikit-learn's conventions: an RBM as a transformer, and a pretrained network as a classifier.

Both are trained by the package's one loop (`pretrain.fit.run`, `pretrain.stack`) and take part in pipelines, grid
searches and cross-validation::

    from pretrain.sklearn import PretrainedClassifier, RBMTransformer

    make_pipeline(RBMTransformer(64, random_state=0), LogisticRegression()).fit(X, y)
    PretrainedClassifier((100, 100), pretraining="denoising", random_state=0).fit(X, y).predict(X)

Bernoulli units and cross-entropies take numbers in [0, 1]. With ``scaling="minmax"`` each feature is mapped there from
the range it had in ``fit``, linearly: a later value beyond that range is mapped beyond [0, 1], and nothing is clipped.
With ``scaling=None`` the numbers are taken as they are, and those out of [0, 1] are refused where it matters.

Every new shape of the training data compiles new programs, a second or so each; rows to be transformed or predicted are
padded to a power of two, so that few shapes occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random import RandomState
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pretrain.checks import check_examples, check_sizes
from pretrain.corruption import Masking
from pretrain.data.splits import stratified_rows
from pretrain.fit import run
from pretrain.learners.autoencoder import Autoencoder
from pretrain.learners.classifier import Classifier
from pretrain.learners.rbm import BernoulliRBM, RBMParams, free_energy
from pretrain.network import Network, encode
from pretrain.optim import Momentum, Sgd
from pretrain.population import member
from pretrain.progress import Progress
from pretrain.rows import chosen
from pretrain.samplers import CD, PCD
from pretrain.stack import pretrain
from pretrain.stage import Stage
from pretrain.tuning import fine_tune
from pretrain.types import Batch

Seed = int | RandomState | None

PRETRAINING = ("rbm", "autoencoder", "denoising", None)


class _Base(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What both share: the scaling of the inputs, and codes of them."""

    scaling: str | None
    random_state: Seed

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # type: ignore[union-attr]
        return tags

    def _learn_scaling(self, X: np.ndarray) -> np.ndarray:
        """Learns the features' ranges and returns the scaled rows."""
        if self.scaling not in ("minmax", None):
            raise ValueError(f"scaling must be 'minmax' or None; got {self.scaling!r}")
        if self.scaling == "minmax":
            self.data_min_, self.data_max_ = X.min(axis=0), X.max(axis=0)
        return self._scaled(X)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        if self.scaling == "minmax":
            span = self.data_max_ - self.data_min_
            X = (X - self.data_min_) / np.where(span > 0, span, 1.0)
        return X.astype(np.float32)

    def _seen(self, X: Any) -> np.ndarray:
        """Rows of a fitted estimator as it sees them."""
        check_is_fitted(self)
        return self._scaled(np.asarray(validate_data(self, X, dtype=np.float64, reset=False)))

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))


def _batch(x: np.ndarray, y: np.ndarray | None = None) -> Batch:
    return Batch(x, y)  # type: ignore[arg-type]


def _padded(x: np.ndarray) -> np.ndarray:
    """Rows of zeros added up to a power of two."""
    return np.pad(x, ((0, (1 << (len(x) - 1).bit_length()) - len(x)), (0, 0)))


def _batch_size(n_rows: int, most: int) -> int:
    """Rows an update: ``most``, or fewer where one more update then leaves fewer of the rows out of a pass."""
    check_sizes(batch_size=most)
    even = n_rows // -(-n_rows // most)
    return even if n_rows % even < n_rows % most else most


def _check_finite(progress: Progress, what: str, learning_rate: float) -> None:
    if not progress.finite.all():
        raise ValueError(f"{what} diverged: lower its learning rate, {learning_rate}")


class RBMTransformer(_Base):
    """The hidden probabilities of a Bernoulli restricted Boltzmann machine trained by contrastive divergence.

    Args:
        n_components: hidden units.
        learning_rate: step size.
        momentum: of the updates; give 0 with ``persistent=True``, or parameters and chains swing about each other.
        weight_decay: L2 penalty on the weights.
        batch_size: rows an update, at most: where it does not divide the rows, they are divided into one update more if
            that leaves fewer of them out of a pass.
        n_iter: passes over the rows in `fit`.
        k: Gibbs steps an update.
        persistent: whether ``batch_size`` chains (of the first call) go on from update to update (PCD) or restart at
            the data (CD).
        scaling: ``minmax`` or None, see `pretrain.sklearn`.
        random_state: a seed, a generator, or None for another result every time.

    Attributes:
        components_: ``[n_components, n_features]`` weights.
        intercept_hidden_: ``[n_components]``.
        intercept_visible_: ``[n_features]``.
        data_min_: ``[n_features]``, with ``scaling="minmax"``.
        data_max_: likewise.
        n_iter_: passes made.
    """

    def __init__(
        self,
        n_components: int = 64,
        *,
        learning_rate: float = 0.1,
        momentum: float = 0.5,
        weight_decay: float = 0.0,
        batch_size: int = 10,
        n_iter: int = 50,
        k: int = 1,
        persistent: bool = False,
        scaling: str | None = "minmax",
        random_state: Seed = None,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.k = k
        self.persistent = persistent
        self.scaling = scaling
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> RBMTransformer:
        """Learns the ranges of the features and a new machine from ``X`` ``[rows, n_features]``; ``y`` is ignored.

        Raises:
            ValueError: if the data or an argument does not suit, or the training diverged.
        """
        x = self._learn_scaling(np.asarray(validate_data(self, X, dtype=np.float64)))
        stage = Stage(*self._parts(self.batch_size), self.n_iter, _batch_size(len(x), self.batch_size))
        return self._keep(pretrain([stage], _batch(x), seeds=[self._seed()]).progress[0])

    def partial_fit(self, X: Any, y: Any = None) -> RBMTransformer:
        """One more pass, over these rows only; the first call begins a new machine, after `fit` it goes on from there.

        The ranges of the features are those of the first rows.

        Raises:
            ValueError: as `fit`; or if later rows leave these ranges, for training takes numbers in [0, 1].
        """
        first = not hasattr(self, "components_")
        rows = np.asarray(validate_data(self, X, dtype=np.float64, reset=first))
        x = self._learn_scaling(rows) if first else self._scaled(rows)
        if self.scaling == "minmax" and (x.min() < 0 or x.max() > 1):
            raise ValueError(
                f"scaled rows must lie in [0, 1], the range of the first rows; got {x.min():.4g} to {x.max():.4g}: "
                "scale the features yourself and pass scaling=None"
            )
        start: dict[str, Any] = {"epochs": 1, "seeds": [self._seed()]}
        if not first:
            fits, key = self._carried
            fits = fits._replace(key=jax.random.wrap_key_data(key))
            start = {"epochs": self.n_iter_ + 1, "resume": Progress(self.n_iter_, fits, None, {}, 0.0)}
        there = () if first else jax.tree.leaves(self._carried[0].state)
        parts = self._parts(there[0].shape[1] if there else self.batch_size)
        return self._keep(run(*parts, _batch(x), batch_size=_batch_size(len(x), self.batch_size), **start))

    def _parts(self, chains: int) -> tuple[Any, Momentum]:
        sampler = PCD(self.k, n_chains=chains) if self.persistent else CD(self.k)
        optimizer = Momentum(self.learning_rate, self.momentum, self.momentum, weight_decay=self.weight_decay)
        return BernoulliRBM(self.n_components, sampler=sampler), optimizer

    def _keep(self, progress: Progress) -> RBMTransformer:
        """What a training came to; and all it needs to go on, as plain arrays."""
        _check_finite(progress, "the training", self.learning_rate)
        fits, key = progress.fits, jax.random.key_data(progress.fits.key)
        self._carried = jax.device_get((fits._replace(key=()), key))
        params = member(self._carried[0].params, 0)
        self.components_, self.intercept_hidden_ = params.weights.T, params.hidden_bias
        self.intercept_visible_, self.n_iter_ = params.visible_bias, progress.epoch
        return self

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    @property
    def _params(self) -> RBMParams:
        return RBMParams(self.components_.T, self.intercept_visible_, self.intercept_hidden_)  # type: ignore[arg-type]

    def _seen(self, X: Any) -> np.ndarray:
        x = super()._seen(X)
        if self.scaling is None:
            check_examples(x, "X", inputs="unit")
        return x

    def transform(self, X: Any) -> np.ndarray:
        """The probability of each hidden unit to be on: ``[rows, n_components]`` float32."""
        x = self._seen(X)
        network = Network((BernoulliRBM(self.n_components).layer(self._params),))
        return encode(network, _padded(x))[: len(x)]

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the free energy of each row in nats: its log-likelihood but for a constant of the machine."""
        x = self._seen(X)
        return -np.asarray(_free_energy(self._params, jnp.asarray(_padded(x))))[: len(x)]


_free_energy = jax.jit(free_energy)


class PretrainedClassifier(ClassifierMixin, _Base):
    """A network of sigmoid layers under a softmax, pretrained layer by layer and then fine-tuned.

    Args:
        hidden_layer_sizes: units of each hidden layer, from the bottom up.
        pretraining: of each layer: ``rbm``, ``autoencoder``, ``denoising``, or None for a random beginning.
        pretraining_learning_rate: step size of the pretraining.
        pretraining_epochs: passes over the rows for each layer.
        corruption: share of the inputs that a denoising autoencoder has set to zero.
        learning_rate: step size of the fine-tuning.
        weight_decay: L2 penalty on the weights, in the fine-tuning.
        epochs: passes over the rows in the fine-tuning, at most.
        batch_size: rows an update, at most, as of `RBMTransformer`.
        n_iter_no_change: the fine-tuning ends once more than so many epochs brought no smaller error on the validation
            rows, and keeps the network that did best on them; None trains on all rows for all epochs. On a few hundred
            rows give it 50 or more: the error may stand still for long before it falls.
        validation_fraction: share of the rows, at most half, of every class alike, that are held out for that; a
            class of one row keeps it for training.
        scaling: ``minmax`` or None, see `pretrain.sklearn`.
        random_state: a seed, a generator, or None for another result every time.

    Attributes:
        classes_: ``[n_classes]`` labels.
        network_: the `pretrain.Network`, of scaled inputs; `pretrain.save` keeps it.
        n_iter_: epochs of fine-tuning.
        loss_curve_: mean cross-entropy of the minibatches, by epoch.
        validation_scores_: accuracy on the validation rows, by epoch, where there are any.
        data_min_: ``[n_features]``, with ``scaling="minmax"``.
        data_max_: likewise.
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (100,),
        *,
        pretraining: str | None = "rbm",
        pretraining_learning_rate: float = 0.05,
        pretraining_epochs: int = 20,
        corruption: float = 0.25,
        learning_rate: float = 0.5,
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int = 20,
        n_iter_no_change: int | None = None,
        validation_fraction: float = 0.1,
        scaling: str | None = "minmax",
        random_state: Seed = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.pretraining = pretraining
        self.pretraining_learning_rate = pretraining_learning_rate
        self.pretraining_epochs = pretraining_epochs
        self.corruption = corruption
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.scaling = scaling
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PretrainedClassifier:
        """Learns from ``X`` ``[rows, n_features]`` and labels ``y`` ``[rows]`` of any kind. -1 is a class like any
        other.

        Raises:
            ValueError: if the data or an argument does not suit, or a training diverged.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if isinstance(self.hidden_layer_sizes, Integral):
            raise ValueError(f"hidden_layer_sizes must be a sequence; got {self.hidden_layer_sizes}: write (units,)")
        sizes, seed = tuple(self.hidden_layer_sizes), self._seed()
        rows = _batch(self._learn_scaling(X), labels.astype(np.int32))
        train, valid = self._split(rows, seed)
        batch_size = _batch_size(len(train.x), self.batch_size)

        layers = ()
        if self.pretraining is not None and sizes:
            optimizer = Momentum(self.pretraining_learning_rate)
            stages = [Stage(self._learner(n), optimizer, self.pretraining_epochs, batch_size) for n in sizes]
            pretrained = pretrain(stages, train._replace(y=None), seeds=[seed])
            for progress in pretrained.progress:
                _check_finite(progress, "the pretraining", self.pretraining_learning_rate)
            layers = pretrained.layers
        n_hidden, scale = ((), 0.0) if layers else (sizes, 1.0)
        learner: Any = Classifier(len(self.classes_), n_hidden, output_scale=scale)
        optimizer = Sgd(self.learning_rate, weight_decay=self.weight_decay)
        stage = Stage(learner, optimizer, self.epochs, batch_size, self.n_iter_no_change)
        progress = fine_tune(layers, stage, train, valid=valid, seeds=[seed])
        _check_finite(progress, "the fine-tuning", self.learning_rate)
        self.network_ = member(progress.params, 0)
        self.n_iter_, self.loss_curve_ = progress.epoch, progress.history["loss"][:, 0]
        if valid is not None:
            self.validation_scores_ = 1.0 - progress.history["valid/error"][:, 0] / 100.0
        return self

    def _learner(self, n_hidden: int) -> Any:
        match self.pretraining:
            case "rbm":
                return BernoulliRBM(n_hidden)
            case "autoencoder":
                return Autoencoder(n_hidden)
            case "denoising":
                return Autoencoder(n_hidden, corruption=Masking(self.corruption))
        raise ValueError(f"pretraining must be one of {PRETRAINING}; got {self.pretraining!r}")

    def _split(self, rows: Batch, seed: int) -> tuple[Batch, Batch | None]:
        """Training rows, and validation rows: of every class its share, but of one with a single row."""
        if self.n_iter_no_change is None:
            return rows, None
        if not 0.0 < self.validation_fraction <= 0.5:
            raise ValueError(f"validation_fraction must lie in (0, 0.5]; got {self.validation_fraction}")
        labels = np.asarray(rows.y)
        several = np.flatnonzero(np.bincount(labels)[labels] > 1)
        if len(several) == 0:
            raise ValueError(
                f"n_samples={len(labels)} in {len(self.classes_)} classes, none of them of two rows, leave no row for "
                "validation: give more, or n_iter_no_change=None"
            )
        size = max(1, round(self.validation_fraction * len(several)))
        held_out = several[stratified_rows(labels[several], (size,), seed, fair=True)[1]]
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        return chosen(rows, rest), chosen(rows, held_out)  # type: ignore[arg-type]

    @property
    def _n_features_out(self) -> int:
        self._check_hidden()
        return tuple(self.hidden_layer_sizes)[-1]

    def _check_hidden(self) -> None:
        if not tuple(self.hidden_layer_sizes):
            raise ValueError("hidden_layer_sizes=() has no hidden layer, whose codes these would be")

    def _logits(self, X: Any) -> np.ndarray:
        x = self._seen(X)
        return encode(self.network_, _padded(x), depth=len(self.network_.layers))[: len(x)]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self._logits(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each label, in the order of ``classes_``: ``[rows, n_classes]`` float32."""
        return softmax(self._logits(X), axis=1)

    def transform(self, X: Any) -> np.ndarray:
        """The codes of the last hidden layer: ``[rows, units]`` float32.

        Raises:
            ValueError: if there is none.
        """
        x = self._seen(X)
        self._check_hidden()
        return encode(self.network_, _padded(x))[: len(x)]
