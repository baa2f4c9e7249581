"""Rows of the experiments beside MNIST's, at smoke scale: they learn, share stacks, and agree with exact figures."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA as SklearnPCA

import pretrain as pt
from benchmarks.__main__ import main
from benchmarks.experiment import Plan
from benchmarks.results import read_results
from benchmarks.tasks import Trained
from benchmarks.tasks.likelihood import Annealing, Likelihood, base_biases, networks
from pretrain.data import binarised, digits
from pretrain.generative import annealed_importance_sampling, temperatures

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

SOME = {
    "family": "kernel-pca,slow-features",
    "labels": "srbm-50,srbm-1197",
    "histogram": "sdae-2,sdae-1,sdae-marginals",
    "likelihood": "rbm-cd1-20,dbn-up-down",
    "autoencoder": "deep-autoencoder-2d,pca-2d",
}
"""Of each experiment the rows that try what the others do not."""


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory, quick_compilation: None) -> Path:
    """These rows at smoke scale, through the command line."""
    out = tmp_path_factory.mktemp("some")
    for name, rows in SOME.items():
        assert main([name, "--scale", "smoke", "--seeds", "1", "--rows", rows, "--out", str(out)]) == 0
    return out


def stored(some: Path, experiment: str) -> dict[str, dict]:
    lines = read_results(some / experiment / "smoke" / "results.jsonl")
    assert [line["row"] for line in lines] == SOME[experiment].split(",")
    assert all(line["finite"] for line in lines)
    assert not (some / experiment / "smoke" / "checkpoints").exists()
    return {line["row"]: line for line in lines}


def test_the_family_learns(some: Path) -> None:
    for row, line in stored(some, "family").items():
        assert line["test_error"] < 25.0, row  # chance is 90
    text = (some / "family" / "smoke" / "table.md").read_text()
    assert "2.40" in text  # what was published stands beside it, with its source
    assert re.search("Published, .*`deep-2009`.*: Larochelle", text)


def test_more_labels_help_and_share_a_stack(some: Path) -> None:
    few, many = stored(some, "labels").values()
    assert many["test_error"] < few["test_error"]
    assert "layer 1/3" in few["seconds"]
    assert set(many["seconds"]) == {"fine-tuning", "measuring"}
    folder = some / "labels" / "smoke"
    assert (folder / "levels.svg").stat().st_size > 0
    assert "| SRBM " in (folder / "table.md").read_text()


def test_depths_and_what_is_kept_share_a_stack(some: Path) -> None:
    lines = stored(some, "histogram")
    assert [line["n_hidden"] for line in lines.values()] == [[24, 24], [24], [24, 24, 24]]
    assert [any(stage.startswith("layer") for stage in line["seconds"]) for line in lines.values()] == [
        True,
        False,
        False,
    ]
    assert ["layers above" in line["seconds"] for line in lines.values()] == [True, False, False]  # three, not kept
    assert all(line["test_error"] < 30.0 for row, line in lines.items() if row != "sdae-marginals")


def test_log_probabilities_are_those_of_the_exact_partition_function(some: Path) -> None:
    """AIS's interval holds the exact log Z; a machine that knows the mean of each pixel is beaten."""
    lines = stored(some, "likelihood")
    exact = lines["rbm-cd1-20"]
    low, high = exact["log_z_interval"]
    assert low < exact["exact_log_z"] < high
    train, test = (np.asarray(part.x) for part in (binarised(digits()).train, binarised(digits()).test))
    mean = np.clip(train.mean(axis=0), 1 / len(train), 1 - 1 / len(train))
    independent = (test * np.log(mean) + (1 - test) * np.log1p(-mean)).sum(axis=1).mean()
    for line in lines.values():
        low, high = line["test_log_probability_interval"]
        assert low <= line["test_log_probability"] <= high
        assert independent - 1.0 < line["test_log_probability"] < 0.0
    assert (some / "likelihood" / "smoke" / "samples.svg").stat().st_size > 0


def test_seeds_are_annealed_by_draws_of_their_own_and_what_is_compared_by_the_same() -> None:
    """Two members that are one network: their estimates differ; seed 0's is that of the fixed key, to the bit."""
    data = binarised(digits())
    data = data._replace(**{name: jax.tree.map(lambda leaf: leaf[:40], getattr(data, name)) for name in data._fields})
    stages = [pt.Stage(pt.BernoulliRBM(n), pt.Sgd(0.1), 1, 20) for n in (24, 22)]
    plan = Plan(tuple(stages), score=Annealing(20, 5, 3, 2))
    trained = Trained(pt.pretrain(stages, data.train, seeds=[3, 3]), False, None)
    first, second = Likelihood().results(plan, trained, data, [0, 1], (8, 8))
    dbn = pt.member(networks(trained), 0)
    base = base_biases(dbn, data.train)
    fixed = annealed_importance_sampling(dbn.top, jax.random.key(0), temperatures(20), base, 5)
    bound = dbn.bound(data.test.x, fixed.log_z, n_samples=3)
    assert first["log_z"] == float(fixed.log_z) != second["log_z"]
    assert first["test_log_probability"] == float(bound.mean)
    gaps = [line["test_log_probability"] + line["log_z"] for line in (first, second)]
    assert gaps[0] != gaps[1]  # the draws of the bound too
    scores = Likelihood().score(plan, trained, data)
    assert scores[0] == scores[1] == -first["valid_log_probability"]


def test_principal_components_are_those_of_scikit_learn(some: Path) -> None:
    lines = stored(some, "autoencoder")
    train, test = np.asarray(digits().train.x), np.asarray(digits().test.x)
    peer = SklearnPCA(2).fit(train)
    error = np.square(test - peer.inverse_transform(peer.transform(test))).sum(axis=1).mean()
    assert lines["pca-2d"]["test_squared_error"] == pytest.approx(error, rel=1e-4)
    assert lines["deep-autoencoder-2d"]["test_squared_error"] < np.square(test - train.mean(axis=0)).sum(axis=1).mean()
    for name in ("codes.svg", "reconstructions.svg"):
        assert (some / "autoencoder" / "smoke" / name).stat().st_size > 0
