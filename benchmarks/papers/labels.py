"""Learning from few labels: pretraining on all training images, fine-tuning on those that have a label.

The question of Weston, Ratle & Collobert (*Deep learning via semi-supervised embedding*, ICML 2008): what do unlabelled
rows buy, as labels become scarce? The networks and layers are those of the family table.
"""

from __future__ import annotations

from benchmarks.experiment import Experiment, Plan, Published, Row, Scale
from benchmarks.papers import family
from benchmarks.papers.larochelle2009 import tuning
from benchmarks.tasks.classification import Classification
from pretrain import Embedding
from pretrain.data import digits, mnist
from pretrain.stage import Stage

COUNTS = (100, 600, 1_000, 3_000, 10_000, 50_000)
SMOKE_COUNTS = (50, 1_197)
SERIES = {
    "srbm": "SRBM",
    "saa": "SAA",
    "sdae": "SDAE",
    "embedding": "embedding",
    "deep-2009": "none, 2009",
    "deep-today": "none, today",
}
FEW = 3_000
"""Up to so many labels minibatches are of 20 rows and the rate is 1.0, not searched; beyond it is the family's."""

INITIAL_SCALE = 4.0
"""Of the network of 2009. Drawn from U(-1/sqrt(n), 1/sqrt(n)) it hardly leaves chance with few labels: on 100 its
validation error was 66%, with twice that width 67%, three times 35%, four times 26%."""

EMBEDDING = (family.constant(Embedding(500, margin=10.0), 0.03, 5),) * 3
"""Where labels are few, its layers are trained further than the family's, whose settings suit many: by validation error
22.3, 11.9, 9.6 and 6.7% up to 3,000 labels, with the family's 27.7, 13.2, 11.3 and 7.7%; beyond, 4.8 and 2.9% (at the
rate 1.0) against 4.5 and 2.1%."""

WESTON = "Weston et al., ICML 2008, as recalled: its text was not at hand; its embedding is learned with the labels"
PUBLISHED: dict[str, dict[int, float]] = {
    "embedding": dict(zip(COUNTS, (16.86, 5.97, 5.73, 3.59), strict=False)),
    "deep-2009": dict(zip(COUNTS, (25.81, 11.44, 10.70, 6.04), strict=False)),
}


def fine_tuning(name: str, n_hidden: tuple[int, ...], labels: int, epochs: int, batch_size: int) -> Stage:
    """The family's fine-tuning, on so many labels: fewer labels, more epochs."""
    if name == "deep-today":
        return family.todays(n_hidden, epochs, batch_size)
    if name == "deep-2009":
        epochs = max(epochs, 100) if labels <= 1_000 else epochs
        return tuning(1.0, epochs, batch_size, n_hidden=n_hidden, initial_scale=INITIAL_SCALE, start=epochs / 2)
    return tuning(1.0 if labels <= FEW else family.CHOSEN[name], epochs, batch_size)


def epochs_for(labels: int) -> int:
    """Epochs of fine-tuning: between 10 (all labels) and 100."""
    return {100: 60, 600: 60, 1_000: 50, 3_000: 30, 10_000: 20, 50_000: 10}[labels]


def mnist_plan(name: str, labels: int) -> Plan:
    """A row on MNIST."""
    stage = fine_tuning(name, (500,) * 3, labels, epochs_for(labels), 20 if labels <= FEW else 50)
    if name.startswith("deep-"):
        return Plan((), stage, labels=labels, grid=family.ADAM_RATES if name == "deep-today" else family.RATES)
    layers = EMBEDDING if name == "embedding" and labels <= FEW else family.quick_layers(name)
    return Plan(layers, stage, pairs=family.PAIRS.get(name), labels=labels, grid=family.RATES)


def smoke_plan(name: str, labels: int) -> Plan:
    """A row on the 8x8 digits."""
    stage = fine_tuning(name, (32,) * 3, labels, 10, 10)
    if name.startswith("deep-"):
        return Plan((), stage, labels=labels)
    return Plan((family.smoke_layer(name),) * 3, stage, pairs=family.SMOKE_PAIRS.get(name), labels=labels)


def rows() -> list[Row]:
    """A row a series and number of labels; those of a series follow each other, for they share a stack."""
    found = []
    for name, title in SERIES.items():
        for labels in sorted({*COUNTS, *SMOKE_COUNTS}):
            plans = {"quick": mnist_plan(name, labels), "paper": mnist_plan(name, labels)} if labels in COUNTS else {}
            plans |= {"smoke": smoke_plan(name, labels)} if labels in SMOKE_COUNTS else {}
            test = PUBLISHED.get(name, {}).get(labels)
            published = Published(test=test, source=WESTON if test else "")
            found.append(Row(f"{name}-{labels}", f"{title}, {labels:,} labels", published, plans, title, labels))
    return found


EXPERIMENT = Experiment(
    name="labels",
    title="MNIST: learning from few labels",
    source="",
    question=(
        "What do images without labels buy as labels become scarce, and from how many labels on do they buy nothing "
        "more?"
    ),
    metric="classification error, percent",
    task=Classification(),
    scales={
        "smoke": Scale("digits", 1, "8x8 digits, not MNIST, three layers of 32: it shows that everything runs"),
        "quick": Scale("mnist", 1, "three layers of 500, pretrained on 50,000 images without labels"),
        "paper": Scale("mnist", 10, "three layers of 500, pretrained on 50,000 images without labels"),
    },
    rows=tuple(rows()),
    data={"mnist": mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "digits": (8, 8)},
    level="number of labels",
    notes=(
        "Labelled rows are drawn by class with each seed; pretraining sees all training images and no label.",
        "The network of 2009 is drawn four times as wide as there, without which it hardly learns from 100 labels.",
        "The epoch that is kept is chosen on 10,000 validation labels, more than a user with 100 labels has.",
    ),
)
