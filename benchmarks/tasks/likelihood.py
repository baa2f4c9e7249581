"""Likelihood: the log-probability of an RBM, or a lower bound on that of a DBN, its partition function estimated."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pictures
from benchmarks.experiment import Plan
from benchmarks.pictures import ImageShape
from benchmarks.tasks import Context, Trained
from pretrain import population
from pretrain.data import Splits
from pretrain.generative import DBN, annealed_importance_sampling, log_partition, temperatures
from pretrain.layers import logit_mean
from pretrain.tuning import fine_tune
from pretrain.types import Batch

ROWS = 10_000
"""Of each part at most so many rows are scored, evenly spaced ones."""

ENUMERABLE = 20
"""Up to so many units on a side the partition function is enumerated too."""

SAMPLES = 36
"""Pictures of samples that are kept."""


@dataclasses.dataclass(frozen=True)
class Annealing:
    """How a likelihood is estimated.

    Attributes:
        temperatures: of the annealing, from the base to the machine.
        chains: how many.
        bound_samples: samples of the recognition distribution a row, for the bound of a DBN.
        gibbs_steps: of the top machine, before a sample is shown.
    """

    temperatures: int = 14_500
    chains: int = 100
    bound_samples: int = 10
    gibbs_steps: int = 1_000


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """Average log-probability in nats; of a DBN a lower bound on it.

    Where the annealing's own interval has no lower end, nothing is said of the log-probability: an estimate on which
    one or two chains carry all the weight may be wrong by hundreds of nats.
    """

    measure: str = "log_probability"
    noun: str = "log-probability"
    larger_is_better: bool = True
    own_rows: bool = False

    def train(self, plan: Plan, data: Splits, seeds: list[int], context: Context) -> Trained:
        """Pretrains a stack of RBMs and, if the plan says so, fine-tunes it as a generative model."""
        pretrained, shared = context.pretrained(plan, data, seeds)
        assert pretrained is not None
        if plan.fine_tuning is None:
            return Trained(pretrained, shared, None)
        tuned = fine_tune(
            (),
            plan.fine_tuning,
            data.train,
            valid=data.valid,
            seeds=seeds,
            params=DBN.from_stack(pretrained),
            **context.options(len(seeds)),
        )
        return Trained(pretrained, shared, tuned)

    def score(self, plan: Plan, trained: Trained, data: Splits) -> np.ndarray:
        """Minus the log-probability of the validation rows; what is compared is annealed by the same draws."""
        found = networks(trained)
        scores = []
        for index in range(population.n_members(found)):
            dbn = population.member(found, index)
            found_here = self._scored(plan, dbn, data.train, {"valid": data.valid})["valid_log_probability"]
            scores.append(np.inf if found_here is None else -found_here)
        return np.where(np.isfinite(scores), scores, np.inf)

    def results(
        self, plan: Plan, trained: Trained, data: Splits, seeds: list[int], image_shape: ImageShape
    ) -> list[dict[str, Any]]:
        """The log-probability of the three parts, the partition function with its interval, each seed's by draws of its
        own, and samples of seed 0.
        """
        found, lines = networks(trained), []
        parts = {"train": data.train, "valid": data.valid, "test": data.test}
        for index, seed in enumerate(seeds):
            dbn: DBN = population.member(found, index)
            finite = all(bool(stage.finite[index]) for stage in trained.stages.values())
            line = {"n_hidden": [layer.n_out for layer in dbn.layers()], "finite": finite}
            if finite:
                line |= self._scored(plan, dbn, data.train, parts, seed)
                if seed == 0:
                    drawn = dbn.sample(jax.random.key(seed), SAMPLES, plan.score.gibbs_steps).probabilities
                    line["samples"] = pictures.packed(pictures.images(np.asarray(drawn), image_shape))
            lines.append(line)
        return lines

    def _scored(self, plan: Plan, dbn: DBN, train: Batch, parts: dict[str, Batch], seed: int = 0) -> dict[str, Any]:
        how: Annealing = plan.score
        base = base_biases(dbn, _some(train))
        key, betas = jax.random.key(seed), temperatures(how.temperatures)
        estimate = annealed_importance_sampling(dbn.top, key, betas, base, how.chains, dbn.n_classes)
        log_z, (low, high) = estimate.log_z, (float(end) for end in estimate.interval)
        line: dict[str, Any] = {
            "log_z": float(log_z),
            "log_z_interval": [low, high],
            "effective_sample_size": float(estimate.effective_sample_size),
        }
        if min(dbn.top.weights.shape) <= ENUMERABLE:
            log_z = log_partition(dbn.top, dbn.n_classes)
            line["exact_log_z"] = float(log_z)
            low = high = float(log_z)
        if not np.isfinite(low):  # three standard errors reach past Z = 0: a few chains carry all the weight
            return line | {f"{name}_log_probability": None for name in parts}
        for name, part in parts.items():
            bound = dbn.bound(_some(part).x, log_z, key, n_samples=how.bound_samples if dbn.recognition else 2)
            value, slack = float(bound.mean), 3.0 * float(bound.standard_error)
            line[f"{name}_log_probability"] = value
            ends = [value - (high - float(log_z)) - slack, value + (float(log_z) - low) + slack]
            line[f"{name}_log_probability_interval"] = ends
        return line


def networks(trained: Trained) -> DBN:
    """The population of networks: fine-tuned, or the stack as it is; an RBM is a network without directed layers."""
    if trained.tuned is not None:
        return trained.tuned.params
    assert trained.pretrained is not None
    return DBN.from_stack(trained.pretrained)


def base_biases(dbn: DBN, train: Batch) -> jax.Array:
    """The visible biases of a machine without weights that has the means of what the top machine is shown."""
    biases = logit_mean(dbn.up(train.x))
    if not dbn.n_classes:
        return biases
    assert train.y is not None
    shares = jnp.bincount(train.y, length=dbn.n_classes) / len(train.y)
    return jnp.concatenate([biases, jnp.log(shares)])


def _some(batch: Batch) -> Batch:
    step = -(-len(batch.x) // ROWS)
    return Batch(batch.x[::step], None if batch.y is None else batch.y[::step])
