"""Matrix products whose factors are rounded, against rounding by hand; and what they do to a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import runner
from benchmarks.__main__ import EXPERIMENTS
from benchmarks.precision import PRECISIONS, products
from benchmarks.render import render
from benchmarks.results import read_results

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

BITS = {"float32": 23, "tf32": 10, "bfloat16": 7}


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """To so many bits behind the leading one, in double precision."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.round(mantissa * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)


@pytest.mark.parametrize("name", PRECISIONS)
def test_factors_are_rounded_forwards_and_backwards_and_nothing_else_is(name: str) -> None:
    random = np.random.default_rng(0)
    x, w = (random.normal(size=shape).astype(np.float32) for shape in ((5, 60), (60, 4)))
    a, b = (rounded(values, BITS[name]) for values in (x, w))
    with products(name):
        np.testing.assert_allclose(jax.jit(jnp.matmul)(x, w), a @ b, atol=1e-5)
        np.testing.assert_allclose(jax.vmap(lambda row: row @ w)(x), a @ b, atol=1e-5)
        slope = jax.grad(lambda w: jnp.square(x @ w).sum())(w)
        expected = 2 * a.T @ rounded((a @ b).astype(np.float32), BITS[name])
        np.testing.assert_allclose(slope, expected, atol=1e-4 * np.abs(expected).max())
        exact = jnp.matmul(x, w, precision="highest")
    np.testing.assert_allclose(exact, x.astype(np.float64) @ w, atol=1e-5)
    np.testing.assert_allclose(jnp.matmul(x, w), x.astype(np.float64) @ w, atol=1e-5)  # and afterwards as before
    if name != "float32":
        assert np.abs(a @ b - x.astype(np.float64) @ w).max() > 1e-4


def test_a_precision_stands_beside_float32_in_the_table(tmp_path: Path) -> None:
    """The same seeds; the table stays that of float32."""
    experiment = EXPERIMENTS["mnist"]
    row = experiment.row("shallow")
    short = dataclasses.replace(row.plans["smoke"], fine_tuning=row.plans["smoke"].fine_tuning.replace(epochs=2))  # type: ignore[union-attr]
    rows = [dataclasses.replace(row, plans={"smoke": short})]
    data = experiment.data[experiment.scales["smoke"].data](data_dir=None, say=print)
    for name in ("float32", "bfloat16"):
        options = {
            "n_seeds": 1,
            "data": lambda _: data,
            "out": tmp_path,
            "interactive": False,
            "command": f"run {name}",
        }
        runner.run(experiment, "smoke", rows, precision=name, **options)
    full, few = read_results(tmp_path / "results.jsonl")
    assert (full["precision"], few["precision"]) == ("float32", "bfloat16")
    assert full["train_error"] != few["train_error"]
    assert few["test_error"] == pytest.approx(full["test_error"], abs=3.0)
    render(experiment, "smoke", tmp_path)
    text = (tmp_path / "table.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| `shallow`")]
    cells = [cell.split()[0] for cell in line.strip("|").split("|")]
    assert cells == ["`shallow`", f"{full['test_error']:.2f}", f"{few['test_error']:.2f}"]
    assert "- Command: `run bfloat16`" in text.split("## Precision")[1].split("## How")[0]
    assert "bfloat16" not in text.split("## How the runs were made")[1]


def test_what_scikit_learn_computes_is_left_out(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["norb"]
    data, said = experiment.data["digits"](), []
    options = {"n_seeds": 1, "data": lambda _: data, "out": tmp_path, "interactive": False, "say": said.append}
    runner.run(experiment, "smoke", [experiment.row("knn")], precision="tf32", **options)
    assert not (tmp_path / "results.jsonl").exists()
    assert "knn: left out; scikit-learn computes in float32 only" in said
