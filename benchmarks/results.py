"""The store of results: one JSON object a line, appended whole or not at all."""

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


def read_results(path: Path) -> list[dict[str, Any]]:
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


def append(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Adds lines to a file and makes sure they are on the disk; a damaged last line is dropped first."""
    with contextlib.suppress(FileNotFoundError):
        if not path.read_bytes().endswith(b"\n"):
            kept = "".join(json.dumps(line) + "\n" for line in read_results(path))
            whole = path.with_suffix(".tmp")
            whole.write_text(kept)
            os.replace(whole, path)
    with path.open("a") as file:
        file.write("".join(json.dumps(finite(line), allow_nan=False) + "\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Holds a folder of results for this process: two runs would overwrite each other's checkpoints.

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
        try:
            yield
        finally:
            (folder / ".lock").unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """JSON values, with null for a number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
