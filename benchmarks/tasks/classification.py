"""Classification: pretrain a stack, fine-tune it under a softmax output, count the misclassified rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks import pictures
from benchmarks.experiment import Plan
from benchmarks.tasks import Context, Trained
from pretrain import population
from pretrain.data import Splits
from pretrain.data.splits import stratified_rows
from pretrain.layers import Dense
from pretrain.network import Network, evaluate
from pretrain.stack import fine_tune
from pretrain.types import Batch


def labelled(train: Batch, labels: int | None, seed: int) -> Batch:
    """The labelled rows that a member sees: all, or so many, in the classes' proportions, drawn with its seed."""
    assert train.y is not None
    if labels is None or labels == len(train.x):
        return Batch(train.x, train.y)
    _, rows = stratified_rows(np.asarray(train.y), (labels,), seed)
    return Batch(train.x[rows], train.y[rows])


@dataclasses.dataclass(frozen=True)
class Classification:
    """Misclassified rows, in percent. The validation rows choose the epoch that is kept; test rows are seen once."""

    measure: str = "error"
    noun: str = "error"

    def train(self, plan: Plan, data: Splits, seeds: list[int], context: Context) -> Trained:
        """Pretrains and fine-tunes one population by a plan."""
        pretrained, shared = None, False
        if plan.pretraining:
            pretrained, shared = context.stacks.get(plan, data, seeds, context.report)
        assert plan.fine_tuning is not None
        own = [labelled(data.train, plan.labels, seed) for seed in seeds]
        each = plan.labels is not None and len(seeds) > 1
        train = Batch(jnp.stack([b.x for b in own]), jnp.stack([b.y for b in own])) if each else own[0]  # type: ignore
        tuned = fine_tune(
            pretrained.layers if pretrained else (),
            plan.fine_tuning,
            train,
            valid=Batch(data.valid.x, data.valid.y),
            seeds=seeds,
            checkpoints=context.checkpoints,
            report=context.report,
        )
        return Trained(pretrained, shared, tuned)

    def score(self, plan: Plan, trained: Trained, data: Splits) -> np.ndarray:
        """The validation error of the epoch that is kept."""
        tuned = trained.tuned
        assert tuned is not None
        best = tuned.history["valid/error"][-1] if tuned.best is None else np.asarray(tuned.best.score)
        return np.where(tuned.finite, best, np.inf)

    def results(
        self, plan: Plan, trained: Trained, data: Splits, seeds: list[int], image_shape: tuple[int, int]
    ) -> list[dict[str, Any]]:
        """Errors on the three parts, the validation curve, and the first layer's filters of seed 0."""
        tuned = trained.tuned
        assert tuned is not None
        networks: Network = tuned.params
        first = (trained.pretrained.layers if trained.pretrained else networks.layers)[0]
        lines = []
        for index, seed in enumerate(seeds):
            finite, network = bool(tuned.finite[index]), population.member(networks, index)
            parts = {"train": labelled(data.train, plan.labels, seed), "valid": data.valid, "test": data.test}
            shown = first if seed == 0 and finite and isinstance(first, Dense) else None
            lines.append(
                {
                    "n_hidden": [layer.n_out for layer in networks.layers[:-1]],
                    "best_epoch": None if tuned.best is None else int(tuned.best.epoch[index]),
                    **{f"{name}_error": evaluate(network, part) if finite else None for name, part in parts.items()},
                    "test_rows": len(data.test.x),
                    "finite": finite,
                    "valid_curve": [round(float(error), 4) for error in tuned.history["valid/error"][:, index]],
                    "filters": pictures.filters(np.asarray(shown.weights[index]), image_shape) if shown else None,
                }
            )
        return lines
