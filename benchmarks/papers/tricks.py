"""The lecture's third part: what made deep networks train without pretraining, one trick at a time.

One network (784-500-500-10, sigmoid units, cross-entropy, SGD at 0.1, minibatches of 100, 20 epochs) and, a row at a
time, one thing changed. Published figures are accuracies there; they stand here as errors. Layers are counted as there,
the output among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.convnet import ConvNet
from benchmarks.experiment import Experiment, Plan, Published, Row, Scale
from benchmarks.papers.erhan2009 import part_of_mnist
from benchmarks.papers.larochelle2009 import decaying
from benchmarks.summary import Summary
from benchmarks.tasks.classification import Classification
from pretrain import (
    Adagrad,
    Adam,
    BernoulliRBM,
    Classifier,
    Momentum,
    Perceptron,
    Sgd,
    SquaredErrorClassifier,
    Stage,
)
from pretrain.data import Rotations, digits, mnist
from pretrain.optim import Recipe

LEVEL = 10.0
"""Percent; updates are counted until the validation error first is at most this."""


class Size:
    """What differs between scales: inputs, units, training rows, epochs and rows of a minibatch."""

    def __init__(self, side: int, n_hidden: int, rows: int, epochs: int, batch_size: int) -> None:
        self.side, self.n_hidden, self.rows = side, n_hidden, rows
        self.epochs, self.batch_size = epochs, batch_size

    def network(self, layers: int = 3, activation: str = "sigmoid", initialization: str = "glorot", **more: Any) -> Any:
        """So many layers with the output: Glorot's initialisation, as the lecture's framework has it."""
        kind = more.pop("kind", Classifier)
        sizes = (self.n_hidden,) * (layers - 1)
        return kind(10, sizes, activation=activation, initialization=initialization, output_scale=1.0, **more)

    def stage(
        self,
        learner: Any = None,
        optimizer: Recipe | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
    ) -> Stage:
        """The lecture's training but for what is given; the best epoch on the validation rows is kept."""
        epochs = epochs or self.epochs
        return Stage(
            learner or self.network(),
            optimizer or Sgd(0.1),
            epochs,
            batch_size or self.batch_size,
            patience=patience or epochs,
        )

    def plans(self) -> dict[str, Plan]:
        """Every row."""
        network, stage = self.network, self.stage
        pretraining = (
            decaying(BernoulliRBM(self.n_hidden), 0.1, max(self.epochs // 2, 1), 100 if self.rows > 2_000 else 20),
        ) * 8
        shape = (1, self.side, self.side)
        return {
            "base": Plan((), stage()),
            "squared-error": Plan((), stage(network(kind=SquaredErrorClassifier))),
            "full-batch": Plan((), stage(batch_size=self.rows)),
            "nine-layers": Plan((), stage(network(9))),
            "nine-layers-relu": Plan((), stage(network(9, "relu", "he"))),
            "nine-layers-small": Plan((), stage(network(9, initial_scale=0.1))),
            "nine-layers-scaled": Plan((), stage(network(9, initial_scale=4.0))),
            "nine-layers-pretrained": Plan(pretraining, stage(Classifier(10))),
            "rate-too-small": Plan((), stage(optimizer=Sgd(0.001))),
            "rate-larger": Plan((), stage(optimizer=Sgd(1.0))),
            "rate-too-large": Plan((), stage(optimizer=Sgd(30.0))),
            "momentum": Plan((), stage(optimizer=Momentum(0.1))),
            "adagrad": Plan((), stage(optimizer=Adagrad(0.01))),
            "adam": Plan((), stage(optimizer=Adam(0.001))),
            "relu": Plan((), stage(network(activation="relu", initialization="he"))),
            "early-stopping": Plan((), stage(optimizer=Adam(0.001), epochs=5 * self.epochs, patience=5)),
            "weight-decay": Plan(
                (),
                stage(optimizer=Adam(0.001, weight_decay=1e-5)),
                grid={"fine_tuning.optimizer.weight_decay": (1e-5, 1e-4, 1e-3)},
            ),
            "dropout": Plan((), stage(network(dropout=0.3), optimizer=Adam(0.001))),
            "rotations": Plan((), stage(optimizer=Adam(0.001)), augment_tuning=Rotations((self.side, self.side), 15.0)),
            "convolutions": Plan((), stage(ConvNet(10, shape), optimizer=Adam(0.001))),
            "one-layer": Plan((), stage(network(2))),
            "perceptron": Plan((), stage(Perceptron(10), optimizer=Sgd(1.0), batch_size=10)),
        }


PANELS = {
    "Which loss, and which minibatch?": ("base", "squared-error", "full-batch"),
    "Deeper?": ("base", "nine-layers", "nine-layers-relu", "relu", "one-layer", "perceptron"),
    "What rescues nine sigmoid layers?": (
        "nine-layers",
        "nine-layers-small",
        "nine-layers-scaled",
        "nine-layers-pretrained",
    ),
    "Which learning rate?": ("rate-too-small", "base", "rate-larger", "rate-too-large"),
    "Which optimiser?": ("base", "momentum", "adagrad", "adam"),
    "What against overfitting?": ("adam", "early-stopping", "weight-decay", "dropout", "rotations", "convolutions"),
}
LECTURE = (
    "the lecture's slides, accuracies there; of the training images' number and the initialisation they say nothing"
)
TITLES = {
    "base": ("cross-entropy, minibatches, three layers", 16.0),
    "squared-error": ("squared error", 89.0),
    "full-batch": ("no minibatches: one gradient of all rows an epoch", 88.0),
    "nine-layers": ("nine layers", 89.0),
    "nine-layers-relu": ("nine layers, rectified units", 4.0),
    "nine-layers-small": ("nine layers, initial weights a tenth", None),
    "nine-layers-scaled": ("nine layers, initial weights four times as large", None),
    "nine-layers-pretrained": ("nine layers, eight pretrained as RBMs", None),
    "rate-too-small": ("rate 0.001", None),
    "rate-larger": ("rate 1", None),
    "rate-too-large": ("rate 30", None),
    "momentum": ("momentum 0.9", None),
    "adagrad": ("Adagrad", None),
    "adam": ("Adam", None),
    "relu": ("three layers, rectified units", None),
    "early-stopping": ("Adam for longer, stopped early", None),
    "weight-decay": ("Adam, weight decay", None),
    "dropout": ("Adam, dropout of 0.3", None),
    "rotations": ("Adam, rotations up to 15 degrees", None),
    "convolutions": ("a small convolutional network, Adam", None),
    "one-layer": ("one hidden layer", None),
    "perceptron": ("the perceptron of 1957", None),
}
SCALES = {
    "smoke": Size(8, 32, 1_197, 6, 20),
    "quick": Size(28, 500, 10_000, 20, 100),
    "paper": Size(28, 500, 50_000, 20, 100),
}
PLANS = {scale: size.plans() for scale, size in SCALES.items()}


def updates(rows: Sequence[Summary]) -> list[str]:
    """Of every row, what an epoch cost and after how many updates the validation error was `LEVEL`."""
    table = [
        "| row | s an epoch | updates an epoch | updates until 10% | epochs run | train error |",
        "| --- | ---------: | ---------------: | ----------------: | ---------: | ----------: |",
    ]
    for item in rows:
        for line in item.finite[:1]:
            size = SCALES[line["scale"]]
            tuned = line["hyperparameters"]["fine_tuning"]
            trained = line["hyperparameters"]["labels"] or size.rows
            steps = trained // tuned["batch_size"]
            curve = [value for value in line["valid_curve"] if value is not None]
            reached = next((epoch for epoch, value in enumerate(curve, 1) if value <= LEVEL), None)
            seconds = line["seconds"]["fine-tuning"] / len(curve)
            until = "never" if reached is None else f"{reached * steps:,}"
            cells = [f"`{item.row.name}`", f"{seconds:.2f}", f"{steps:,}", until, str(len(curve))]
            table.append("| " + " | ".join([*cells, f"{line['train_error']:.2f}"]) + " |")
    if len(table) == 2:
        return []
    return [
        "## Cost and progress",
        "",
        "Updates of the network are counted in whole epochs, until the validation error is first at most "
        f"{LEVEL:.0f}%; those of a pretraining are not. Seconds include compiling, and are of the machine below.",
        "",
        *table,
    ]


def beside(rows: Sequence[Summary]) -> list[str]:
    """One sentence for every figure of the lecture: whether ours agrees, and if not, what its curve says of why."""
    lines = []
    for item in rows:
        theirs, ours = item.row.published.test, item.estimate("test")
        if theirs is None or ours.mean is None or ours.low is None or ours.high is None:
            continue
        said = f"- `{item.row.name}`: {ours.mean:.1f}% here, {theirs:.0f}% in the lecture"
        (line,) = item.finite[:1]
        steps = SCALES[line["scale"]].rows // line["hyperparameters"]["fine_tuning"]["batch_size"]
        curve = [100.0 if value is None else value for value in line["valid_curve"]]
        passed = next((epoch for epoch, value in enumerate(curve, 1) if value <= theirs), None)
        if abs(ours.mean - theirs) < 1.0:
            lines.append(f"{said}: they agree to a point.")
        elif passed is None:
            lines.append(f"{said}: no epoch here has reached it; the best validation error is {min(curve):.1f}%.")
        else:
            lines.append(
                f"{said}: the validation error here passes the lecture's figure in epoch {passed} of {len(curve)}, "
                f"after {passed * steps:,} updates, and goes on to {min(curve):.1f}%, so that fewer updates, or a "
                "start that leaves the plateau at chance later, are enough to explain it."
            )
    return ["## Beside the lecture", "", *lines, ""] if lines else []


def findings(rows: Sequence[Summary]) -> list[str]:
    """What is said under the table."""
    return [*beside(rows), *updates(rows)]


EXPERIMENT = Experiment(
    name="tricks",
    title="MNIST: what made deep networks train",
    source="",
    question="Which single change makes a network of sigmoid layers train without pretraining, and which one stops it?",
    metric="classification error, percent",
    task=Classification(weights=True),
    scales={
        "smoke": Scale("digits", 1, "8x8 digits, not MNIST, layers of 32: it shows that everything runs"),
        "quick": Scale(
            "part",
            1,
            "10,000 training images of MNIST, 5,000 validation and all test images, 784-500-500-10; of 10,000 and "
            "50,000 images the number whose test errors are nearer to the lecture's, which does not tell its own",
        ),
        "paper": Scale("mnist", 5, "all of MNIST, 784-500-500-10"),
    },
    rows=tuple(
        Row(
            name,
            title,
            Published(test=published, source="" if published is None else LECTURE),
            {scale: plans[name] for scale, plans in PLANS.items()},
        )
        for name, (title, published) in TITLES.items()
    ),
    data={"mnist": mnist, "part": part_of_mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "part": (28, 28), "digits": (8, 8)},
    panels=PANELS,
    weights=("base", "adam", "weight-decay"),
    findings=findings,
    notes=("Layers are counted with the output, as in the lecture; the epoch that is kept is the best on validation.",),
)
