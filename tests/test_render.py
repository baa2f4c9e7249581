"""Tables and figures from stored results: the intervals, what is missing, failed or damaged, the same bytes."""

import csv
import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import number
from benchmarks.experiment import Experiment, Plan, Published, Row, Scale
from benchmarks.figures import mosaic
from benchmarks.formats import escape, latex
from benchmarks.outcomes import UNJUDGED, failed, found, outcome
from benchmarks.papers.salakhutdinov2009 import EXPERIMENT as NORB
from benchmarks.pictures import filters, unpacked
from benchmarks.render import markdown, reading, render
from benchmarks.summary import BINOMIAL, JACKKNIFE, SAMPLED, STUDENT, jackknife, student, summary, wilson
from benchmarks.tasks.classification import Classification
from benchmarks.tasks.likelihood import Likelihood
from pretrain import mean_interval

PLAN = Plan(())
ROWS = (
    Row("srbm", "SRBM: 100% {stacked} & tied_weights | #1 $a_", Published(0.0, 1.20, 1.20), {"quick": PLAN}),
    Row("deep", "deep network", Published(0.004, 2.07, 2.40), {"quick": PLAN}),
    Row("other", "never published", Published(None, None, None), {"quick": PLAN}),
)
EXPERIMENT = Experiment(
    name="toy",
    title="A toy table",
    source="Nobody, Journal of Nothing (2009), Table 1",
    metric="classification error, percent",
    task=Classification(),
    scales={"quick": Scale("toy", 1, "nothing was trained.")},
    rows=ROWS,
    data={},
    image_shape={"toy": (4, 5)},
    notes=("A note of the experiment.",),
)
STAGE = {"is": "Stage", "learner": {"is": "BernoulliRBM", "n_hidden": 6, "k": 1}, "epochs": 2, "patience": None}
WEIGHTS = np.random.default_rng(0).normal(size=(20, 7))


def result(row: str = "srbm", seed: int = 0, test: float | None = 1.5, **changes: Any) -> dict[str, Any]:
    """A line of ``results.jsonl``; ``test=None`` is a diverged member."""
    line = {
        "experiment": "toy",
        "row": row,
        "scale": "quick",
        "seed": seed,
        "hyperparameters": {"is": "Plan", "pretraining": [STAGE, STAGE], "fine_tuning": STAGE, "grid": {}},
        "n_hidden": [6, 6],
        "epochs": [2, 2, 3],
        "best_epoch": 2,
        "train_error": test and 0.001,
        "valid_error": test and test - 0.1,
        "test_error": test,
        "test_rows": 10_000,
        "seconds": {"layer 1/2": 10.0, "layer 2/2": 20.5, "fine-tuning": 30.0},
        "members": 1,
        "peak_memory_mb": 900,
        "device": "cpu: 2 cores",
        "precision": "float32",
        "versions": {"python": "3.11.2", "jax": "0.10.2"},
        "commit": "abc123",
        "declaration": "0123456789ab",
        "selection": None,
        "finite": test is not None,
        "valid_curve": [90.0, 3.0, 1.4] if test else [90.0, None, None],
        "filters": filters(WEIGHTS, (4, 5)) if seed == 0 and test else None,
        "command": "python -m benchmarks toy",
    }
    return line | changes


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    """The folder, with these lines in its ``results.jsonl``."""
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def table_line(text: str, row: str) -> list[str]:
    """The cells of one row of a Markdown table."""
    (line,) = [line for line in text.splitlines() if line.startswith("|") and f"(`{row}`)" in line]
    return [cell.strip() for cell in line.replace(r"\|", "").strip("|").split("|")]


def test_student_interval_by_hand() -> None:
    """Of 1, 2, 3: s = 1 and t(0.975, 2) = 4.302653, so the half-width is 4.302653 / sqrt(3) = 2.484138."""
    found = student([1.0, 2.0, 3.0])
    assert found.interval == STUDENT
    assert found[:3] == pytest.approx((2.0, 2.0 - 2.484138, 2.0 + 2.484138), abs=1e-6)


