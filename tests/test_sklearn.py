"""The estimators: scikit-learn's own checks, and what a user does with them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM as SklearnRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import pretrain as pt
from pretrain import sklearn
from pretrain.sklearn import PretrainedClassifier, RBMTransformer

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = [  # one machine, so that its programs are compiled once for both
    RBMTransformer(4, n_iter=2, batch_size=20),
    PretrainedClassifier((4,), pretraining_epochs=2, epochs=15, learning_rate=2.0),
]
NAMES = np.array(["zero", "one", "two"])


@pytest.mark.slow
@parametrize_with_checks(SMALL)
def test_follows_scikit_learns_conventions(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """120 pictures of three digits, grey levels 0 to 16, and their names."""
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:120], NAMES[y[:120]]


@pytest.fixture(scope="module")
def machine(digits: tuple[np.ndarray, np.ndarray]) -> RBMTransformer:
    return RBMTransformer(8, n_iter=30, random_state=0).fit(digits[0])


def test_codes_and_scores_are_those_of_scikit_learns_machine_with_the_same_weights(
    digits: tuple[np.ndarray, np.ndarray], machine: RBMTransformer
) -> None:
    X = digits[0]
    theirs = SklearnRBM(8)
    theirs.components_, theirs.intercept_hidden_ = machine.components_, machine.intercept_hidden_
    theirs.intercept_visible_ = machine.intercept_visible_
    scaled = MinMaxScaler().fit_transform(X).astype(np.float32)
    np.testing.assert_allclose(machine.transform(X[:50]), theirs.transform(scaled[:50]), atol=1e-6)
    np.testing.assert_allclose(machine.score_samples(X), -theirs._free_energy(scaled), rtol=1e-5)
    assert machine.transform(X).std(axis=0).max() > 0.05  # and it is not the same code for all


def test_ranges_are_learned_and_nothing_is_clipped(machine: RBMTransformer) -> None:
    low, high = machine.data_min_, machine.data_max_
    rows = np.stack([low, high, high + (high - low)])
    net = np.stack([np.zeros(64), high > low, 2.0 * (high > low)]) @ machine.components_.T + machine.intercept_hidden_
    np.testing.assert_allclose(machine.transform(rows), 1 / (1 + np.exp(-net)), atol=1e-5)


def test_without_scaling_numbers_beyond_0_and_1_are_refused(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    message = r"must lie in \[0, 1\].*got max 16\.0"
    with pytest.raises(ValueError, match=message):
        RBMTransformer(8, scaling=None).fit(X)
    with pytest.raises(ValueError, match=message):
        PretrainedClassifier(scaling=None).fit(X, y)
    fitted = RBMTransformer(8, n_iter=1, scaling=None).fit(X / 16)
    with pytest.raises(ValueError, match=message):
        fitted.transform(X)
    with pytest.raises(ValueError, match="scaling must be 'minmax' or None; got 'max'"):
        RBMTransformer(8, scaling="max").fit(X)


def test_partial_fits_are_one_run(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Two calls, the second by what was unpickled, are two epochs of the package's loop, to the bit."""
    X = digits[0]
    twice = RBMTransformer(8, batch_size=30, learning_rate=0.05, persistent=True, random_state=3).partial_fit(X)
    twice = pickle.loads(pickle.dumps(twice)).partial_fit(X)
    assert twice.n_iter_ == 2
    seed = np.random.RandomState(3).randint(2**31 - 1)
    learner, recipe = pt.BernoulliRBM(8, sampler=pt.PCD(n_chains=30)), pt.Momentum(0.05, 0.5, 0.5)
    rows = pt.Batch(MinMaxScaler().fit_transform(X).astype(np.float32))  # type: ignore[arg-type]
    whole = pt.run(learner, recipe, rows, epochs=2, batch_size=30, seeds=[seed])
    np.testing.assert_array_equal(twice.components_, np.asarray(whole.params.weights)[0].T)
    with pytest.raises(ValueError, match=r"range of the first rows; got 0 to 1\.077.*scaling=None"):
        twice.partial_fit(np.where(X == 16, 17, X))


