"""Greedy layer-wise pretraining in JAX: train a layer, stack it, fine-tune."""

from typing import TYPE_CHECKING, Any

from pretrain import data, generative
from pretrain.ablation import keep_lowest, shuffle
from pretrain.corruption import Gaussian, Masking, NoCorruption, SaltPepper
from pretrain.files import load, save
from pretrain.fit import run
from pretrain.generative import DBM, DBN, UpDown, annealed_importance_sampling, log_partition
from pretrain.intervals import mean_interval
from pretrain.layers import Dense, KernelMap, MeanField, Rescaling
from pretrain.learners.autoencoder import Autoencoder
from pretrain.learners.classifier import Classifier, SquaredErrorClassifier, SupervisedGreedy
from pretrain.learners.deep_autoencoder import DeepAutoencoder
from pretrain.learners.embedding import Embedding
from pretrain.learners.kernel_pca import KernelPCA
from pretrain.learners.logistic_autoregression import LogisticAutoregression
from pretrain.learners.partially_supervised import PartiallySupervised
from pretrain.learners.pca import PCA
from pretrain.learners.perceptron import Perceptron
from pretrain.learners.rbm import RBM, BernoulliRBM, GaussianRBM
from pretrain.learners.sesm import SESM
from pretrain.learners.slow_features import SlowFeatures
from pretrain.learners.standardise import Standardise
from pretrain.network import Network, Unrolled, encode, evaluate, predict, reconstruct, to_nnx
from pretrain.optim import Adagrad, Adam, Constant, Inverse, Linear, Momentum, Sgd, WarmUp
from pretrain.penalties import L1, Contractive, KLSparsity, NoPenalty
from pretrain.population import grouped, member, mesh, stacked
from pretrain.progress import Progress
from pretrain.samplers import CD, PCD, FastPCD, ParallelTempering
from pretrain.sparsity import SparsityTarget
from pretrain.stack import Pretrained, pretrain
from pretrain.stage import Stage
from pretrain.tuning import fine_tune, unroll
from pretrain.types import Batch, Layer, Learner, Solver
from pretrain.units import BernoulliUnits, GaussianUnits, RectifiedUnits, SoftmaxUnits

if TYPE_CHECKING:
    from pretrain import plots

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`pretrain.plots` is imported once it is asked for, and matplotlib with it."""
    if name == "plots":
        import importlib

        return importlib.import_module("pretrain.plots")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CD",
    "DBM",
    "DBN",
    "L1",
    "PCA",
    "PCD",
    "RBM",
    "SESM",
    "Adagrad",
    "Adam",
    "Autoencoder",
    "Batch",
    "BernoulliRBM",
    "BernoulliUnits",
    "Classifier",
    "Constant",
    "Contractive",
    "DeepAutoencoder",
    "Dense",
    "Embedding",
    "FastPCD",
    "Gaussian",
    "GaussianRBM",
    "GaussianUnits",
    "Inverse",
    "KLSparsity",
    "KernelMap",
    "KernelPCA",
    "Layer",
    "Learner",
    "Linear",
    "LogisticAutoregression",
    "Masking",
    "MeanField",
    "Momentum",
    "Network",
    "NoCorruption",
    "NoPenalty",
    "ParallelTempering",
    "PartiallySupervised",
    "Perceptron",
    "Pretrained",
    "Progress",
    "RectifiedUnits",
    "Rescaling",
    "SaltPepper",
    "Sgd",
    "SlowFeatures",
    "SoftmaxUnits",
    "Solver",
    "SparsityTarget",
    "SquaredErrorClassifier",
    "Stage",
    "Standardise",
    "SupervisedGreedy",
    "Unrolled",
    "UpDown",
    "WarmUp",
    "annealed_importance_sampling",
    "data",
    "encode",
    "evaluate",
    "fine_tune",
    "generative",
    "grouped",
    "keep_lowest",
    "load",
    "log_partition",
    "mean_interval",
    "member",
    "mesh",
    "plots",
    "predict",
    "pretrain",
    "reconstruct",
    "run",
    "save",
    "shuffle",
    "stacked",
    "to_nnx",
    "unroll",
]