def test_the_jackknife_over_objects_holds_the_mean_where_splits_share_objects() -> None:
    """All pairs of five objects with an effect each: twice the mean effect has their variance, so the interval is
    Student's of five, and that of ten independent seeds would be 2.7 times too narrow.
    """
    units = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    effects = np.random.default_rng(0).normal(size=(2_000, 5))
    for own in effects[:20]:
        found = jackknife([own[a] + own[b] for a, b in units], units)
        mean = mean_interval(2.0 * own)
        np.testing.assert_allclose(found[:3], mean, rtol=1e-6)
    assert found.interval == JACKKNIFE
    assert jackknife([1.0, 2.0], [(0, 1), (0, 2)]).low is None  # object 0 is in both
    assert jackknife([1.0, 2.0], [(0, 1), (2, 3)]).low is None  # of two values
    lines = [result("dbm", seed, own[a] + own[b]) for seed, (a, b) in enumerate(units)]
    scale = Scale("mnist", 10, "", units=tuple(units))
    (item,) = [item for item in summary(NORB, lines, scale) if item.results]
    assert item.estimate("test") == jackknife([own[a] + own[b] for a, b in units], units)
    assert item.estimate("train") == (pytest.approx(0.001), None, None, None)  # trained on the other objects


def test_views_of_few_objects_have_no_binomial_interval() -> None:
    lines = [result("svm", 0, 12.0)]
    (item,) = [item for item in summary(NORB, lines, NORB.scales["paper"]) if item.results]
    assert item.estimate("test") == (12.0, None, None, None)
    text = "\n".join(reading(NORB, "paper", [item]))
    assert "views of 25 objects" in text
    assert "Wilson" not in text
    assert outcome(item, False) == UNJUDGED
    assert "0 missed, 1 not judged, for their intervals are not known." in found(NORB, [item])[0]
    assert not any("Missed" in line for line in failed(NORB, "paper", [item]))
    several = summary(NORB, [result("svm", seed, 12.0 + seed) for seed in range(3)], NORB.scales["paper"])
    assert "views of" not in "\n".join(reading(NORB, "paper", [item for item in several if item.results]))


