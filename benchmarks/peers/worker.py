"""The process of one contender: ``python -m benchmarks.peers.worker NAME SETTING``, spoken to over its pipes.

It trains until warm and says so, then waits; every line it reads asks for one more epoch, which it answers with the
seconds that took. One JSON object a line; the end of its input ends it. While it waits it is blocked on the pipe, and
the processor time that it used while waiting is part of its answer, so a thread pool that spins when idle would show.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any

from benchmarks.peers import CONTENDERS, Setting, synthetic


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

    epoch, began, idle_cpu = 0, 0.0, 0.0

    def done(facts: dict[str, Any]) -> None:
        nonlocal epoch, began, idle_cpu
        now, cpu = time.perf_counter(), time.process_time()
        epoch += 1
        if epoch == setting.warmup:
            say(
                ready=facts,
                warmup_seconds=now - began,
                versions=versions(contender.PACKAGES),
                notes=contender.ALGORITHM,
            )
        elif epoch > setting.warmup:
            say(seconds=now - began, idle_cpu_seconds=idle_cpu)
        if epoch >= setting.warmup:
            if not sys.stdin.readline():
                raise SystemExit
            idle_cpu = time.process_time() - cpu
            began = time.perf_counter()

    x = synthetic(setting)
    began = time.perf_counter()
    contender.train(x, setting, done)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each distribution, and Python's."""
    return {"python": sys.version.split()[0]} | {package: importlib.metadata.version(package) for package in packages}


if __name__ == "__main__":
    main(sys.argv[1], Setting(**json.loads(sys.argv[2])))
