"""Erhan, Manzagol, Bengio, Bengio & Vincent, *The difficulty of training deep architectures and the effect of
unsupervised pre-training*, AISTATS 2009: many networks of each depth, with and without pretraining.

A stage does not depend on those above it: one stack of five layers a seed serves every depth, and every row of what
is kept of it.
"""

from __future__ import annotations

import functools

from benchmarks.claims import findings
from benchmarks.experiment import Experiment, Keep, Plan, Published, Row, Scale
from benchmarks.papers.family import MASKING
from benchmarks.papers.larochelle2009 import TUNING_RATE, tuning
from benchmarks.tasks.classification import Classification
from pretrain import Autoencoder, BernoulliRBM, Momentum
from pretrain.data import Splits, digits, mnist, subset
from pretrain.stage import Stage

DEPTHS = (5, 4, 3, 2, 1)
"""From the deepest, whose row trains the stack that the others share."""

SERIES = {"none": "no pretraining", "sdae": "denoising autoencoders", "srbm": "RBMs"}
KEPT = {
    "lower-2": ("lowest two of three layers pretrained", Keep(3, trained=2)),
    "lower-1": ("lowest of three layers pretrained", Keep(3, trained=1)),
    "marginals": ("three layers, weights shuffled", Keep(3, marginals=True)),
}
"""What else is kept of a stack of three layers, beside all of it."""

GRID = {TUNING_RATE: (0.3, 1.0, 3.0, 10.0)}
RATE, SHALLOW_RATE = 3.0, 1.0
"""Of `GRID` the best by validation error at quick scale: of all rows, and of one layer without pretraining."""


def stack(name: str, n_hidden: int, epochs: int, batch_size: int, rates: dict[str, float]) -> tuple[Stage, ...]:
    """Five layers of one learner."""
    learner = {"sdae": Autoencoder(n_hidden, corruption=MASKING), "srbm": BernoulliRBM(n_hidden)}[name]
    return (Stage(learner, Momentum(rates[name], weight_decay=1e-4), epochs, batch_size),) * max(DEPTHS)


def rows() -> list[Row]:
    """Every depth without pretraining, then by each learner, then what is kept."""
    sizes = {
        "smoke": (24, 5, 20, {"sdae": 0.1, "srbm": 0.1}, 8, 10),
        "quick": (100, 8, 50, {"sdae": 0.1, "srbm": 0.05}, 30, 20),
        "paper": (500, 15, 100, {"sdae": 0.2, "srbm": 0.1}, 30, 50),
    }
    stacks: dict[str, dict[str, tuple[Stage, ...]]] = {
        scale: {name: stack(name, n, epochs, size, rates) for name in rates}
        for scale, (n, epochs, size, rates, *_) in sizes.items()
    }

    def plans(name: str, keep: Keep) -> dict[str, Plan]:
        found = {}
        rate = SHALLOW_RATE if name == "none" and keep.depth == 1 else RATE
        for scale, (n_hidden, *_, epochs, batch_size) in sizes.items():
            if name == "none":
                tuned = tuning(rate, epochs, batch_size, n_hidden=(n_hidden,) * keep.depth)
                found[scale] = Plan((), tuned, grid=GRID)
            else:
                found[scale] = Plan(stacks[scale][name], tuning(rate, epochs, batch_size), keep=keep, grid=GRID)
        return found

    def deep(name: str) -> list[Row]:
        return [
            Row(f"{name}-{d}", f"{title}, {d} layer{'s' if d > 1 else ''}", Published(), plans(name, Keep(d)), title, d)
            for title in [SERIES[name]]
            for d in DEPTHS
        ]

    def kept(name: str) -> list[Row]:
        return [
            Row(f"{name}-{which}", f"{SERIES[name]}: {title}", Published(), plans(name, keep))
            for which, (title, keep) in KEPT.items()
        ]

    return [*deep("none"), *(row for name in ("sdae", "srbm") for row in (*deep(name), *kept(name)))]


def part_of_mnist(**options: object) -> Splits:
    """10,000 training and 5,000 validation images of MNIST, all test images."""
    return subset(mnist(**options), 10_000, 5_000)  # type: ignore[arg-type]


EXPERIMENT = Experiment(
    name="histogram",
    title="MNIST: many networks, with and without pretraining",
    source="Erhan, Manzagol, Bengio, Bengio & Vincent, AISTATS 2009, shows figures; its numbers are not in the text",
    question=(
        "Does pretraining lower the mean and the spread of test errors over many seeds, and more so in deeper "
        "networks? Does keeping only its lowest layers, or only how its weights are distributed, do as much?"
    ),
    metric="classification error, percent",
    task=Classification(),
    scales={
        "smoke": Scale("digits", 3, "8x8 digits, not MNIST, layers of 24: it shows that everything runs"),
        "quick": Scale(
            "part", 12, "10,000 training images of MNIST, 5,000 validation and all test images, layers of 100"
        ),
        "paper": Scale(
            "mnist",
            400,
            "all of MNIST, layers of 500; fine-tuning rates as chosen at scale `quick`, not searched here, so that "
            "networks without pretraining fall behind in part by their rate and initial weights (three layers of 500 "
            "from weights twice as large have 2.0% in the table of `mnist`, and none of five is stuck)",
        ),
    },
    rows=tuple(rows()),
    data={"mnist": mnist, "part": part_of_mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "part": (28, 28), "digits": (8, 8)},
    level="number of hidden layers",
    findings=functools.partial(findings, baseline=SERIES["none"]),
    notes=(
        "The epoch that is kept is chosen on the validation images; test errors are those of that epoch.",
        "A network that never left chance counts with its error; how many there are stands beside the claims. Where "
        "few of many are stuck, Student's interval of the mean is a rough one.",
        "At scale `paper` seeds were added twice, after the tests of 12 and 24 had been seen, and not to all rows "
        "alike: no p says that it is the last of several.",
    ),
)
