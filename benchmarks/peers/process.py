"""A contender's process as `benchmarks.speed` sees it; the other end of its pipes is `benchmarks.peers.worker`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.peers import Setting


class Worker:
    """A contender's process, warm and waiting; `absent` says why if its package is not installed."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.peers.worker", name, json.dumps(dataclasses.asdict(setting))]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # every contender runs on the same processor
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts = self._answer()
        self.absent: str | None = self.facts.get("absent")

    def epoch(self) -> dict[str, float]:
        """One more epoch: its seconds, and the processor seconds used while waiting for this call."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the process of {self.name!r} ended with status {self.process.wait()}; its error is above"
            )
        return json.loads(line)

    def close(self) -> None:
        """Ends the process and waits for its end."""
        self.process.communicate()
