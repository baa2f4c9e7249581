"""Larochelle, Bengio, Louradour & Lamblin, *Exploring strategies for training deep neural networks*, JMLR 10:1-40
(2009).

Table 1: classification error on MNIST, 50,000 training, 10,000 validation and 10,000 test images, inputs in [0, 1];
three hidden layers of sigmoid units, softmax output, stochastic gradient descent, early stopping on validation error,
and hyperparameters chosen on validation error.
"""

from __future__ import annotations

from benchmarks.experiment import Experiment, Plan, Published, Row, Scale
from benchmarks.tasks.classification import Classification
from pretrain import (
    Autoencoder,
    BernoulliRBM,
    Classifier,
    Learner,
    Linear,
    LogisticAutoregression,
    Momentum,
    Sgd,
    Stage,
    SupervisedGreedy,
)
from pretrain.data import digits, mnist

TITLES = {
    "srbm": ("SRBM: stacked restricted Boltzmann machines", Published(0.0, 1.20, 1.20)),
    "saa": ("SAA: stacked autoassociators", Published(0.0, 1.31, 1.41)),
    "logistic-autoregression": ("stacked logistic autoregressions", Published(0.0, 1.65, 1.85)),
    "supervised": ("deep network, supervised pretraining", Published(0.0, 1.74, 2.04)),
    "deep": ("deep network, no pretraining", Published(0.004, 2.07, 2.40)),
    "shallow": ("shallow network, no pretraining", Published(0.0, 1.91, 1.93)),
}
"""Row names, titles and the published errors, Table 1."""


def tuning(
    rate: float,
    epochs: int,
    batch_size: int,
    *,
    n_hidden: tuple[int, ...] = (),
    initial_scale: float = 1.0,
    start: float = 0.0,
    n_classes: int = 10,
) -> Stage:
    """Plain SGD on all layers, its rate constant until epoch ``start`` and then falling to zero; early stopping.

    The output layer starts at zero on pretrained layers, and at random in a random network (``n_hidden``).
    """
    learner = Classifier(n_classes, n_hidden, initial_scale=initial_scale, output_scale=1.0 if n_hidden else 0.0)
    return Stage(learner, Sgd(rate, Linear(float(epochs), start)), epochs, batch_size, patience=epochs)


# --- smoke: seconds, on 8x8 digits; it shows that everything runs, not what it reaches ---

SMOKE = {
    "srbm": Plan(
        (Stage(BernoulliRBM(48), Momentum(0.1), epochs=15, batch_size=20),) * 3,
        tuning(1.0, 15, 20),
        grid={"fine_tuning.optimizer.learning_rate": (0.5, 1.0)},
    ),
    "saa": Plan((Stage(Autoencoder(48), Momentum(0.05), epochs=15, batch_size=20),) * 3, tuning(1.0, 15, 20)),
    "logistic-autoregression": Plan(
        (Stage(LogisticAutoregression(48), Momentum(0.05), epochs=15, batch_size=20),) * 3, tuning(1.0, 15, 20)
    ),
    "supervised": Plan(
        (Stage(SupervisedGreedy(10, (48,)), Sgd(0.5), epochs=15, batch_size=20),) * 3, tuning(0.5, 15, 20)
    ),
    "deep": Plan((), tuning(1.0, 40, 20, n_hidden=(48, 48, 48), initial_scale=3.0, start=20.0)),
    "shallow": Plan((), tuning(0.5, 40, 20, n_hidden=(48,))),
}

# --- quick: all of MNIST, three layers of 500, minutes on two cores ---

QUICK = {
    "srbm": Plan(
        (Stage(BernoulliRBM(500), Momentum(0.1, weight_decay=2e-4), epochs=12, batch_size=100),) * 3,
        tuning(2.0, 12, 50),
    ),
    "saa": Plan(
        (Stage(Autoencoder(500), Momentum(0.5, weight_decay=1e-3), epochs=12, batch_size=100),) * 3,
        tuning(2.0, 15, 50),
    ),
    "logistic-autoregression": Plan(
        (Stage(LogisticAutoregression(784, fill_diagonal=True), Sgd(0.02), epochs=5, batch_size=100),) * 3,
        tuning(2.0, 20, 50),
    ),
    "supervised": Plan(
        (Stage(SupervisedGreedy(10, (500,)), Sgd(0.5), epochs=4, batch_size=50, patience=4),) * 3, tuning(1.0, 25, 50)
    ),
    "deep": Plan((), tuning(2.0, 30, 50, n_hidden=(500, 500, 500), initial_scale=2.0, start=15.0)),
    "shallow": Plan((), tuning(0.5, 30, 50, n_hidden=(500,), start=15.0)),
}

