"""Models that sample and score: Gibbs chains, partition functions, deep belief networks."""

from pretrain.generative.ais import AISEstimate, annealed_importance_sampling, average_log_probability, temperatures
from pretrain.generative.dbm import DBM, DBMParams, DBMState, Posterior
from pretrain.generative.dbn import DBN, Bound, Samples
from pretrain.generative.gibbs import Chains, gibbs_chain, join_labels
from pretrain.generative.partition import class_log_weights, log_partition
from pretrain.generative.up_down import UpDown

__all__ = [
    "DBM",
    "DBN",
    "AISEstimate",
    "Bound",
    "Chains",
    "DBMParams",
    "DBMState",
    "Posterior",
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
