"""Every way of pretraining a layer that the package knows, side by side, on one network and one fine-tuning.

Three hidden layers of the same size, plain SGD on all layers under early stopping, its rate from the same grid for
every row. The rows without pretraining come twice: by the recipe of 2009 (uniform weights of 1/sqrt(n), sigmoid units,
SGD) and by today's (He initialisation, rectified units, Adam, dropout).
"""

from __future__ import annotations

from benchmarks.experiment import Experiment, Pairs, Plan, Published, Row, Scale
from benchmarks.pairs import Frames, Neighbours
from benchmarks.papers.larochelle2009 import TUNING_RATE, decaying, tuning
from benchmarks.tasks.classification import Classification
from pretrain import (
    L1,
    SESM,
    Adam,
    Autoencoder,
    BernoulliRBM,
    Classifier,
    Contractive,
    Embedding,
    KernelPCA,
    KLSparsity,
    Learner,
    Linear,
    LogisticAutoregression,
    Masking,
    Momentum,
    Sgd,
    SlowFeatures,
    Stage,
    SupervisedGreedy,
)
from pretrain.data import digits, mnist

LAROCHELLE = "Larochelle et al., JMLR 10 (2009), Table 1"
VINCENT = "Vincent et al., JMLR 11 (2010), Table 3, as restated elsewhere; three layers, 25% masking"
SRIVASTAVA = "Srivastava et al., JMLR 15 (2014), Table 2, as restated elsewhere; rectified units, 3 x 1024, dropout"
BERGSTRA = "Bergstra & Bengio, NIPS 2009, abstract; one layer of quadratic units"

TITLES = {
    "srbm": ("SRBM: stacked RBMs", Published(test=1.20, source=LAROCHELLE)),
    "saa": ("SAA: stacked autoassociators", Published(test=1.41, source=LAROCHELLE)),
    "sdae": ("stacked denoising autoencoders", Published(test=1.28, source=VINCENT)),
    "sparse-kl": ("stacked sparse autoencoders, KL to a target", Published()),
    "sparse-l1": ("stacked sparse autoencoders, L1", Published()),
    "contractive": ("stacked contractive autoencoders", Published()),
    "sesm": ("stacked sparse encoding symmetric machines", Published()),
    "kernel-pca": ("stacked kernel PCA, only the output layer fine-tuned", Published()),
    "embedding": ("stacked unsupervised embedding of neighbours", Published()),
    "slow-features": ("stacked slow features of moved digits", Published(test=1.34, source=BERGSTRA)),
    "logistic-autoregression": ("stacked logistic autoregressions", Published(test=1.85, source=LAROCHELLE)),
    "supervised": ("supervised pretraining", Published(test=2.04, source=LAROCHELLE)),
    "deep-2009": ("no pretraining, the recipe of 2009", Published(test=2.40, source=LAROCHELLE)),
    "deep-today": ("no pretraining, today's recipe", Published(test=1.25, source=SRIVASTAVA)),
}

MASKING = Masking(0.25)


def constant(learner: Learner, rate: float, epochs: int, batch_size: int = 100, weight_decay: float = 0.0) -> Stage:
    """Momentum .5, then .9, at one rate."""
    return Stage(learner, Momentum(rate, weight_decay=weight_decay), epochs, batch_size)


def todays(
    n_hidden: tuple[int, ...],
    epochs: int,
    batch_size: int,
    dropout: float = 0.3,
    input_dropout: float = 0.1,
    rate: float = 1e-3,
) -> Stage:
    """He initialisation, rectified units, dropout, and Adam at a rate that falls to zero; early stopping."""
    learner = Classifier(
        10,
        n_hidden,
        activation="relu",
        initialization="he",
        dropout=dropout,
        input_dropout=input_dropout,
        output_scale=1.0,
    )
    return Stage(learner, Adam(rate, schedule=Linear(float(epochs))), epochs, batch_size, patience=epochs)


# --- smoke: seconds, on 8x8 digits; it shows that everything runs, not what it reaches ---

SMOKE_PAIRS: dict[str, Pairs] = {"embedding": Neighbours(5), "slow-features": Frames((8, 8), 0.3, 5.0)}


def smoke_layer(name: str, n_hidden: int = 32) -> Stage:
    """One layer of a row at smoke scale."""
    if name == "kernel-pca":
        return Stage(KernelPCA(n_hidden, n_landmarks=200))
    learner: Learner = {
        "srbm": BernoulliRBM(n_hidden),
        "saa": Autoencoder(n_hidden),
        "sdae": Autoencoder(n_hidden, corruption=MASKING),
        "sparse-kl": Autoencoder(n_hidden, penalty=KLSparsity(0.2, 0.1)),
        "sparse-l1": Autoencoder(n_hidden, penalty=L1(0.01)),
        "contractive": Autoencoder(n_hidden, penalty=Contractive(0.1)),
        "sesm": SESM(n_hidden),
        "embedding": Embedding(n_hidden, margin=3.0),
        "slow-features": SlowFeatures(n_hidden),
        "logistic-autoregression": LogisticAutoregression(n_hidden),
        "supervised": SupervisedGreedy(10, (n_hidden,)),
    }[name]
    rate = {"sesm": 0.01, "embedding": 0.02, "slow-features": 0.01}.get(name, 0.05)
    return constant(learner, rate, 8, 20)


SMOKE_DEEP = {
    "deep-2009": Plan((), tuning(1.0, 20, 20, n_hidden=(32, 32, 32), start=10.0)),
    "deep-today": Plan((), todays((32, 32, 32), 20, 20, 0.0, 0.0)),
}

