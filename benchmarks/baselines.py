"""Classifiers that are not networks, from scikit-learn: what a deep network of 2009 was measured against.

Each chooses its own numbers by error on the validation rows, once a row, and is fitted to the training rows alone.
Where there are no validation rows, each of its numbers must be given one value. Only the support vector machine's
kernel is computed here: in float32 and once for all costs, which scikit-learn would not. Scikit-learn is imported
where it is used: it takes a second, and most rows are networks.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from pretrain.types import Batch

BLOCK = 2_000
"""Rows whose distances to all training rows are held at once."""

Predict = Callable[[Any], np.ndarray]
"""Rows ``[rows, features]`` to labels ``[rows]``."""


class Fitted(NamedTuple):
    """Attributes: ``predict``; ``values``, the numbers that were chosen; ``tried``, every combination with its error on
    the validation rows in percent, where there are any.
    """

    predict: Predict
    values: dict[str, float]
    tried: list[dict[str, float]]


class Baseline(Protocol):
    """A frozen dataclass of the numbers to try."""

    def fit(self, train: Batch, valid: Batch | None, /) -> Fitted: ...


def _arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    assert batch.y is not None
    return np.asarray(batch.x, np.float32), np.asarray(batch.y)


def _measured(predict: Predict, valid: Batch | None) -> dict[str, float]:
    """The error on the validation rows, under its name; nothing where there are none."""
    if valid is None:
        return {}
    x, y = _arrays(valid)
    return {"valid": float(100.0 * (predict(x) != y).mean())}


def _best(tried: list[dict[str, float]]) -> dict[str, float]:
    """The first combination of the least error.

    Raises:
        ValueError: if there are several and no errors.
    """
    if len(tried) > 1 and "valid" not in tried[0]:
        raise ValueError(f"nothing is held out to choose among {tried} by: give one value of each number")
    least = min(tried, key=lambda found: found.get("valid", 0.0))
    return {name: value for name, value in least.items() if name != "valid"}


@dataclasses.dataclass(frozen=True)
class NearestNeighbours:
    """The class of most of the k nearest training rows, exactly, by Euclidean distance.

    Attributes:
        ks: numbers of neighbours to try.
    """

    ks: tuple[int, ...] = (1, 3, 5, 9)

    def fit(self, train: Batch, valid: Batch | None) -> Fitted:
        """Chooses k."""
        from sklearn import neighbors

        x, y = _arrays(train)
        models = {
            float(k): functools.partial(_blocks, neighbors.KNeighborsClassifier(k, algorithm="brute").fit(x, y).predict)
            for k in self.ks
        }
        tried = [{"k": k} | _measured(predict, valid) for k, predict in models.items()]
        values = _best(tried)
        return Fitted(models[values["k"]], values, tried)


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """Multinomial logistic regression with an L2 penalty of ``|W|^2 / (2 cost)``.

    Attributes:
        costs: to try.
        iterations: of L-BFGS at most; fewer than it takes to converge is a way of regularising too.
    """

    costs: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    iterations: int = 100

    def fit(self, train: Batch, valid: Batch | None) -> Fitted:
        """Chooses the cost."""
        from sklearn import exceptions, linear_model

        x, y = _arrays(train)
        models, tried = {}, []
        for cost in self.costs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
                models[cost] = linear_model.LogisticRegression(C=cost, max_iter=self.iterations).fit(x, y)
            tried.append({"cost": cost} | _measured(models[cost].predict, valid))
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

    def fit(self, train: Batch, valid: Batch | None) -> Fitted:
        """Chooses both numbers."""
        from sklearn import svm

        x, y = _arrays(train)
        own = squared_distances(x, x)
        others = None if valid is None else squared_distances(_arrays(valid)[0], x)
        unit = 1.0 / float(own.mean())
        models, tried = {}, []
        for gamma in self.gammas:
            kernel, seen = (None if d is None else np.exp(-gamma * unit * d) for d in (own, others))
            for cost in self.costs:
                model = svm.SVC(C=cost, kernel="precomputed", cache_size=1_000).fit(kernel, y)
                models[gamma, cost] = model
                measured = _measured(lambda _, model=model, seen=seen: model.predict(seen), valid)
                tried.append({"gamma": gamma, "cost": cost} | measured)
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
