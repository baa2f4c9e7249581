"""Where a result comes from: the machine, the versions, the source."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import jax


def peak_memory() -> float:
    """Bytes: the peak so far of the accelerator's memory where it tells, else of this process's resident memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"])
    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)


def device() -> str:
    """What it ran on."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu: {os.cpu_count()} cores, {platform.machine()}"
    return f"{first.platform}: {first.device_kind}"


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide a result."""
    names = ("pretrain", "jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def commit() -> str | None:
    """The source's commit, with ``+`` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", "../pretrain")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
