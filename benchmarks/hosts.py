"""Many hosts: every process trains members of its own, the first one writes what all have found.

`jax.distributed` starts the processes' service, which finds its address on Slurm, on Kubernetes and on TPUs by itself
and is told it elsewhere. Members need nothing of each other, so processes meet only to hand over finished results;
one that is lost ends the others at that point, and the same command goes on from what is written and from each host's
checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from benchmarks.experiment import UsageError


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of many; before anything is computed.

    Should it fail later, it ends at once (see also `end`): the others would wait minutes for it to say goodbye.

    Args:
        coordinator: ``host:port`` of the first process; None where the cluster tells.
        processes: how many, likewise.
        process: which this one is, from 0, likewise.

    Raises:
        UsageError: if the processes cannot find each other.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the processes did not find each other: {error}\nOutside Slurm and Kubernetes give "
            "--coordinator HOST:PORT, --processes and --process"
        ) from error

    def fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        end(1)

    sys.excepthook = fail


def end(status: int) -> int:
    """Returns the status; but one of many processes that failed ends here, without a word to the others."""
    if status and jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def own(seeds: list[int]) -> list[int]:
    """The seeds that this process trains."""
    return seeds[jax.process_index() :: jax.process_count()]


def gathered(items: list[Any]) -> list[Any]:
    """The JSON values of all processes, on each of them; every process must call this as often.

    Raises:
        RuntimeError: if a process was lost.
    """
    if jax.process_count() == 1:
        return items
    text = np.frombuffer(json.dumps(items).encode(), np.uint8)
    try:
        longest = int(np.max(multihost_utils.process_allgather(np.array(len(text)))))
        every = multihost_utils.process_allgather(np.pad(text, (0, longest - len(text)), constant_values=ord(" ")))
    except Exception as error:  # what is raised depends on the transport
        raise RuntimeError(
            f"process {jax.process_index()} of {jax.process_count()} lost another one; what was finished is written, "
            "and the same command goes on from there"
        ) from error
    return [item for part in np.asarray(every) for item in json.loads(part.tobytes().decode())]
