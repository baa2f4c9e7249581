"""The experiments' declarations: whole at every scale, of stacks that fit the data, and what was published."""

import json

import jax.numpy as jnp
import pytest

from benchmarks.__main__ import EXPERIMENTS
from benchmarks.experiment import Experiment, Plan, declaration_hash, declared, replaced
from benchmarks.papers import larochelle2009
from pretrain.population import member_keys
from pretrain.preflight import check_stages
from pretrain.types import Batch

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXPERIMENT = EXPERIMENTS["mnist"]


def test_the_hash_names_what_is_run() -> None:
    row = EXPERIMENT.row("srbm")
    plan = row.plans["smoke"]
    other = replaced(plan, "pretraining.*.optimizer.learning_rate", 0.123)
    assert {stage.optimizer.learning_rate for stage in other.pretraining} == {0.123}
    hashes = {declaration_hash(EXPERIMENT, row, "smoke", p) for p in (plan, other)}
    assert len(hashes) == 2


def test_what_was_published_is_table_1s() -> None:
    assert {row.name: row.published for row in EXPERIMENT.rows} == {
        name: published for name, (_, published) in larochelle2009.TITLES.items()
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def test_every_declaration_is_whole(experiment: Experiment) -> None:
    """Every row has a plan at every scale (of the label counts: at those the data allows; but for those that only
    compare hold-outs, or what classifiers see), its grid names numbers it has, its classifier has as many classes as
    its data and, but for NORB's machines, an early stop.
    """
    assert len({row.name for row in experiment.rows}) == len(experiment.rows)
    for row in experiment.rows:
        at_some = {"random", "refit", "contrast", "objects", "raw"}
        if row.name.startswith("dbm-shifts-"):
            assert set(row.plans) == {"objects"}
        elif row.name.endswith(("-contrast", "-tuned", "-half")):
            assert set(row.plans) == {"contrast", "objects"}
        elif row.name in ("dbm-4000", "dbm-foveated", "dbm-front-500"):
            assert set(row.plans) == {"contrast"}
        elif row.name.startswith(("dbm-fine", "dbm-foveated-", "dbm-joint-", "dbm-greedy-")):
            assert set(row.plans) == {"objects"}
        elif "labels" in row.name and experiment.name == "dbm":
            assert set(row.plans) == {"smoke", "long", "paper"}
        else:
            assert row.series or set(row.plans) >= set(experiment.scales) - at_some
        for scale, plan in row.plans.items():
            assert plan.pretraining or plan.fine_tuning or plan.baseline
            if experiment.task.measure == "error" and plan.baseline is None:
                assert plan.fine_tuning.patience is not None or experiment.name == "norb"
                n_classes = 5 if experiment.name == "norb" and scale != "smoke" else 10
                assert plan.fine_tuning.learner.n_classes == n_classes
            for path in plan.grid:
                assert replaced(plan, path, 0.123) != plan
            assert len(declaration_hash(experiment, row, scale, plan)) == 12
    plans = [(scale, plan) for row in experiment.rows for scale, plan in row.plans.items()]
    used = {name for scale, plan in plans for name in experiment.by_data(scale, plan, range(10))}
    assert used == set(experiment.data) == set(experiment.image_shape)


def distinct_stacks() -> list[tuple[str, Plan]]:
    """Every pretraining that is declared for MNIST."""
    found = {
        json.dumps(declared(plan.pretraining)): (f"{experiment.name}-{row.name}-{scale}", plan)
        for experiment in EXPERIMENTS.values()
        for row in experiment.rows
        for scale, plan in row.plans.items()
        if plan.pretraining and experiment.scales[scale].data == "mnist"
    }
    return list(found.values())


@pytest.mark.parametrize("plan", [p for _, p in distinct_stacks()], ids=[name for name, _ in distinct_stacks()])
def test_every_stack_fits_mnist(plan: Plan) -> None:
    """Sizes, inputs and needs of all layers, found from shapes: nothing is trained."""
    x = jnp.zeros((2_500, 784))
    train = Batch(x, jnp.zeros(2_500, jnp.int32), x)
    check_stages(plan.pretraining, train, train, member_keys([0]))
