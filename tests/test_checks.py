"""Bad input gets one clear error before any training: the value and the fix are in it."""

import jax.numpy as jnp
import numpy as np
import pytest

import pretrain as pt
from pretrain import struct
from pretrain.checks import check_data, check_examples

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
    ("some labels", pt.PartiallySupervised(RBM, 3), pt.Batch(X, Y - 2), r"0\.\.2 \(-1 where there is none\); got -2"),
    ("half precision", RBM, pt.Batch(X.astype(np.float16)), "must be float32; got float16: convert"),
    ("no batch", RBM, X, "train must be a pretrain.Batch of arrays; got ndarray: wrap it"),
    ("lists", RBM, pt.Batch(X.tolist()), "train.x must be an array; got list: convert it with numpy.asarray"),
    ("strings", CLASSIFIER, pt.Batch(X, np.array(["a", "b"] * 10)), "train.y must hold numbers; got <U1: encode"),
    ("not standardised", pt.GaussianRBM(4), pt.Batch(X), r"must be standardised .* subtract .* Standardise\(\) stage"),
    ("wrong scale", pt.GaussianRBM(4), pt.Batch(30 * (X - X.mean(axis=0))), "an average variance of [0-9.]+: subtract"),
    ("no pairs", pt.Embedding(4), pt.Batch(X), "train.pair is missing"),
    ("pair shape", pt.Embedding(4), pt.Batch(X, pair=X[:, :5]), r"must have the shape \(20, 6\) of x"),
    ("pair rows", pt.Embedding(4), pt.Batch(X, pair=np.full((20, 2), 20)), r"row numbers in 0\.\.19; got 20"),
    ("pair values", pt.Embedding(4), pt.Batch(X, pair=changed(np.nan)), "train.pair has 1 values that are NaN"),
    (
        "unlabelled where all are needed",
        pt.RBM(4, n_classes=3),
        pt.Batch(X, Y - 1),
        r"must lie in 0\.\.2; got -1",
    ),
    (
        "no such label",
        pt.PartiallySupervised(RBM, 3, 1.0),
        pt.Batch(X, Y - 2),
        r"must lie in 0\.\.2 \(-1 where there is none\); got -2",
    ),
    ("batch size", RBM, pt.Batch(X[:5]), "batch_size 10 is larger than the 5 training rows: choose at most 5"),
]


