"""Hinton & Salakhutdinov, *Reducing the dimensionality of data with neural networks*, Science 313:504-507 (2006).

A stack of RBMs, 784-1000-500-250-30 with a linear code, unrolled into a deep autoencoder and fine-tuned on the
cross-entropy of the pixels; squared error of its reconstructions beside that of principal components (Figure 2B).
"""

from __future__ import annotations

from benchmarks.experiment import Experiment, Plan, Published, Row, Scale
from benchmarks.tasks.reconstruction import Reconstruction
from pretrain import PCA, Adam, BernoulliRBM, DeepAutoencoder, GaussianUnits, Linear, Momentum, Stage
from pretrain.data import digits, mnist


def pretraining(
    n_hidden: tuple[int, ...], epochs: int, batch_size: int = 100, code_epochs: int = 0
) -> tuple[Stage, ...]:
    """RBMs, the highest with a linear code, at the paper's rates: 0.1, and 0.001 for the code."""
    *below, code = n_hidden
    stages = [Stage(BernoulliRBM(n), Momentum(0.1, weight_decay=2e-4), epochs, batch_size) for n in below]
    top = BernoulliRBM(code, hidden=GaussianUnits())
    return (*stages, Stage(top, Momentum(0.001, weight_decay=2e-4), code_epochs or epochs, batch_size))


def tuning(n_hidden: tuple[int, ...], epochs: int, rate: float, batch_size: int = 100) -> Stage:
    """Adam on the whole network, its rate falling to zero; the epoch with the least validation loss is kept."""
    learner = DeepAutoencoder(n_hidden, code_activation="linear")
    return Stage(learner, Adam(rate, schedule=Linear(float(epochs))), epochs, batch_size, patience=epochs)


RATES = {"fine_tuning.optimizer.learning_rate": (3e-4, 1e-3, 3e-3)}


def plans(n_hidden: tuple[int, ...], layer_epochs: int, epochs: int, batch_size: int = 100) -> dict[str, Plan]:
    """The three models with a code of the same size."""
    return {
        "deep-autoencoder": Plan(
            pretraining(n_hidden, layer_epochs, batch_size), tuning(n_hidden, epochs, 1e-3, batch_size), grid=RATES
        ),
        "random-initialisation": Plan((), tuning(n_hidden, epochs, 1e-3, batch_size), grid=RATES),
        "pca": Plan((Stage(PCA(n_hidden[-1])),)),
    }


LAYERS = (1000, 500, 250)
SMALL = (48, 24)
SCALES = {
    "smoke": {30: plans((*SMALL, 8), 3, 3, 20), 2: plans((*SMALL, 2), 3, 3, 20)},
    "quick": {30: plans((*LAYERS, 30), 5, 10), 2: plans((*LAYERS, 2), 5, 10)},
    "paper": {30: plans((*LAYERS, 30), 50, 200), 2: plans((*LAYERS, 2), 50, 200)},
}

FIGURE = (
    "Figure 2B; its caption speaks of the ten test images shown there, but principal components leave 13.87 of all "
    "10,000 too"
)
TITLES = {
    "deep-autoencoder": ("deep autoencoder, pretrained as RBMs", Published(test=3.00, source=FIGURE)),
    "random-initialisation": ("deep autoencoder from a random initialisation", Published()),
    "pca": ("principal components", Published(test=13.87, source=FIGURE)),
}


def row(name: str, code: int) -> Row:
    """A model with a code of that many units; published figures are for 30."""
    title, published = TITLES[name]
    own = {scale: models[code][name] for scale, models in SCALES.items()}
    if code == 30:
        return Row(name, f"{title}, 30 code units", published, own)
    return Row(f"{name}-{code}d", f"{title}, {code} code units", Published(), own)


EXPERIMENT = Experiment(
    name="autoencoder",
    title="MNIST: deep autoencoders beside principal components",
    source="Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006)",
    question=(
        "Does a deep autoencoder keep more of an image in a short code than as many principal components, and does "
        "it need pretraining to?"
    ),
    metric="squared error of the reconstruction, summed over pixels in [0, 1], mean over images",
    task=Reconstruction(),
    scales={
        "smoke": Scale("digits", 1, "8x8 digits, not MNIST, codes of 8 and 2: it shows that everything runs"),
        "quick": Scale("mnist", 1, "all of MNIST, 784-1000-500-250-code, 5 epochs a layer, 10 of fine-tuning"),
        "paper": Scale("mnist", 3, "all of MNIST, 784-1000-500-250-code, 50 epochs a layer, 200 of fine-tuning"),
    },
    rows=(*(row(name, 30) for name in TITLES), row("deep-autoencoder", 2), row("pca", 2)),
    data={"mnist": mnist, "digits": lambda **_: digits()},
    image_shape={"mnist": (28, 28), "digits": (8, 8)},
    notes=(
        "Published figures are the paper's; it fine-tuned by conjugate gradients on batches of 1000, here it is Adam.",
    ),
)
