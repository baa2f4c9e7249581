"""The process of one contender: ``python -m benchmarks.peers.worker NAME SETTING``, spoken to over its pipes.

It trains until warm and says so, then waits; every line it reads asks for one more epoch, which it answers with the
seconds that took. One JSON object a line; the end of its input ends it. While it waits it is blocked on the pipe.

Two more numbers tell whether the seconds can be trusted: the processor time that it used while it waited (a thread pool
that spins when idle would show), and the share of the machine that other processes took during the epoch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any

from benchmarks.peers import CONTENDERS, NO_SUCH, Setting, synthetic
from benchmarks.peers.machine import busy_seconds


class Clock:
    """The time: of the wall, of this process on all its threads, and of all processes of the machine."""

    def __init__(self) -> None:
        self.busy = busy_seconds()
        self.cpu = time.process_time()
        self.wall = time.perf_counter()

    def others_since(self, started: Clock) -> float | None:
        """The share, 0 to 1, of all cores' time that other processes took since; None if it is not known."""
        if self.busy is None or started.busy is None:
            return None
        theirs = (self.busy - started.busy) - (self.cpu - started.cpu)
        return min(1.0, max(0.0, theirs / ((self.wall - started.wall) * (os.cpu_count() or 1))))


def main(name: str, setting: Setting) -> None:
    """Serves one contender."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not pass for an answer

    def say(**message: Any) -> None:
        print(json.dumps(message), file=replies, flush=True)

    try:
        contender = importlib.import_module(f"benchmarks.peers.{CONTENDERS[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("benchmarks", "pretrain"):
            raise
        return say(absent=str(error))

    if setting.task not in contender.TASKS:
        return say(absent=f"{NO_SUCH} {setting.task}")

    share = getattr(contender, "SHARE", 1)
    epoch, idle_cpu, started = 0, 0.0, Clock()

    def done(facts: dict[str, Any]) -> None:
        nonlocal epoch, idle_cpu, started
        ended = Clock()
        epoch += 1
        if epoch < setting.warmup:
            return
        if epoch == setting.warmup:
            warm = {"warmup_seconds": ended.wall - started.wall, "versions": versions(contender.PACKAGES)}
            say(algorithm=contender.ALGORITHM, **facts, **warm)
        else:
            seconds = share * (ended.wall - started.wall)
            say(seconds=seconds, idle_cpu_seconds=idle_cpu, others=ended.others_since(started))
        if not sys.stdin.readline():
            raise SystemExit
        started = Clock()
        idle_cpu = started.cpu - ended.cpu

    x = synthetic(setting)[: setting.rows // share]
    started = Clock()
    contender.train(x, setting, done)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each distribution, and Python's."""
    return {"python": sys.version.split()[0]} | {package: importlib.metadata.version(package) for package in packages}


if __name__ == "__main__":
    main(sys.argv[1], Setting(**json.loads(sys.argv[2])))
