"""The store of results: one JSON object a line, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiment import UsageError

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None


def read_results(path: Path) -> list[Any]:
    """The lines of a file; [] where there is none. A damaged last line (a killed run's) is passed over with a message.

    Raises:
        ValueError: if any other line is damaged; the message names it.
    """
    if not path.exists():
        return []
    texts = path.read_text().splitlines()
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise ValueError(f"{path}, line {number}: not JSON ({error}): mend or remove this line") from error
            print(f"{path}: the last line is damaged and is passed over", file=sys.stderr)
    return lines


def store(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Adds results to a file, in place of earlier ones of the same row, seed and declaration; whole or not at all.

    The journal ``.done.jsonl`` beside it, which is not committed, says which results were computed here: those that
    came with a checkout are no reason not to run.
    """
    new = [finite(line) for line in lines]
    keys = {_key(line) for line in new}
    kept = [line for line in read_results(path) if _key(line) not in keys]
    _write(path, [*kept, *new])
    journal, entries = path.parent / JOURNAL, [[path.name, *_key(line)] for line in new]
    _write(journal, [*(entry for entry in read_results(journal) if entry not in entries), *entries])


def _write(path: Path, lines: Sequence[Any]) -> None:
    """Puts the lines in the place of a file, whole or not at all."""
    whole = path.with_suffix(".tmp")
    with whole.open("w") as file:
        file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(whole, path)


def done_here(path: Path) -> list[dict[str, Any]]:
    """The results of a file that were computed here."""
    here = {tuple(entry) for entry in read_results(path.parent / JOURNAL)}
    return [line for line in read_results(path) if (path.name, *_key(line)) in here]


JOURNAL = ".done.jsonl"


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["row"], line.get("seed"), line["declaration"]


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Holds a folder of results for this process: two runs would overwrite each other's checkpoints.

    The file ``.lock`` stays when the run is over: were it removed, a run that had just opened it would hold a file that
    no other run sees.

    Raises:
        UsageError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(f"another run is writing to {folder}: wait for it, or give another --out") from error
        yield


def finite(value: Any) -> Any:
    """JSON values, with null for a number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