def test_wilson_interval_as_published() -> None:
    """Newcombe, Statistics in Medicine 17:857-872 (1998), Table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for wrong, images, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson(100 * wrong / images, images)
        assert found.interval == BINOMIAL
        assert (found.low, found.high) == pytest.approx((100 * low, 100 * high), abs=5.1e-3)


def test_one_seed_has_the_binomial_interval_and_several_the_students() -> None:
    one, several, none = summary(EXPERIMENT, [result(test=1.2), result("deep", 0, 2.0), result("deep", 1, 3.0)])
    assert one.estimate("test") == wilson(1.2, 10_000)
    assert one.estimate("valid").interval is None
    assert several.estimate("test") == student([2.0, 3.0])
    assert several.difference == pytest.approx(0.1)
    assert none.estimate("test").mean is None
    text = markdown(EXPERIMENT, "quick", [one, several, none], {})
    assert table_line(text, "srbm")[1:] == ["0.00", "1.20", "1.20", "0.001", "1.10", "1.20 [1.00, 1.43]", "+0.00", "1"]
    assert table_line(text, "deep")[5:] == ["2.40 ± 6.35", "2.50 ± 6.35", "+0.10", "2"]
    assert "10,000 test images (binomial, Wilson)" in text
    assert "Student t over seeds" in text
    without = summary(EXPERIMENT, [{k: v for k, v in result().items() if k != "test_rows"}])[0]
    assert without.estimate("test") == (1.5, None, None, None)


def test_rows_without_results_are_shown_in_the_declared_order(tmp_path: Path) -> None:
    render(EXPERIMENT, "quick", written(tmp_path, result("deep")))
    text = (tmp_path / "table.md").read_text()
    assert table_line(text, "srbm")[4:] == ["", "", "not run", "", "0"]
    assert table_line(text, "other")[1:] == ["", "", "", "", "", "not run", "", "0"]
    assert text.index("`srbm`") < text.index("`deep`") < text.index("`other`")
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["srbm", "deep", "other"]
    assert (lines[0]["test"], lines[0]["seeds"], lines[0]["published_test"]) == ("", "0", "1.2")
    assert float(lines[1]["test"]) == 1.5
    assert float(lines[1]["difference"]) == 1.5 - 2.40
    assert (lines[1]["test_interval"], lines[1]["seconds"]) == (BINOMIAL, "60.5")


def test_no_results_at_all_still_give_every_file(tmp_path: Path) -> None:
    for path in render(EXPERIMENT, "quick", tmp_path):
        assert path.stat().st_size > 0
    assert "How the runs were made" not in (tmp_path / "table.md").read_text()


def test_diverged_members_are_counted_and_left_out_of_the_mean(tmp_path: Path) -> None:
    lines = [result(seed=0, test=None), result(seed=1, test=1.4), result(seed=2, test=1.6), result("deep", test=None)]
    render(EXPERIMENT, "quick", written(tmp_path, *lines))
    text = (tmp_path / "table.md").read_text()
    assert table_line(text, "srbm")[6:] == ["1.50 ± 1.27", "+0.30", "2", "1"]
    assert table_line(text, "deep")[4:] == ["", "", "diverged", "", "0", "1"]
    assert "Failed: seeds that diverged" in text
    assert "failed" in (tmp_path / "table.tex").read_text()


def test_precisions_stand_apart_with_their_seeds_and_failures(tmp_path: Path) -> None:
    """What ran in bfloat16 only has no place among the figures in float32, and is judged by nothing."""
    rounded = {"precision": "bfloat16", "declaration": "b" * 12, "command": "few bits"}
    lines = [result(seed=0), result(seed=0, test=1.7, **rounded), result(seed=1, test=None, **rounded)]
    render(EXPERIMENT, "quick", written(tmp_path, *lines, result("deep", test=9.0, **rounded)))
    text = (tmp_path / "table.md").read_text()
    assert table_line(text, "deep")[6] == "not run"
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]]
        for line in text.split("## Precision")[1].splitlines()
        if line.startswith("| `")
    }
    assert cells["`srbm`"] == ["1.50 [1.28, 1.76] (1)", "1.70 [1.46, 1.97] (2, 1 diverged)"]
    assert cells["`deep`"] == ["not run", "9.00 [8.45, 9.58] (1)"]
    assert "- Command: `few bits`" in text
    rows = summary(EXPERIMENT, lines)
    assert [line for line in failed(EXPERIMENT, "quick", rows) if "Diverged" in line] == [
        "- Diverged with products in bfloat16: 1 of the 2 seeds of `srbm`."
    ]


def test_the_last_declaration_and_the_last_duplicate_count() -> None:
    lines = [
        result(seed=0, test=9.0, declaration="old"),
        result(seed=1, test=9.0, declaration="old"),
        result(seed=1, test=2.0),
        result(seed=0, test=5.0),
        result(seed=0, test=1.0),
    ]
    first = summary(EXPERIMENT, lines)[0]
    assert [line["test_error"] for line in first.results] == [1.0, 2.0]
    assert first.left_out == 2
    assert "`srbm`: left out of the file's results: 2 of earlier declarations." in markdown(
        EXPERIMENT, "quick", summary(EXPERIMENT, lines), {}
    )


def test_rows_of_a_series_are_a_table_and_a_figure_by_level(tmp_path: Path) -> None:
    """One line a series, one column a level; a level that was not run is empty."""
    levels = [
        Row(f"a-{n}", f"A at {n}", Published(test=5.0, source="Somebody"), {"quick": PLAN}, "A", n) for n in (10, 1000)
    ]
    other = Row("b-10", "B at 10", Published(), {"quick": PLAN}, "B", 10)
    experiment = dataclasses.replace(EXPERIMENT, rows=(*levels, other), level="number of labels")
    names = [
        path.name for path in render(experiment, "quick", written(tmp_path, result("a-10"), result("b-10", test=2.0)))
    ]
    assert names == ["table.md", "table.csv", "table.tex", "levels.svg"]
    text = (tmp_path / "table.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert lines[0] == ["", "10", "1,000"]
    assert lines[2] == ["A", "1.50 [1.28, 1.76]", ""]
    assert lines[3] == ["B", "2.00 [1.74, 2.29]", ""]
    assert "Test error by number of labels:" in text
    assert "- Published, `a-10`, `a-1000`: Somebody." in text


def test_an_estimated_measure_has_its_own_interval(tmp_path: Path) -> None:
    """A log-probability: three standard errors of the estimate, no binomial interval, and samples to draw."""
    experiment = dataclasses.replace(EXPERIMENT, task=Likelihood(), rows=ROWS[:2])
    measured = {
        f"{part}_log_probability": value
        for part, value in zip(("train", "valid", "test"), (-84.0, -87.0, -86.5), strict=True)
    }
    ends = {"test_log_probability_interval": [-86.9, -86.2]}
    line = result(**measured, **ends, samples=filters(WEIGHTS, (4, 5)), valid_curve=None, filters=None)
    names = [path.name for path in render(experiment, "quick", written(tmp_path, line))]
    assert names == ["table.md", "table.csv", "table.tex", "samples.svg"]
    text = (tmp_path / "table.md").read_text()
    assert table_line(text, "srbm")[6] == "-86.50 [-86.90, -86.20]"
    assert "three standard errors of its estimate" in text
    assert summary(experiment, [line])[0].estimate("test").interval == SAMPLED


def test_undeclared_rows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render(EXPERIMENT, "quick", written(tmp_path, result(), result("gone")))
    assert "undeclared rows: gone" in capsys.readouterr().err


def test_a_damaged_last_line_is_passed_over_and_any_other_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, result()) / "results.jsonl"
    path.write_text(path.read_text() + '{"experiment": "toy", "ro')
    render(EXPERIMENT, "quick", tmp_path)
    assert "last line is damaged" in capsys.readouterr().err
    assert "1.50" in (tmp_path / "table.md").read_text()
    path.write_text("{\n" + json.dumps(result()) + "\n")
    with pytest.raises(ValueError, match="line 1: not JSON"):
        render(EXPERIMENT, "quick", tmp_path)


def test_rendering_twice_gives_the_same_bytes_and_the_figures_are_xml(tmp_path: Path) -> None:
    lines = [result(seed=0), result(seed=1, test=1.7, valid_curve=[0.0, 2.0]), result("deep", valid_curve=[])]
    here, there = (render(EXPERIMENT, "quick", written(tmp_path / name, *lines)) for name in "ab")
    names = ["table.md", "table.csv", "table.tex", "validation_curves.svg", "filters.svg"]
    assert [path.name for path in here] == [path.name for path in there] == names
    for first, second in zip(here, there, strict=True):
        assert first.read_bytes() == second.read_bytes()
    for path in here[3:]:
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert "date" not in path.read_text().lower()


def test_what_stands_under_the_table() -> None:
    chosen = {"values": {"fine_tuning.optimizer.learning_rate": 0.5}, "valid_error": 1.0}
    lines = [result(selection=chosen), result("deep", best_epoch=1), result("deep", 1, best_epoch=3, commit="def456+")]
    text = markdown(EXPERIMENT, "quick", summary(EXPERIMENT, lines), {})
    for expected in (
        "scale `quick`: nothing was trained.\n",
        "- Published: Nobody, Journal of Nothing (2009), Table 1.",
        "- A note of the experiment.",
        "- Command: `python -m benchmarks toy`\n",
        "- Device: cpu: 2 cores; precision: float32; peak memory: 900 MiB.",
        "- Versions: python 3.11.2, jax 0.10.2.",
        "- Commit: abc123 and def456+ (+: with uncommitted changes).",
        "`srbm` 60 s, `deep` 2 min; together 3 min.",
        "- `srbm`: hidden units 2 x 6; pretraining `2 x Stage(learner=BernoulliRBM(n_hidden=6, k=1), epochs=2)`; "
        "fine-tuning `Stage(learner=BernoulliRBM(n_hidden=6, k=1), epochs=2)`; epochs run 2 x 2, 3; best epoch 2; "
        "chosen on validation error: `fine_tuning.optimizer.learning_rate = 0.5`.\n",
        "best epoch 1 to 3.",
    ):
        assert expected in text


def test_latex_is_escaped_and_whole() -> None:
    assert escape("50% of a_b & {c} #1 $ ~ y^2 \\ <") == (
        r"50\% of a\_b \& \{c\} \#1 \$ \textasciitilde{} y\textasciicircum{}2 \textbackslash{} \textless{}"
    )
    lines = [result(test=1.1), result("deep", 0, 2.0), result("deep", 1, 3.0)]
    text = latex(EXPERIMENT, "quick", summary(EXPERIMENT, lines))
    assert r"SRBM: 100\% \{stacked\} \& tied\_weights \textbar{} \#1 \$a\_ & 0.00 & 1.20" in text
    assert r"2.50 $\pm$ 6.35" in text
    assert r"1.10 {[}0.91, 1.32] & $-$0.10 & 1 \\" in text
    assert text.isascii()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [line.replace(r"\&", "").count("&") for line in body.splitlines()[1:]] == [8, 8, 8]
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_numbers_that_would_show_as_nothing_keep_a_digit() -> None:
    assert [number(value) for value in (None, 0.0, 0.004, 0.0006, 0.01, 1.2, 90.2)] == [
        "", "0.00", "0.004", "0.0006", "0.01", "1.20", "90.20",
    ]  # fmt: skip


def test_filters_come_back_and_are_scaled_about_zero() -> None:
    pictures = unpacked(filters(WEIGHTS, (4, 5)))
    largest = np.abs(WEIGHTS).max(axis=0)[:, None, None]  # of each filter: 127 levels, and 4 digits of it are kept
    assert pictures.shape == (7, 4, 5)
    assert (np.abs(pictures - WEIGHTS.T.reshape(7, 4, 5)) <= largest * (0.5 / 127 + 1e-3)).all()
    grid = mosaic(pictures)
    assert grid.shape == (3 * 5 - 1, 3 * 6 - 1)  # 3 x 3 places, a gap of one
    assert np.nanmax(np.abs(grid)) == 1.0
    np.testing.assert_allclose(grid[:4, :5], pictures[0] / np.abs(pictures[0]).max())
    assert np.isfinite(mosaic(np.zeros((1, 4, 5)))).all()


def test_what_could_not_be_estimated_is_said_to_be_undetermined(tmp_path: Path) -> None:
    experiment = dataclasses.replace(EXPERIMENT, task=Likelihood(), rows=ROWS[:1])
    line = result(test_log_probability=None, valid_curve=None, filters=None)
    render(experiment, "quick", written(tmp_path, line))
    assert table_line((tmp_path / "table.md").read_text(), "srbm")[4:] == ["", "", "undetermined", "", "0 of 1"]
    others = [result(seed=seed, test_log_probability=-86.0 - seed, valid_curve=None, filters=None) for seed in (1, 2)]
    render(experiment, "quick", written(tmp_path, line, *others))
    cells = table_line((tmp_path / "table.md").read_text(), "srbm")
    assert cells[6].startswith("-87.50")
    assert cells[-1] == "2 of 3"
    rows = summary(experiment, [line, *others])
    assert any("could not be estimated for 1 of 3 seeds" in text for text in failed(experiment, "quick", rows))
