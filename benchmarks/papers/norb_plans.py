"""How the rows of the NORB table are trained: Gaussian RBMs, deep Boltzmann machines, stacks and what they are held
against.
"""

from __future__ import annotations

import dataclasses

from benchmarks.baselines import SVM, Baseline, LogisticRegression, NearestNeighbours
from benchmarks.convnet import ConvNet
from benchmarks.experiment import Joint, Plan
from benchmarks.papers.larochelle2009 import TUNING_RATE, decaying, tuning
from pretrain import (
    Adam,
    Autoencoder,
    BernoulliRBM,
    Classifier,
    Gaussian,
    GaussianRBM,
    Linear,
    Masking,
    Momentum,
    Sgd,
    SparsityTarget,
    Stage,
    WarmUp,
)
from pretrain.data import Shifts
from pretrain.generative import DBM

PIXELS: dict[str, Baseline] = {"svm": SVM(), "lr": LogisticRegression(), "knn": NearestNeighbours()}
CHOSEN: dict[str, Baseline] = {
    "svm": SVM(costs=(3.0,), gammas=(8.0,)),
    "lr": LogisticRegression(costs=(0.01,)),
    "knn": NearestNeighbours(ks=(1,)),
}
"""What they choose at scale `paper`."""
CHOSEN_ON_CODES: dict[str, Baseline] = CHOSEN | {"lr": LogisticRegression(costs=(1.0,))}
"""What they choose there on codes of the stack of RBMs."""
CHOSEN_ON_RAW = CHOSEN | {"lr": LogisticRegression(costs=(0.001,))}
"""On all pixels; only the regression's cost was chosen on these."""
CHOSEN_ON_CONTRAST = CHOSEN | {"svm": SVM(costs=(3.0,), gammas=(4.0,))}
"""On contrast-normalised pairs; only the kernel's width was chosen on these, on other splits by objects."""


def output(epochs: int, batch_size: int, n_classes: int) -> Stage:
    """The output layer alone, before all layers."""
    return Stage(Classifier(n_classes), Sgd(0.1, Linear(float(epochs))), epochs, batch_size)


def gaussian(n_hidden: int, rate: float, epochs: int, batch_size: int, warm_up: float = 0.0) -> Stage:
    """The first RBM, on standardised pixels: a small rate, which may rise over the first epochs."""
    stage = decaying(GaussianRBM(n_hidden), rate, epochs, batch_size, weight_decay=1e-3)
    if not warm_up:
        return stage
    return stage.replace(optimizer=stage.optimizer.replace(schedule=WarmUp(warm_up, Linear(float(epochs)))))  # type: ignore


def machine(
    sizes: tuple[int, int],
    rate: float,
    layer_epochs: int,
    joint_epochs: int,
    joint_rate: float,
    batch_size: int,
    *,
    weight_decay: float = 2e-4,
    max_steps: int = 10,
    tolerance: float = 1e-3,
) -> tuple[tuple[Stage, Stage], Stage]:
    """A deep Boltzmann machine of two hidden layers: its greedy stages, with their weight decay, and the joint one."""
    greedy = tuple(
        decaying(BernoulliRBM(n, doubled=doubled), rate, layer_epochs, batch_size, weight_decay=weight_decay)
        for n, doubled in zip(sizes, ("up", "down"), strict=True)
    )
    sparsity = (SparsityTarget(0.2, 1e-3, 0.9), SparsityTarget(0.1, 1e-3, 0.9))
    joint = DBM(sizes, n_chains=batch_size, k=5, max_steps=max_steps, tolerance=tolerance, sparsity=sparsity)
    recipe = Sgd(joint_rate, Linear(float(joint_epochs)), weight_decay=2e-4)
    return greedy, Stage(joint, recipe, joint_epochs, batch_size)  # type: ignore[return-value]


