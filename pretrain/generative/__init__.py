"""Models that sample and score: Gibbs chains, partition functions, deep belief networks."""

from pretrain.generative.ais import AISEstimate, annealed_importance_sampling, average_log_probability, temperatures
from pretrain.generative.dbn import DBN, Bound, Samples
from pretrain.generative.gibbs import Chains, gibbs_chain, join_labels
from pretrain.generative.partition import class_log_weights, log_partition
from pretrain.generative.up_down import UpDown

__all__ = [
    "DBN",
    "AISEstimate",
    "Bound",
    "Chains",
    "Samples",
    "UpDown",
    "annealed_importance_sampling",
    "average_log_probability",
    "class_log_weights",
    "gibbs_chain",
    "join_labels",
    "log_partition",
    "temperatures",
]