# --- paper: the paper's protocol, three layers of up to 1000 units ---


def decaying(learner: Learner, rate: float, epochs: int, batch_size: int = 100, weight_decay: float = 0.0) -> Stage:
    """Momentum .5, then .9, with a rate that falls to zero."""
    optimizer = Momentum(rate, schedule=Linear(float(epochs)), weight_decay=weight_decay)
    return Stage(learner, optimizer, epochs, batch_size)


PRETRAINING_RATE = "pretraining.*.optimizer.learning_rate"
TUNING_RATE = "fine_tuning.optimizer.learning_rate"

PAPER = {
    "srbm": Plan(
        (decaying(BernoulliRBM(1000), 0.1, 120, weight_decay=1e-4),) * 3,
        tuning(2.0, 20, 50),
        grid={PRETRAINING_RATE: (0.03, 0.05, 0.1), TUNING_RATE: (0.5, 1.0, 2.0)},
    ),
    "saa": Plan(
        (Stage(Autoencoder(500), Momentum(0.5, weight_decay=3e-4), epochs=12, batch_size=100),) * 3,
        tuning(2.0, 20, 50),
        grid={PRETRAINING_RATE: (0.2, 0.5, 1.0), "pretraining.*.optimizer.weight_decay": (3e-4, 1e-3)},
    ),
    "logistic-autoregression": Plan(
        (Stage(LogisticAutoregression(784, fill_diagonal=True), Sgd(0.01), epochs=5, batch_size=100),) * 3,
        tuning(1.0, 25, 50),
        grid={PRETRAINING_RATE: (0.01, 0.02, 0.04), TUNING_RATE: (1.0, 2.0)},
    ),
    "supervised": Plan(
        (Stage(SupervisedGreedy(10, (500,)), Sgd(0.25), epochs=4, batch_size=50, patience=4),) * 3,
        tuning(1.0, 30, 50),
        grid={PRETRAINING_RATE: (0.25, 0.5, 1.0), TUNING_RATE: (0.5, 1.0)},
    ),
    "deep": Plan(
        (),
        tuning(2.0, 40, 50, n_hidden=(500, 500, 500), initial_scale=2.0, start=20.0),
        grid={TUNING_RATE: (0.5, 1.0, 2.0), "fine_tuning.learner.initial_scale": (1.0, 2.0)},
    ),
    "shallow": Plan(
        (),
        tuning(0.5, 40, 50, n_hidden=(1000,), start=20.0),
        grid={TUNING_RATE: (0.25, 0.5, 1.0), "fine_tuning.learner.initial_scale": (1.0, 2.0)},
    ),
}

EXPERIMENT = Experiment(
    name="mnist",
    title="MNIST: greedy layer-wise pretraining of deep networks",
    source=(
        "Larochelle, Bengio, Louradour & Lamblin, Exploring strategies for training deep neural networks, "
        "JMLR 10:1-40 (2009), Table 1"
    ),
    question="Does pretraining a deep network layer by layer lower its test error, and by which kind of layer most?",
    metric="classification error, percent",
    task=Classification(),
    scales={
        "smoke": Scale(
            "digits", 1, "scikit-learn's 8x8 digits, not MNIST, three layers of 48: it shows that everything runs"
        ),
        "quick": Scale("mnist", 1, "all of MNIST, three layers of 500 (autoregression: 784), minutes on two cores"),
        "paper": Scale(
            "mnist",
            5,
            "all of MNIST, three layers of up to 1000; hyperparameters chosen by validation error with a seed that is "
            "not among those reported, from each row's grid; SRBM's by hand, its epochs on seed 0",
        ),
    },
    rows=tuple(
        Row(name, title, published, {"smoke": SMOKE[name], "quick": QUICK[name], "paper": PAPER[name]})
        for name, (title, published) in TITLES.items()
    ),
    data={"mnist": mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "digits": (8, 8)},
)