def plans(
    n_hidden: int,
    shape: tuple[int, int, int],
    n_classes: int,
    epochs: int,
    front_epochs: int,
    tuning_epochs: int,
    batch_size: int,
    layers: int = 3,
    held: int = 0,
    greedy_epochs: int = 20,
    joint_epochs: int = 8,
    warm_up: float = 0.0,
) -> dict[str, Plan]:
    """Every row at one scale: layers of the same size, the same fine-tuning grid. Of the stacks of RBMs and the
    machines ``held`` layers stay as they were pretrained.

    The stacks of RBMs and the machines keep the last epoch: which one does best on one object a category says nothing
    of others (benchmarks/NOTES.md).
    """
    front = gaussian(n_hidden, 0.01, front_epochs, batch_size, warm_up)
    greedy, joint = machine((n_hidden, n_hidden), 0.05, greedy_epochs, joint_epochs, 0.005, batch_size)
    tuned = tuning(1.0, tuning_epochs, batch_size // 2, n_classes=n_classes)
    last = tuned.replace(patience=None)  # type: ignore[attr-defined]
    longer_last = tuning(1.0, 2 * tuning_epochs, batch_size // 2, n_classes=n_classes).replace(patience=None)  # type: ignore[attr-defined]
    shifts = Shifts(shape, 3 if shape[1] > 8 else 1)
    grid = {TUNING_RATE: (0.1, 0.5, 1.0)}
    above = (decaying(BernoulliRBM(n_hidden), 0.05, epochs, batch_size, weight_decay=2e-4),) * (layers - 1)
    squared = Autoencoder(n_hidden, loss="squared_error")
    first = Stage(squared, Momentum(0.001, weight_decay=1e-4), epochs, batch_size)
    upper = Stage(Autoencoder(n_hidden), Momentum(0.1, weight_decay=1e-3), epochs, batch_size)
    noisy_first = Stage(squared.replace(corruption=Gaussian(0.5)), first.optimizer, epochs, batch_size)  # type: ignore[attr-defined]
    noisy_upper = Stage(Autoencoder(n_hidden, corruption=Masking(0.25)), upper.optimizer, epochs, batch_size)
    srbm = (front, *above)
    today = Classifier(
        n_classes, (n_hidden,) * layers, activation="relu", initialization="he", dropout=0.3, output_scale=1.0
    )
    longer = 2 * tuning_epochs
    adam, adam_rates = Adam(1e-3, schedule=Linear(float(tuning_epochs))), {TUNING_RATE: (3e-4, 1e-3, 3e-3)}
    machine_rows = {
        "joint": Joint(joint, 1, steps=10 if held else 2),
        "held": held,
        "output": output(5, batch_size, n_classes),
        "grid": grid,
    }
    return {
        "dbm": Plan((front, *greedy), last, **machine_rows),
        "dbm-shifts": Plan((front, *greedy), last, augment=shifts, **machine_rows),
        **{name: Plan((), baseline=baseline) for name, baseline in PIXELS.items()},
        "srbm": Plan(srbm, last, held=held, grid=grid),
        "srbm-shifts": Plan(srbm, longer_last, augment_tuning=shifts, grid=grid),
        **{f"{name}-srbm": Plan(srbm, baseline=baseline) for name, baseline in PIXELS.items()},
        "saa": Plan((first, *(upper,) * (layers - 1)), tuned, grid=grid),
        "sdae": Plan((noisy_first, *(noisy_upper,) * (layers - 1)), tuned, grid=grid),
        "deep-2009": Plan(
            (),
            tuning(
                0.5, longer, batch_size // 2, n_classes=n_classes, n_hidden=(n_hidden,) * layers, start=0.5 * longer
            ),
            grid=grid,
        ),
        "deep-today": Plan((), Stage(today, adam, tuning_epochs, batch_size, patience=tuning_epochs), grid=adam_rates),
        "cnn": Plan(
            (),
            Stage(ConvNet(n_classes, shape), adam, tuning_epochs, batch_size // 2, patience=tuning_epochs),
            grid=adam_rates,
        ),
    }


def refitted(plan: Plan, baseline: Baseline | None) -> Plan:
    """The plan as it was chosen (but for what its caller says of the Gaussian RBM), where nothing is held out: the last
    epoch is kept, the baseline's numbers are given.
    """
    tuned = plan.fine_tuning and plan.fine_tuning.replace(patience=None)  # type: ignore[attr-defined]
    return dataclasses.replace(plan, fine_tuning=tuned, baseline=baseline, grid={})


def dropped(plan: Plan, tuning_epochs: int, batch_size: int, *, input_dropout: float = 0.7) -> Plan:
    """The plan with the fine-tuning that was chosen for the machine on contrast-normalised pairs: by Adam under
    dropout, of what comes from layers that are held too.
    """
    learner = plan.fine_tuning.learner.replace(dropout=0.5, input_dropout=input_dropout)  # type: ignore[union-attr]
    tuned = Stage(learner, Adam(1e-3, schedule=Linear(float(tuning_epochs))), tuning_epochs, batch_size)
    return dataclasses.replace(plan, fine_tuning=tuned)


def sparse(
    plan: Plan,
    tuning_epochs: int,
    batch_size: int,
    *,
    front_rate: float = 0.008,
    front_cost: float = 1.0,
    input_dropout: float = 0.7,
) -> Plan:
    """The plan, of RBMs, with what was chosen for the machine on contrast-normalised pairs: `dropped`, every RBM with a
    sparsity target, the Gaussian one at a smaller rate. Its target's pull is its cost times this rate.
    """
    front, *above = plan.pretraining
    front = front.replace(optimizer=front.optimizer.replace(learning_rate=front_rate))  # type: ignore[attr-defined]
    stages = (
        _aimed(front, SparsityTarget(0.02, front_cost)),
        *(_aimed(stage, SparsityTarget(0.02, 1.0)) for stage in above),
    )
    joint = plan.joint and plan.joint.replace(stage=_aimed(plan.joint.stage, (SparsityTarget(0.02, 1e-3),) * 2))  # type: ignore[attr-defined]
    plan = dropped(plan, tuning_epochs, batch_size, input_dropout=input_dropout)
    return dataclasses.replace(plan, pretraining=stages, joint=joint)


def all_tuned(plan: Plan) -> Plan:
    """The plan of a machine with its Gaussian RBM tuned too: what is dropped are then pixels, and two sweeps of mean
    field do as well as ten.
    """
    return dataclasses.replace(plan, held=0, joint=plan.joint and plan.joint.replace(steps=2))  # type: ignore[attr-defined]


def _aimed(stage: Stage, sparsity: object) -> Stage:
    return stage.replace(learner=stage.learner.replace(sparsity=sparsity))  # type: ignore[attr-defined]


def on_contrast(found: dict[str, Plan], pixels: str | tuple[str, ...]) -> dict[str, Plan]:
    """Rows of `plans` on contrast-normalised pairs; classifiers on pixels as they are see the data named ``pixels``."""
    networks = {name: sparse(refitted(found[name], None), 20, 100) for name in ("dbm", "srbm")}
    networks["deep-today"] = dropped(refitted(found["deep-today"], None), 20, 100)
    networks["dbm-tuned"] = all_tuned(networks["dbm"])
    as_they_are = {name: Plan((), baseline=baseline, data=pixels) for name, baseline in CHOSEN.items()}
    normalised = {f"{name}-contrast": Plan((), baseline=baseline) for name, baseline in CHOSEN_ON_CONTRAST.items()}
    return networks | as_they_are | normalised