@pytest.mark.parametrize(("learner", "train", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_data(learner: pt.Learner, train: pt.Batch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pt.run(learner, pt.Sgd(0.1), train, epochs=1, batch_size=10)


def test_what_is_no_recipe_or_no_stage_is_told() -> None:
    """A frame has a shape, and is no array; a recipe builds; a stack is a list of stages; a learner measures."""

    class Frame:
        shape, dtype, iloc = X.shape, X.dtype, None

    @struct.dataclass
    class Silent(pt.Classifier):
        def evaluate(self, *_: object) -> dict:
            return {}

    def run(learner: pt.Learner = CLASSIFIER, optimizer: object = pt.Sgd(0.1), x: object = X) -> object:
        train = pt.Batch(x, Y)
        return pt.run(learner, optimizer, train, epochs=1, batch_size=10, monitors={"valid": train})

    stage = pt.Stage(CLASSIFIER, pt.Sgd(0.1), 1, 10)
    train = pt.Batch(X, Y)
    refused = {
        "train.x must be an array; got Frame": lambda: run(x=Frame()),
        r"must be a recipe such as Sgd\(0.1\); got 0.1": lambda: run(optimizer=0.1),
        "Silent.evaluate must return at least one measure": lambda: run(Silent(3)),
        r"stages are a list, one a layer; got a Stage: write \[stage\]": lambda: pt.pretrain(stage, train),
        "layer 1 of 1: a stage was asked for; got Classifier": lambda: pt.pretrain([CLASSIFIER], train),
        "layer 1 of 1: the optimizer must be a recipe": lambda: pt.pretrain([pt.Stage(CLASSIFIER, 0.1, 1, 10)], train),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_feature_counts_must_agree() -> None:
    monitors = {"valid": pt.Batch(X[:, :5])}
    with pytest.raises(ValueError, match=r"valid\.x has 5 features but train\.x has 6"):
        pt.run(RBM, pt.Sgd(0.1), pt.Batch(X), epochs=1, batch_size=10, monitors=monitors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pt.BernoulliRBM(0), "n_hidden must be a whole number of at least 1; got 0"),
        (lambda: pt.CD(0), "k must be a whole number of at least 1; got 0"),
        (lambda: pt.PCD(n_chains=0), "n_chains must be a whole number of at least 1; got 0"),
        (lambda: pt.ParallelTempering(n_temperatures=1), "n_temperatures of at least 2; got 1: or use PCD"),
        (lambda: pt.BernoulliRBM(5, n_classes=-1), "n_classes must be a whole number of at least 1; got -1"),
        (lambda: pt.RBM(5, hidden=pt.SoftmaxUnits(3)), "softmax units are for the visible layer"),
        (lambda: pt.RBM(5, hidden=pt.GaussianUnits(True)), "hidden Gaussian units have variance 1"),
        (lambda: pt.RBM(5, pt.RectifiedUnits(), pt.RectifiedUnits()), "rectified units on both sides"),
        (lambda: pt.GaussianRBM(5, sampler=pt.ParallelTempering()), "Bernoulli units only; got GaussianUnits"),
        (lambda: pt.RBM(5, sampler=pt.ParallelTempering(), n_classes=3), "Bernoulli units only; got n_classes=3"),
        (lambda: pt.Autoencoder(2.5), r"n_hidden must be a whole number of at least 1; got 2\.5"),
        (lambda: pt.Autoencoder(3, loss="hinge"), "loss must be 'cross_entropy' or 'squared_error'; got 'hinge'"),
        (
            lambda: pt.Autoencoder(3, activation="sine"),
            "activation must be one of sigmoid, tanh, relu, linear; got 'sine'",
        ),
        (lambda: pt.LogisticAutoregression(-1), "n_hidden must be a whole number of at least 1; got -1"),
        (lambda: pt.Classifier(3, (4, 0)), r"n_hidden\[1\] must be a whole number of at least 1; got 0"),
        (lambda: pt.SupervisedGreedy(3, 4), r"n_hidden must be a tuple of layer sizes; got 4: write \(units,\)"),
        (lambda: pt.DeepAutoencoder(()), r"n_hidden must be a tuple of at least one layer size; got \(\)"),
        (lambda: pt.Masking(3.0), r"a corruption rate is a probability, from 0 to 1; got 3\.0"),
        (lambda: pt.SaltPepper(np.array([10.0, 25.0])), r"a corruption rate is a probability, .*; got \[10\. 25\.\]"),
        (lambda: pt.Masking([0.1, 0.2]), r"rate must be a number, or an array .*: numpy\.array"),  # type: ignore
        (lambda: pt.Sgd(0.1, 0.9), r"schedule must be a function of the epoch.*; got 0\.9: name the number"),  # type: ignore
        (lambda: pt.Momentum(0.1, pt.Linear(20)), r"initial_momentum must be a number; .*: write schedule="),  # type: ignore
        (lambda: pt.Adam(1e-3, pt.Linear(20)), r"b1 must be a number; got Linear.*: write schedule="),  # type: ignore
        (lambda: pt.Sgd(0.1, weight_decay=[0.1]), r"weight_decay must be a number, or an array"),  # type: ignore
        (lambda: pt.SupervisedGreedy(3, (4, 4)), r"trains one hidden layer; got n_hidden=\(4, 4\)"),
        (
            lambda: pt.Autoencoder(3, activation="tanh", penalty=pt.KLSparsity()),
            r"KLSparsity takes codes for probabilities, in \(0, 1\); got activation 'tanh': use activation='sigmoid'",
        ),
        (lambda: pt.KLSparsity(1.0), r"a mean activation between 0 and 1; got 1\.0"),
        (lambda: pt.L1(-0.1), r"a penalty's weight must be at least 0; got -0\.1"),
        (lambda: pt.SESM(3, n_relaxations=0), "n_relaxations must be a whole number of at least 1; got 0"),
        (
            lambda: pt.PartiallySupervised(pt.Autoencoder(3), 0),
            "n_classes must be a whole number of at least 1; got 0",
        ),
        (
            lambda: pt.Classifier(3, initialization="orthogonal"),
            "initialization must be one of uniform, glorot, he; got 'orthogonal'",
        ),
        (lambda: pt.Classifier(3, dropout=1.0), r"dropout is the probability of dropping a unit.*got 1\.0"),
        (lambda: pt.Classifier(3, input_dropout=-0.5), r"input_dropout is the probability.*got -0\.5"),
    ],
)
def test_bad_sizes(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_values_are_judged_as_float32() -> None:
    """A rounding of 1 in double precision is 1; what single precision cannot hold is infinite."""
    check_examples(np.array([[0.0, 1.0 + 2.0**-52]]), inputs="unit")
    with pytest.raises(ValueError, match="x has 1 values that are NaN or infinite"):
        check_examples(np.array([[0.0, 1e39]]))


def test_constant_features_are_left_out_of_the_mean_variance() -> None:
    """Digits in a frame of zeros: three features in four are constant, also once they are standardised."""
    images = np.pad(np.asarray(pt.data.digits().train.x).reshape(-1, 8, 8), ((0, 0), (4, 4), (4, 4)))
    rows = pt.Batch(jnp.asarray(images.reshape(len(images), -1)))
    standardised = pt.pretrain([pt.Stage(pt.Standardise())], rows).network().layers[0](rows.x)
    check_data(pt.GaussianRBM(2), pt.Batch(standardised), {})
    check_data(pt.GaussianRBM(2), pt.Batch(jnp.stack([standardised] * 2)), {})
    x = np.zeros((20, 6), np.float32)
    x[:, 0] = 3.0 * (np.arange(20) % 2) - 1.5
    with pytest.raises(ValueError, match=r"an average variance of 2\.25: subtract"):
        check_examples(x, inputs="standardised")
    with pytest.raises(ValueError, match="x has no feature that varies, all 20 rows are alike"):
        check_examples(np.zeros((20, 6), np.float32), inputs="standardised")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_and_double_precision_are_examples(dtype: type) -> None:
    check_examples(X.astype(dtype), inputs="unit")
    for other in (np.float16, np.int64):
        with pytest.raises(ValueError, match=f"x must be .*; got {other.__name__}: convert"):
            check_examples(X.astype(other))


def test_bad_run_arguments() -> None:
    train = pt.Batch(jnp.asarray(X), jnp.asarray(Y))
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1; got 0"):
        pt.run(RBM, pt.Sgd(0.1), train, epochs=0, batch_size=10)
    with pytest.raises(ValueError, match="early stopping needs validation rows"):
        pt.run(CLASSIFIER, pt.Sgd(0.1), train, epochs=1, batch_size=10, patience=2)
    with pytest.raises(ValueError, match=r"has shape .* but the population has 1 members"):
        pt.run(RBM, pt.Sgd(np.array([0.1, 0.2])), train, epochs=1, batch_size=10)


@pytest.mark.parametrize("seeds", [[], 3, [-1], [2**32], [0.5]])
def test_bad_seeds(seeds) -> None:
    with pytest.raises(ValueError, match="seeds must be a list of whole numbers from 0"):
        pt.run(RBM, pt.Sgd(0.1), pt.Batch(X), epochs=1, batch_size=10, seeds=seeds)


@pytest.mark.parametrize("patience", [-1, 1.5])
def test_bad_patience(patience) -> None:
    train = pt.Batch(X, Y)
    with pytest.raises(ValueError, match="patience must be None or a whole number of epochs"):
        pt.run(CLASSIFIER, pt.Sgd(0.1), train, epochs=1, batch_size=10, monitors={"valid": train}, patience=patience)


LATER = [
    (pt.Stage(pt.LogisticAutoregression(5), pt.Sgd(0.1), 1, 10), "of 4 inputs has at most 4 units"),
    (pt.Stage(RBM, pt.Sgd(0.1), 0, 10), "epochs must be a whole number of at least 1"),
    (pt.Stage(RBM, pt.Sgd(0.1), 1, 100), "batch_size 100 is larger than the 20 training rows"),
    (pt.Stage(RBM, pt.Sgd(np.array([0.1, 0.2])), 1, 10), "the population has 1 members"),
    (pt.Stage(pt.SupervisedGreedy(3, (4,)), pt.Sgd(0.1), 1, 10), "y is missing"),
    (pt.Stage(RBM, pt.Sgd(0.1), 1, 10, patience=3), "early stopping needs validation rows"),
    (pt.Stage(RBM), "BernoulliRBM is trained: give an optimizer and epochs"),
    (pt.Stage(pt.PCA(2), pt.Sgd(0.1), 1, 10), "PCA is solved: give no optimizer and no epochs"),
    (pt.Stage(pt.GaussianRBM(3), pt.Sgd(0.1), 1, 10), "the sigmoid codes below are not standardised"),
    (pt.Stage(pt.Embedding(3), pt.Sgd(0.1), 1, 10), "train.pair is missing: an objective on pairs needs"),
]


@pytest.mark.parametrize(("stage", "message"), LATER)
def test_a_bad_later_stage_is_found_before_the_first_is_trained(stage: pt.Stage, message: str) -> None:
    trained: list[str] = []
    first = pt.Stage(RBM, pt.Sgd(0.1), 1, 10)
    with pytest.raises(ValueError, match=f"layer 2 of 2: .*{message}"):
        pt.pretrain([first, stage], pt.Batch(X), report=lambda record: trained.append(record.stage))
    assert not trained


def test_codes_of_a_solver_are_not_probabilities() -> None:
    stages = [pt.Stage(pt.KernelPCA(3)), pt.Stage(RBM, pt.Sgd(0.1), 1, 10)]
    with pytest.raises(ValueError, match=r"layer 2 of 2: the linear codes below may leave \[0, 1\]"):
        pt.pretrain(stages, pt.Batch(X))


def test_codes_that_leave_the_unit_interval_are_found_too() -> None:
    below = pt.Stage(pt.Autoencoder(4, activation="relu"), pt.Sgd(0.1), 1, 10)
    with pytest.raises(ValueError, match=r"layer 2 of 2: the relu codes below may leave \[0, 1\]"):
        pt.pretrain([below, pt.Stage(RBM, pt.Sgd(0.1), 1, 10)], pt.Batch(X))
    with pytest.raises(ValueError, match="at least one stage"):
        pt.pretrain([], pt.Batch(X))


def test_fine_tuning_checks_that_layers_seeds_and_data_fit() -> None:
    layers = (pt.Dense(jnp.zeros((3, 6, 4)), jnp.zeros((3, 4))),)
    train = pt.Batch(X, Y)
    stage = pt.Stage(CLASSIFIER, pt.Sgd(0.1), 1, 10)
    with pytest.raises(ValueError, match="the layers have 3 members but there are 1 seeds"):
        pt.fine_tune(layers, stage, train, valid=train)
    with pytest.raises(ValueError, match=r"train\.x has 5 features but the layers take 6"):
        pt.fine_tune(layers, stage, pt.Batch(X[:, :5], Y), valid=train, seeds=[0, 1, 2])
    wide = pt.Stage(pt.Classifier(3, (9,)), pt.Sgd(0.1), 1, 10)
    with pytest.raises(ValueError, match=r"the hidden layers are the pretrained ones; got n_hidden=\(9,\)"):
        pt.fine_tune(layers, wide, train, valid=train, seeds=[0, 1, 2])


def test_a_learner_that_needs_labels_says_how_many_classes() -> None:
    @struct.dataclass
    class Nameless(pt.Autoencoder):
        @property
        def needs(self) -> tuple[str, ...]:
            return ("labels",)

    with pytest.raises(ValueError, match="Nameless needs labels: give it a field n_classes"):
        pt.run(Nameless(4), pt.Sgd(0.1), pt.Batch(X, jnp.zeros(len(X), int)), epochs=1, batch_size=2)


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


def test_rows_a_layer_is_monitored_on_need_not_be_standardised_themselves() -> None:
    """The first training rows of a set in order may well have another mean than all of them."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    x = (np.sort(x, axis=0) - x.mean(axis=0)) / x.std(axis=0)
    train, first = (pt.Batch(jnp.asarray(rows)) for rows in (x, x[:10]))
    machine = pt.GaussianRBM(2)
    check_data(machine, train, {"train": first})
    with pytest.raises(ValueError, match=r"train\.x must be standardised"):
        check_data(machine, first, {"train": train})