# --- quick and paper: all of MNIST, three layers of 500 ---

PAIRS: dict[str, Pairs] = {"embedding": Neighbours(10), "slow-features": Frames((28, 28), 2.0, 10.0)}


def quick_layers(name: str, n_hidden: int = 500) -> tuple[Stage, ...]:
    """The three layers of a row at quick scale."""
    if name == "kernel-pca":  # gamma: of pixels 1 / (features * variance), of normalised components 0.3 times that
        first, upper = (KernelPCA(n_hidden, n_landmarks=2_000, gamma=gamma) for gamma in (None, 0.3 / n_hidden))
        return Stage(first), Stage(upper), Stage(upper)
    layer = {
        "srbm": constant(BernoulliRBM(n_hidden), 0.1, 12, weight_decay=2e-4),
        "saa": constant(Autoencoder(n_hidden), 0.5, 12, weight_decay=1e-3),
        "sdae": constant(Autoencoder(n_hidden, corruption=MASKING), 0.2, 12, weight_decay=1e-4),
        "sparse-kl": constant(Autoencoder(n_hidden, penalty=KLSparsity(0.05, 0.3)), 0.5, 12, weight_decay=1e-3),
        "sparse-l1": constant(Autoencoder(n_hidden, penalty=L1(0.01)), 0.5, 12, weight_decay=1e-3),
        "contractive": constant(Autoencoder(n_hidden, penalty=Contractive(0.3)), 0.5, 12, weight_decay=1e-3),
        "sesm": constant(SESM(n_hidden, gain=3.0, relaxation_rate=0.03), 0.01, 6),
        "embedding": constant(Embedding(n_hidden, margin=5.0), 0.03, 3),
        "slow-features": constant(SlowFeatures(n_hidden, 0.05), 0.003, 12),
        "logistic-autoregression": Stage(LogisticAutoregression(n_hidden, fill_diagonal=True), Sgd(0.02), 5, 100),
        "supervised": Stage(SupervisedGreedy(10, (n_hidden,)), Sgd(0.5), 4, 50, patience=4),
    }[name]
    return (layer,) * 3


PRETRAINED = [name for name in TITLES if not name.startswith("deep-")]
RATES = {TUNING_RATE: (0.05, 0.5, 1.0, 2.0)}
ADAM_RATES = {TUNING_RATE: (3e-4, 1e-3, 3e-3)}
CHOSEN = dict.fromkeys(PRETRAINED, 2.0) | {"kernel-pca": 0.05, "saa": 1.0, "supervised": 1.0}
"""Fine-tuning rates: of `RATES` the best by validation error of a seed of its own, at quick scale."""


def quick(name: str) -> Plan:
    """A row at quick scale."""
    return Plan(quick_layers(name), tuning(CHOSEN[name], 12, 50), pairs=PAIRS.get(name), grid=RATES)


def paper(name: str) -> Plan:
    """A row at paper scale: the same layers, RBMs for longer, and longer fine-tuning."""
    longer = (decaying(BernoulliRBM(500), 0.1, 60, weight_decay=1e-4),) * 3
    return Plan(
        longer if name == "srbm" else quick_layers(name),
        tuning(CHOSEN[name], 20, 50),
        pairs=PAIRS.get(name),
        grid=RATES,
    )


QUICK_DEEP = {
    "deep-2009": Plan((), tuning(2.0, 25, 50, n_hidden=(500, 500, 500), start=12.0), grid=RATES),
    "deep-today": Plan((), todays((500, 500, 500), 20, 100, rate=3e-3), grid=ADAM_RATES),
}
PAPER_DEEP = {
    "deep-2009": Plan((), tuning(2.0, 40, 50, n_hidden=(500, 500, 500), start=20.0), grid=RATES),
    "deep-today": Plan((), todays((500, 500, 500), 60, 100, rate=3e-3), grid=ADAM_RATES),
}
PLANS: dict[str, dict[str, Plan]] = {
    "smoke": {
        name: Plan((smoke_layer(name),) * 3, tuning(1.0, 12, 20), pairs=SMOKE_PAIRS.get(name)) for name in PRETRAINED
    }
    | SMOKE_DEEP,
    "quick": {name: quick(name) for name in PRETRAINED} | QUICK_DEEP,
    "paper": {name: paper(name) for name in PRETRAINED} | PAPER_DEEP,
}

EXPERIMENT = Experiment(
    name="family",
    title="MNIST: every way of pretraining, one network, one fine-tuning",
    source="",
    question=(
        "Given one network and one fine-tuning, which way of pretraining the layers leaves the lowest test error, "
        "and what is left of the gain beside a network that starts by today's recipe?"
    ),
    metric="classification error, percent",
    task=Classification(),
    scales={
        "smoke": Scale("digits", 1, "8x8 digits, not MNIST, three layers of 32: it shows that everything runs"),
        "quick": Scale("mnist", 1, "all of MNIST, three layers of 500, minutes on two cores"),
        "paper": Scale("mnist", 5, "all of MNIST, three layers of 500, longer training"),
    },
    rows=tuple(
        Row(name, title, published, {scale: plans[name] for scale, plans in PLANS.items()})
        for name, (title, published) in TITLES.items()
    ),
    data={"mnist": mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "digits": (8, 8)},
    notes=("Published figures are of other sizes and protocols than this table's; each says which.",),
)