@pytest.mark.slow
def test_persistent_chains_outlast_a_change_of_the_batch_size(digits: tuple[np.ndarray, np.ndarray]) -> None:
    model = RBMTransformer(8, batch_size=10, persistent=True, random_state=3).partial_fit(digits[0][:50])
    assert model.set_params(batch_size=25).partial_fit(digits[0][:50]).n_iter_ == 2
    assert model._carried[0].state.shape[1] == 10


@pytest.mark.parametrize("persistent", [False, True])
def test_rows_that_no_minibatch_takes_are_few(digits: tuple[np.ndarray, np.ndarray], persistent: bool) -> None:
    """19 rows, 10 an update at most: two updates of 9, beside as many chains as were asked for."""
    X = digits[0][:19]
    once = RBMTransformer(8, batch_size=10, persistent=persistent, random_state=3).partial_fit(X)
    sampler = pt.PCD(n_chains=10) if persistent else pt.CD()
    learner, recipe = pt.BernoulliRBM(8, sampler=sampler), pt.Momentum(0.1, 0.5, 0.5)
    rows = pt.Batch(MinMaxScaler().fit_transform(X).astype(np.float32))  # type: ignore[arg-type]
    seed = np.random.RandomState(3).randint(2**31 - 1)
    whole = pt.run(learner, recipe, rows, epochs=1, batch_size=9, seeds=[seed])
    np.testing.assert_array_equal(once.components_, np.asarray(whole.params.weights)[0].T)


