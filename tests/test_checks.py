"""Bad input gets one clear error before any training: the value and the fix are in it."""

import jax.numpy as jnp
import numpy as np
import pytest

import pretrain as pt

X = np.random.default_rng(0).random((20, 6), np.float32)
Y = np.arange(20, dtype=np.int32) % 3


def changed(value: float) -> np.ndarray:
    x = X.copy()
    x[3, 2] = value
    return x


RBM, CLASSIFIER = pt.BernoulliRBM(4), pt.Classifier(3)

CASES = [
    ("grey levels", RBM, pt.Batch(changed(255.0)), r"lie in \[0, 1\].*got max 255\.0: divide by 255"),
    ("negative", RBM, pt.Batch(changed(-2.0)), r"lie in \[0, 1\].*got min -2\.0: rescale.*squared-error autoencoder"),
    ("nan", CLASSIFIER, pt.Batch(changed(np.nan), Y), "has 1 values that are NaN or infinite: remove or impute"),
    ("infinity", RBM, pt.Batch(changed(np.inf)), "has 1 values that are NaN or infinite"),
    ("bytes", RBM, pt.Batch(X.astype(np.uint8)), "must be floating point; got uint8: divide by 255"),
    ("rank", RBM, pt.Batch(X[0]), r"shape \[rows, features\]; got rank 1, shape \(6,\): flatten"),
    ("images", RBM, pt.Batch(X.reshape(20, 2, 3, 1)), r"got rank 4, shape \(20, 2, 3, 1\): flatten"),
    ("empty", RBM, pt.Batch(X[:0]), r"is empty, shape \(0, 6\)"),
    ("no labels", CLASSIFIER, pt.Batch(X), "y is missing: a supervised objective needs"),
    ("label range", CLASSIFIER, pt.Batch(X, Y + 1), r"must lie in 0\.\.2; got 3: recode"),
    ("negative label", CLASSIFIER, pt.Batch(X, Y - 1), r"must lie in 0\.\.2; got -1"),
    ("real labels", CLASSIFIER, pt.Batch(X, Y.astype(np.float32)), "must be integers; got float32: convert"),
    ("label count", CLASSIFIER, pt.Batch(X, Y[:7]), r"must have shape \(20,\), one label a row; got \(7,\)"),
    ("batch size", RBM, pt.Batch(X[:5]), "batch_size 10 is larger than the 5 training rows: choose at most 5"),
]


@pytest.mark.parametrize(("learner", "train", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_data(learner: pt.Learner, train: pt.Batch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pt.run(learner, pt.Sgd(0.1), train, epochs=1, batch_size=10)


def test_feature_counts_must_agree() -> None:
    monitors = {"valid": pt.Batch(X[:, :5])}
    with pytest.raises(ValueError, match=r"valid\.x has 5 features but train\.x has 6"):
        pt.run(RBM, pt.Sgd(0.1), pt.Batch(X), epochs=1, batch_size=10, monitors=monitors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pt.BernoulliRBM(0), "n_hidden must be a whole number of at least 1; got 0"),
        (lambda: pt.BernoulliRBM(5, k=0), "k must be a whole number of at least 1; got 0"),
        (lambda: pt.Autoencoder(2.5), r"n_hidden must be a whole number of at least 1; got 2\.5"),
        (lambda: pt.Autoencoder(3, loss="hinge"), "loss must be 'cross_entropy' or 'squared_error'; got 'hinge'"),
        (
            lambda: pt.Autoencoder(3, activation="sine"),
            "activation must be one of sigmoid, tanh, relu, linear; got 'sine'",
        ),
        (lambda: pt.LogisticAutoregression(-1), "n_hidden must be a whole number of at least 1; got -1"),
        (lambda: pt.Classifier(3, (4, 0)), r"n_hidden\[1\] must be a whole number of at least 1; got 0"),
        (lambda: pt.SupervisedGreedy(3, (4, 4)), r"trains one hidden layer; got n_hidden=\(4, 4\)"),
    ],
)
def test_bad_sizes(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_run_arguments() -> None:
    train = pt.Batch(jnp.asarray(X), jnp.asarray(Y))
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1; got 0"):
        pt.run(RBM, pt.Sgd(0.1), train, epochs=0, batch_size=10)
    with pytest.raises(ValueError, match="early stopping needs monitors"):
        pt.run(CLASSIFIER, pt.Sgd(0.1), train, epochs=1, batch_size=10, patience=2)
    with pytest.raises(ValueError, match=r"has shape .* but the population has 1 members"):
        pt.run(RBM, pt.Sgd(np.array([0.1, 0.2])), train, epochs=1, batch_size=10)


def test_too_many_autoregression_units() -> None:
    with pytest.raises(
        ValueError, match=r"of 6 inputs has at most 6 units; got n_hidden=7: layer sizes must not increase"
    ):
        pt.run(pt.LogisticAutoregression(7), pt.Sgd(0.1), pt.Batch(X), epochs=1, batch_size=10)


def test_real_values_are_welcome_where_the_loss_allows_them() -> None:
    progress = pt.run(
        pt.Autoencoder(4, loss="squared_error"), pt.Sgd(0.01), pt.Batch(5 * X - 2), epochs=1, batch_size=10
    )
    assert progress.finite.all()
