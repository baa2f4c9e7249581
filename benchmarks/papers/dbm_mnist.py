"""Salakhutdinov & Hinton, *Deep Boltzmann machines*, AISTATS 2009: MNIST, 784-500-1000, the calibration of the model.

Beside the machine that was trained jointly and fine-tuned as published, the same fine-tuned under dropout, and its
greedy start, fine-tuned as published. As published, the labels were joined to the input of the second layer while it
was pretrained: so are they in the rows that say so.
"""

from __future__ import annotations

import dataclasses

from benchmarks.experiment import Experiment, Joint, Plan, Published, Row, Scale
from benchmarks.papers.larochelle2009 import TUNING_RATE, tuning
from benchmarks.papers.norb_plans import machine, output
from benchmarks.tasks.classification import Classification
from pretrain import Adam, Classifier, Linear, Stage
from pretrain.data import digits, mnist

TITLES = {
    "dbm": ("deep Boltzmann machine, 500-1000", Published(test=0.95)),
    "dbm-dropout": (
        "the machine, fine-tuned under dropout by Adam",
        Published(test=0.79, source="recalled; Srivastava et al., JMLR 2014, whose recipe differs"),
    ),
    "dbm-greedy": ("the machine without joint training", Published()),
    "dbm-labels": ("the machine, labels joined to its second layer", Published(test=0.95)),
    "dbm-labels-dropout": ("the same, fine-tuned under dropout by Adam", Published()),
}


def plans(
    sizes: tuple[int, int],
    layer_epochs: int,
    joint_epochs: int,
    tuning_epochs: int,
    batch_size: int = 100,
    weight_decay: float = 2e-4,
    max_steps: int = 25,
) -> dict[str, Plan]:
    """Every row at one scale."""
    greedy, joint = machine(
        sizes,
        0.05,
        layer_epochs,
        joint_epochs,
        0.02,
        batch_size,
        weight_decay=weight_decay,
        max_steps=max_steps,
        tolerance=1e-2,
    )
    fine_tuning, first = tuning(1.0, tuning_epochs, batch_size // 2), output(3, batch_size, 10)
    plan = Plan(
        greedy, fine_tuning, joint=Joint(joint, steps=max_steps), output=first, grid={TUNING_RATE: (0.5, 1.0, 2.0)}
    )
    untrained = Joint(joint.replace(epochs=0), steps=max_steps)  # type: ignore[attr-defined]
    learner, epochs = Classifier(10, dropout=0.5, input_dropout=0.2), 3 * tuning_epochs // 2
    dropped = Stage(learner, Adam(1e-3, schedule=Linear(float(epochs))), epochs, batch_size, patience=epochs)
    adam_rates = {TUNING_RATE: (3e-4, 1e-3, 3e-3)}
    lower, upper = greedy
    told = upper.replace(learner=upper.learner.replace(n_classes=10))  # type: ignore[attr-defined]
    with_labels = dataclasses.replace(plan, pretraining=(lower, told))
    return {
        "dbm": plan,
        "dbm-dropout": dataclasses.replace(plan, fine_tuning=dropped, grid=adam_rates),
        "dbm-greedy": dataclasses.replace(plan, joint=untrained),
        "dbm-labels": with_labels,
        "dbm-labels-dropout": dataclasses.replace(with_labels, fine_tuning=dropped, grid=adam_rates),
    }


SCALES = {
    "smoke": plans((32, 48), 5, 3, 10, 20),
    "quick": {name: plan for name, plan in plans((500, 1000), 10, 8, 15).items() if "labels" not in name},
    "long": plans((500, 1000), 100, 40, 40, weight_decay=1e-3, max_steps=10),
    "paper": plans((500, 1000), 100, 300, 40, weight_decay=1e-3, max_steps=10),
}

EXPERIMENT = Experiment(
    name="dbm",
    title="MNIST: a deep Boltzmann machine, fine-tuned",
    source="Salakhutdinov & Hinton, AISTATS 2009",
    question=(
        "How low an error on MNIST does a deep Boltzmann machine reach once it is fine-tuned, and what does "
        "training its layers jointly add to their greedy start?"
    ),
    metric="classification error, percent",
    task=Classification(),
    scales={
        "smoke": Scale("digits", 1, "8x8 digits, not MNIST: it shows that everything runs"),
        "quick": Scale("mnist", 1, "all of MNIST, minutes on two cores"),
        "long": Scale("mnist", 1, "all of MNIST, the greedy machines as long as published, 40 joint epochs, not 300"),
        "paper": Scale("mnist", 1, "all of MNIST, as long as published"),
    },
    rows=tuple(
        Row(
            name,
            title,
            published,
            {scale: found[name] for scale, found in SCALES.items() if name in found},
            drawn=name != "dbm-labels-dropout",
        )
        for name, (title, published) in TITLES.items()
    ),
    data={"mnist": mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "digits": (8, 8)},
    notes=(
        "The published machine was pretrained with the labels joined to its second layer, as that of `dbm-labels`; the "
        "others with none.",
    ),
)