def test_the_batch_size_asked_for_is_kept_unless_fewer_rows_are_then_left() -> None:
    for n_rows, most, expected in [(120, 10, 10), (19, 10, 9), (7, 10, 7), (10, 10, 10), (11, 10, 10), (150, 100, 75)]:
        assert sklearn._batch_size(n_rows, most) == expected
    left = np.array([[n % sklearn._batch_size(n, most) for most in range(1, 60)] for n in range(1, 300)])
    steps = np.array([[-(-n // most) for most in range(1, 60)] for n in range(1, 300)])
    assert (left < steps).all()
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1; got 0"):
        sklearn._batch_size(5, 0)


def test_partial_fit_goes_on_after_fit(digits: tuple[np.ndarray, np.ndarray], machine: RBMTransformer) -> None:
    before, components = machine.n_iter_, machine.components_.copy()
    more = pickle.loads(pickle.dumps(machine)).partial_fit(digits[0])
    assert more.n_iter_ == before + 1
    change = np.abs(more.components_ - components).max()
    assert 0 < change < 0.5 * np.abs(components).max()


def test_in_a_pipeline_and_a_grid_search(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pipeline = make_pipeline(RBMTransformer(8, n_iter=30, random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"rbmtransformer__learning_rate": [0.1, 100.0]}, cv=2).fit(*digits)
    assert search.best_params_ == {"rbmtransformer__learning_rate": 0.1}
    assert search.best_score_ > 0.8
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert list(names) == [f"rbmtransformer{i}" for i in range(8)]


@pytest.mark.slow
def test_classifier_in_a_grid_search_learns_names(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    classifier = PretrainedClassifier((12,), pretraining="denoising", n_iter_no_change=50, random_state=0)
    rates = [0.0, 0.5]  # an output layer that stays at zero knows one class; any other rate may do as well
    search = GridSearchCV(classifier, {"learning_rate": rates}, cv=2, refit=False).fit(X, y)
    assert search.best_params_ == {"learning_rate": 0.5}
    assert search.best_score_ > 0.8
    X, y = X[:60], y[:60]  # the shape of the halves, which is compiled
    best = clone(classifier).set_params(**search.best_params_).fit(X, y)
    assert set(best.predict(X)) == set(NAMES)
    assert best.score(X, y) > 0.8  # chance is a third; it keeps the first network that is best on 6 rows
    assert best.transform(X).shape == (60, 12)
    assert best.validation_scores_.shape == best.loss_curve_.shape == (best.n_iter_,)
    scaled = MinMaxScaler().fit_transform(X).astype(np.float32)
    np.testing.assert_allclose(pt.encode(best.network_, scaled), best.transform(X), rtol=1e-5)


@pytest.mark.slow
def test_is_deterministic_and_can_be_pickled_and_cloned(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    one = PretrainedClassifier((6, 5), pretraining="autoencoder", pretraining_epochs=2, epochs=4, random_state=1).fit(
        X, y
    )
    again = clone(one).fit(X, y)
    other = clone(one).set_params(random_state=2).fit(X, y)
    probabilities = one.predict_proba(X)
    assert [layer.weights.shape for layer in one.network_.layers] == [(64, 6), (6, 5), (5, 3)]
    np.testing.assert_array_equal(again.predict_proba(X), probabilities)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).predict_proba(X), probabilities)
    assert np.abs(other.predict_proba(X) - probabilities).max() > 1e-3


def test_validation_rows_are_of_every_class_and_never_a_class_alone() -> None:
    y = np.repeat([0, 1, 2], [70, 29, 1])
    rows = pt.Batch(np.arange(100.0)[:, None], y)  # type: ignore[arg-type]
    classifier = PretrainedClassifier(n_iter_no_change=10)
    classifier.classes_ = np.arange(3)
    train, valid = classifier._split(rows, 0)
    assert valid is not None
    assert np.bincount(valid.y).tolist() == [7, 3]
    assert sorted(np.concatenate([train.x, valid.x])[:, 0]) == list(range(100))
    np.testing.assert_array_equal(y[valid.x[:, 0].astype(int)], valid.y)
    assert (classifier._split(rows, 1)[1].x != valid.x).any()  # type: ignore[union-attr]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4, 0.5])
def test_the_share_of_validation_rows_is_that_asked_for_in_every_class(share: float) -> None:
    y = np.repeat([0, 1], [60, 40])
    classifier = PretrainedClassifier(n_iter_no_change=10, validation_fraction=share)
    valid = classifier._split(pt.Batch(np.arange(100.0)[:, None], y), 0)[1]  # type: ignore[arg-type]
    assert np.bincount(valid.y).tolist() == [round(60 * share), round(40 * share)]  # type: ignore[union-attr]


def test_nothing_is_evaluated_without_validation_rows(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def watched(*args: Any, **options: Any) -> Any:
        given.append((args[1].patience, options["valid"]))
        return pt.fine_tune(*args, **options)

    monkeypatch.setattr(sklearn, "fine_tune", watched)
    fitted = PretrainedClassifier((4,), pretraining=None, epochs=2, random_state=0).fit(*digits)
    assert given == [(None, None)]
    assert fitted.loss_curve_.shape == (2,)
    assert not hasattr(fitted, "validation_scores_")


def test_minus_one_is_a_class() -> None:
    X, y = np.array([[0.0], [1.0]] * 4), np.array([-1, 1] * 4)
    fitted = PretrainedClassifier((2,), pretraining=None, epochs=1, random_state=0).fit(X, y)
    assert fitted.classes_.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretraining": "dbn"}, "pretraining must be one of .*; got 'dbn'"),
        ({"hidden_layer_sizes": 10}, r"hidden_layer_sizes must be a sequence; got 10: write \(units,\)"),
        ({"n_iter_no_change": 5, "validation_fraction": 0.7}, r"validation_fraction must lie in \(0, 0\.5\]; got 0\.7"),
        ({"epochs": 0, "pretraining": None}, "epochs must be a whole number of at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_told(digits: tuple[np.ndarray, np.ndarray], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainedClassifier(**options).fit(*digits)


def test_divergence_is_told(digits: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"the training diverged: lower its learning rate, 1e\+38"):
        RBMTransformer(8, n_iter=5, learning_rate=1e38, momentum=0.9).fit(digits[0])
