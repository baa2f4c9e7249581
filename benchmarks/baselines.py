"""Classifiers that are not networks, from scikit-learn: what a deep network of 2009 was measured against.

Each chooses its own numbers by error on the validation rows, once a row, and is fitted to the training rows alone. Only
the support vector machine's kernel is computed here: in float32 and once for all costs, which scikit-learn would not.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn import linear_model, neighbors, svm
from sklearn.exceptions import ConvergenceWarning

from pretrain.types import Batch

BLOCK = 2_000
"""Rows whose distances to all training rows are held at once."""

Predict = Callable[[Any], np.ndarray]
"""Rows ``[rows, features]`` to labels ``[rows]``."""


class Fitted(NamedTuple):
    """Attributes: ``predict``; ``values``, the numbers that were chosen; ``tried``, every combination with its error on
    the validation rows in percent.
    """

    predict: Predict
    values: dict[str, float]
    tried: list[dict[str, float]]


class Baseline(Protocol):
    """A frozen dataclass of the numbers to try."""

    def fit(self, train: Batch, valid: Batch, /) -> Fitted: ...


def _arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    assert batch.y is not None
    return np.asarray(batch.x, np.float32), np.asarray(batch.y)


def _error(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(100.0 * (predicted != labels).mean())


def _best(tried: list[dict[str, float]]) -> dict[str, float]:
    """The first combination of the least error."""
    least = min(tried, key=lambda found: found["valid"])
    return {name: value for name, value in least.items() if name != "valid"}


@dataclasses.dataclass(frozen=True)
class NearestNeighbours:
    """The class of most of the k nearest training rows, exactly, by Euclidean distance.

    Attributes:
        ks: numbers of neighbours to try.
    """

    ks: tuple[int, ...] = (1, 3, 5, 9)

    def fit(self, train: Batch, valid: Batch) -> Fitted:
        """Chooses k."""
        (x, y), (valid_x, valid_y) = _arrays(train), _arrays(valid)
        models = {k: neighbors.KNeighborsClassifier(k, algorithm="brute").fit(x, y) for k in self.ks}
        tried = [{"k": float(k), "valid": _error(_blocks(m.predict, valid_x), valid_y)} for k, m in models.items()]
        values = _best(tried)
        return Fitted(lambda x: _blocks(models[int(values["k"])].predict, x), values, tried)


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """Multinomial logistic regression with an L2 penalty of ``|W|^2 / (2 cost)``.

    Attributes:
        costs: to try.
        iterations: of L-BFGS at most; fewer than it takes to converge is a way of regularising too.
    """

    costs: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    iterations: int = 100

    def fit(self, train: Batch, valid: Batch) -> Fitted:
        """Chooses the cost."""
        (x, y), (valid_x, valid_y) = _arrays(train), _arrays(valid)
        models, tried = {}, []
        for cost in self.costs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                models[cost] = linear_model.LogisticRegression(C=cost, max_iter=self.iterations).fit(x, y)
            tried.append({"cost": cost, "valid": _error(models[cost].predict(valid_x), valid_y)})
        values = _best(tried)
        return Fitted(lambda x: models[values["cost"]].predict(np.asarray(x, np.float32)), values, tried)


@dataclasses.dataclass(frozen=True)
class SVM:
    """A support vector machine with the kernel ``exp(-gamma |x - x'|^2)``, one against one.

    Attributes:
        costs: to try.
        gammas: to try, in units of one over the mean squared distance of two training rows.
    """

    costs: tuple[float, ...] = (3.0, 30.0)
    gammas: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)

    def fit(self, train: Batch, valid: Batch) -> Fitted:
        """Chooses both numbers."""
        (x, y), (valid_x, valid_y) = _arrays(train), _arrays(valid)
        own, others = squared_distances(x, x), squared_distances(valid_x, x)
        unit = 1.0 / float(own.mean())
        models, tried = {}, []
        for gamma in self.gammas:
            kernel, valid_kernel = np.exp(-gamma * unit * own), np.exp(-gamma * unit * others)
            for cost in self.costs:
                model = svm.SVC(C=cost, kernel="precomputed", cache_size=1_000).fit(kernel, y)
                models[gamma, cost] = model
                tried.append({"gamma": gamma, "cost": cost, "valid": _error(model.predict(valid_kernel), valid_y)})
        values = _best(tried)
        model, scale = models[values["gamma"], values["cost"]], values["gamma"] * unit

        def predict(rows: Any) -> np.ndarray:
            return _blocks(lambda block: model.predict(np.exp(-scale * squared_distances(block, x))), rows)

        return Fitted(predict, values, tried)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``|a_i - b_j|^2`` of rows, ``[rows of a, rows of b]``, by a matrix product of centred rows."""
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    total = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.maximum(total, 0.0)


def _blocks(function: Predict, x: Any) -> np.ndarray:
    """A function of rows, block by block, so that their distances to all training rows are never all held."""
    x = np.asarray(x, np.float32)
    return np.concatenate([function(x[first : first + BLOCK]) for first in range(0, len(x), BLOCK)])
