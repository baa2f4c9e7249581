"""The README's promises: its two commands are what they say, and its example runs."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.guide
def test_the_examples_run_and_are_short(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert max(len(example.strip().splitlines()) for example in examples) < 25
    run = subprocess.run(
        [sys.executable, "-c", "".join(examples)],
        cwd=tmp_path,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    error = float(re.search(r"test error ([\d.]+)%", run.stdout)[1])
    assert error < 10.0


def test_the_two_commands_are_there() -> None:
    assert "pip install -e . && python -m benchmarks mnist --scale quick" in README
    assert 'pip install -e ".[test]" && pytest' in README
    assert 'pip install -e ".[test]" && pytest' in (ROOT / ".ci" / "run").read_text()


def test_every_file_the_readme_points_to_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.parametrize(("column", "scale"), [(3, "quick"), (4, "paper")])
def test_the_table_is_what_the_results_say(column: int, scale: str) -> None:
    """Mean test errors and seeds of the README are those of the rendered tables."""
    with (ROOT / "paper_tables" / "mnist" / scale / "table.csv").open() as file:
        found = {row["row"]: f"{float(row['test']):.2f} ({row['seeds']})" for row in csv.DictReader(file)}
    shown = {}
    for line in README.splitlines():
        if match := re.match(r"\| .* \(`([a-z-]+)`\) \|", line):
            shown[match[1]] = line.split("|")[column].strip()
    assert shown == found
