"""Greedy layer-wise pretraining in JAX: train a layer, stack it, fine-tune."""

from pretrain import data
from pretrain.corruption import Gaussian, Masking, NoCorruption, SaltPepper
from pretrain.fit import Progress, run
from pretrain.layers import Dense
from pretrain.learners.autoencoder import Autoencoder
from pretrain.learners.classifier import Classifier, SupervisedGreedy
from pretrain.learners.deep_autoencoder import DeepAutoencoder
from pretrain.learners.logistic_autoregression import LogisticAutoregression
from pretrain.learners.rbm import BernoulliRBM
from pretrain.network import Network, Unrolled, encode, evaluate, load, predict, reconstruct, save, to_nnx
from pretrain.optim import Constant, Inverse, Linear, Momentum, Sgd
from pretrain.population import member
from pretrain.stack import Pretrained, fine_tune, pretrain, unroll
from pretrain.stage import Stage
from pretrain.types import Batch, Layer, Learner, Solver

__version__ = "0.1.0"

__all__ = [
    "Autoencoder",
    "Batch",
    "BernoulliRBM",
    "Classifier",
    "Constant",
    "DeepAutoencoder",
    "Dense",
    "Gaussian",
    "Inverse",
    "Layer",
    "Learner",
    "Linear",
    "LogisticAutoregression",
    "Masking",
    "Momentum",
    "Network",
    "NoCorruption",
    "Pretrained",
    "Progress",
    "SaltPepper",
    "Sgd",
    "Solver",
    "Stage",
    "SupervisedGreedy",
    "Unrolled",
    "data",
    "encode",
    "evaluate",
    "fine_tune",
    "load",
    "member",
    "predict",
    "pretrain",
    "reconstruct",
    "run",
    "save",
    "to_nnx",
    "unroll",
]
