"""How long one epoch of contrastive divergence takes, here and elsewhere: ``python -m benchmarks speed``.

Every contender of `benchmarks.peers` lives in a process of its own, is warmed up once (compilation, thread pools), and
is then asked in turn for one epoch: A B C D, A B C D, ... While one runs the others are blocked on a pipe. A machine
that others use too slows a whole round rather than one contender, so contenders are compared within rounds: the ratio
of two contenders is the median over rounds of their seconds in the same round.

Writes ``results.jsonl`` (one line a contender), ``table.csv`` and ``table.md``; each run replaces the last.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import CONTENDERS, Setting

OURS = "pretrain"
PAUSE = 0.3
"""Seconds between two epochs, in which the thread pools of the one before fall asleep."""


class Goal(NamedTuple):
    """A bound on (contender's seconds / ours).

    Attributes:
        least: the smallest ratio that meets it.
        words: the goal, as the table puts it.
    """

    least: float
    words: str


GOALS = {
    "five products": Goal(1 / 1.25, "ours at most 1.25 times these"),
    "torch": Goal(1.3, "ours at least 1.3 times faster"),
}


class Ratios(NamedTuple):
    """Seconds of a contender divided by ours in the same round: above 1, ours is faster."""

    least: float
    median: float
    most: float


@dataclasses.dataclass(frozen=True)
class Result:
    """One contender's line.

    Attributes:
        name: of the contender.
        seconds: of each timed epoch, in the order of the rounds; () if it is absent.
        absent: why it did not run, or None.
        facts: what else it said: versions, algorithm, device, precision, warm-up, idle processor time.
    """

    name: str
    seconds: tuple[float, ...]
    absent: str | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Ratios:
    """The pairwise ratios of two lists of seconds, round by round.

    Raises:
        ValueError: if they are not of as many rounds, or of none.
    """
    if len(theirs) != len(ours) or not ours:
        raise ValueError(f"ratios need the same rounds of both; got {len(theirs)} and {len(ours)} seconds")
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return Ratios(min(each), statistics.median(each), max(each))


def verdict(name: str, ratio: Ratios) -> str:
    """``met`` or ``missed`` with what was measured, by the median ratio; empty where no goal was set."""
    if name not in GOALS:
        return ""
    goal = GOALS[name]
    measured = 1 / ratio.median if goal.least < 1 else ratio.median
    return f"{goal.words}: {'met' if ratio.median >= goal.least else 'missed'} ({measured:.2f})"


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
            raise RuntimeError(f"the process of {self.name!r} ended with status {self.process.wait()}; its error is above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process and waits for its end."""
        self.process.communicate()


def measure(setting: Setting, names: Sequence[str], say: Callable[[str], None]) -> list[Result]:
    """Runs the contenders, interleaved, for as many rounds as the setting has timed epochs."""
    workers: list[Worker] = []
    try:
        for name in names:
            workers.append(Worker(name, setting))
            say(f"{name}: {workers[-1].absent or 'warm'}")
        present = [worker for worker in workers if worker.absent is None]
        seconds: dict[str, list[float]] = {worker.name: [] for worker in present}
        idle: dict[str, list[float]] = {worker.name: [] for worker in present}
        for number in range(1, setting.epochs - setting.warmup + 1):
            for worker in present:
                time.sleep(PAUSE)
                answer = worker.epoch()
                seconds[worker.name].append(answer["seconds"])
                idle[worker.name].append(round(answer["idle_cpu_seconds"], 3))
            say(f"round {number}: " + ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in seconds.items()))
    finally:
        for worker in workers:
            worker.close()
    return [
        Result(worker.name, (), worker.absent)
        if worker.absent is not None
        else Result(
            worker.name, tuple(seconds[worker.name]), None, worker.facts | {"idle_cpu_seconds": idle[worker.name]}
        )
        for worker in workers
    ]


def machine() -> dict[str, Any]:
    """What the times depend on, besides the code."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def record(result: Result, setting: Setting, where: Mapping[str, Any]) -> dict[str, Any]:
    """A contender's line of ``results.jsonl``."""
    times = {"seconds": list(result.seconds)}
    if result.seconds:
        times |= {"least": min(result.seconds), "median": statistics.median(result.seconds)}
    head = {"name": result.name} | ({"absent": result.absent} if result.absent else times)
    return head | dict(result.facts) | {"setting": dataclasses.asdict(setting), "machine": dict(where)}


def rows_of(results: Sequence[Result]) -> list[list[str]]:
    """The table, header first; contenders in the order of their median ratio, absent ones last."""
    ours = next(result for result in results if result.name == OURS).seconds
    header = ["contender", "least, s", "median, s", "ratio to ours: median", "least", "most", "goal"]
    lines: list[tuple[float, list[str]]] = []
    for result in results:
        if result.absent is not None:
            lines.append((float("inf"), [result.name, *["absent"] * 2, *[""] * 3, result.absent]))
            continue
        ratio = ratios(result.seconds, ours)
        times = [f"{min(result.seconds):.2f}", f"{statistics.median(result.seconds):.2f}"]
        shown = [f"{ratio.median:.2f}", f"{ratio.least:.2f}", f"{ratio.most:.2f}"]
        lines.append((ratio.median, [result.name, *times, *shown, verdict(result.name, ratio)]))
    return [header, *[line for _, line in sorted(lines, key=lambda line: line[0])]]


def markdown(results: Sequence[Result], setting: Setting, where: Mapping[str, Any]) -> str:
    """The table with what a reader needs to judge it."""
    header, *lines = rows_of(results)
    table = ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines)]
    rounds = setting.epochs - setting.warmup
    task = (
        f"One epoch of CD-1: {setting.n_visible}x{setting.n_hidden}, {setting.rows:,} rows, batch {setting.batch_size}, "
        f"float32, on {where['cores']} cores ({where['processor']}). Each contender in a process of its own, "
        f"interleaved, {rounds} rounds after warming up. A ratio is the contender's seconds divided by ours in the same "
        "round; goals are judged by its median. Synthetic inputs in [0, 1] with MNIST's sparsity."
    )
    notes = [
        f"- **{result.name}** ({_versions(result)}): {result.facts.get('notes', 'not installed: ' + str(result.absent))}."
        for result in results
    ]
    return "\n".join(["# Speed", "", task, "", *table, "", *notes, ""])


def _versions(result: Result) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.facts.get("versions", {}).items()) or "absent"


def main(
    out: Path = Path("paper_tables/speed"),
    rounds: int = 5,
    rows: int = 60_000,
    contenders: Sequence[str] = tuple(CONTENDERS),
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Measures, writes the results and the tables into ``out``, and returns the results.

    Args:
        out: a folder.
        rounds: timed epochs of each contender.
        rows: training examples.
        contenders: names of `benchmarks.peers.CONTENDERS`; ours is among them always.
        say: takes a line of progress.
    """
    names = [name for name in CONTENDERS if name == OURS or name in contenders]
    setting = Setting(rows=rows, epochs=rounds + Setting.warmup)
    where = machine()
    results = measure(setting, names, say)
    where["load_average_after"] = machine()["load_average"]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows_of(results))
    text = markdown(results, setting, where)
    out.mkdir(parents=True, exist_ok=True)
    records = [json.dumps(record(result, setting, where)) for result in results]
    (out / "results.jsonl").write_text("\n".join(records) + "\n")
    (out / "table.csv").write_text(table.getvalue())
    (out / "table.md").write_text(text)
    say(text)
    return results


if __name__ == "__main__":
    main()
