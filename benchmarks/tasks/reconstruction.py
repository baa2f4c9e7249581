"""Reconstruction: unroll a pretrained stack into a deep autoencoder, fine-tune it, measure the squared error."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmarks import pictures
from benchmarks.experiment import Plan
from benchmarks.pictures import ImageShape
from benchmarks.tasks import Context, Trained
from pretrain import population
from pretrain.data import Splits
from pretrain.network import Unrolled, encode, reconstruct
from pretrain.tuning import fine_tune, unroll

SHOWN = 18
"""Test images shown beside their reconstructions."""

POINTS = 1_500
"""Test images whose codes of two dimensions are kept."""


def networks(trained: Trained) -> Unrolled:
    """The population of autoencoders: fine-tuned, or the stack as it is."""
    if trained.tuned is not None:
        return trained.tuned.params
    assert trained.pretrained is not None
    return unroll(trained.pretrained)


def squared_error(network: Unrolled, x: Any) -> float:
    """The mean over rows of the squared error summed over features."""
    return float(np.square(np.asarray(x) - reconstruct(network, x)).sum(axis=-1).mean())


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Squared error of a reconstruction, summed over pixels, mean over images."""

    measure: str = "squared_error"
    noun: str = "squared error"
    larger_is_better: bool = False
    own_rows: bool = False

    def train(self, plan: Plan, data: Splits, seeds: list[int], context: Context) -> Trained:
        """Pretrains, unrolls and fine-tunes one population by a plan."""
        pretrained, shared = context.pretrained(plan, data, seeds)
        if plan.fine_tuning is None:
            return Trained(pretrained, shared, None)
        tuned = fine_tune(
            (),
            plan.fine_tuning,
            data.train,
            valid=data.valid,
            seeds=seeds,
            params=unroll(pretrained) if pretrained else None,
            **context.options(len(seeds)),
        )
        return Trained(pretrained, shared, tuned)

    def score(self, plan: Plan, trained: Trained, data: Splits) -> np.ndarray:
        """The squared error on the validation rows."""
        found = networks(trained)
        errors = [squared_error(population.member(found, i), data.valid.x) for i in range(population.n_members(found))]
        return np.where(np.isfinite(errors), errors, np.inf)

    def results(
        self, plan: Plan, trained: Trained, data: Splits, seeds: list[int], image_shape: ImageShape
    ) -> list[dict[str, Any]]:
        """The error on the three parts; of seed 0 some reconstructions and, of two dimensions, the codes."""
        found, tuned, lines = networks(trained), trained.tuned, []
        for index, seed in enumerate(seeds):
            network = population.member(found, index)
            finite = all(bool(stage.finite[index]) for stage in trained.stages.values())
            parts = {"train": data.train, "valid": data.valid, "test": data.test}
            line = {
                "n_hidden": [layer.n_out for layer in network.encoder],
                "best_epoch": None if tuned is None or tuned.best is None else int(tuned.best.epoch[index]),
                **{f"{n}_squared_error": squared_error(network, p.x) if finite else None for n, p in parts.items()},
                "test_rows": len(data.test.x),
                "finite": finite,
            }
            if tuned is not None:
                line["valid_curve"] = [round(float(v), 4) for v in tuned.history["valid/squared_error"][:, index]]
            if finite and seed == 0:
                x = np.asarray(data.test.x[:SHOWN])
                both = np.stack([x, reconstruct(network, x)], axis=1).reshape(-1, x.shape[1])
                line["reconstructions"] = pictures.packed(pictures.images(both, image_shape))
                if line["n_hidden"][-1] == 2:
                    line["codes"] = points(network, data)
            lines.append(line)
        return lines


def points(network: Unrolled, data: Splits) -> dict[str, Any]:
    """The codes of some test images, to four digits, with their labels."""
    codes = encode(network, data.test.x[:POINTS])
    assert data.test.y is not None
    labels = np.asarray(data.test.y[:POINTS]).tolist()
    x, y = ([float(f"{value:.4g}") for value in column] for column in codes.T)
    return {"x": x, "y": y, "label": labels}
