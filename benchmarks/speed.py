"""How long an epoch takes, here and elsewhere: ``python -m benchmarks speed``.

Every contender of `benchmarks.peers` lives in a process of its own, is warmed up once (compilation, thread pools), and
is then asked in turn for one epoch: A B C D, A B C D, ... While one runs the others are blocked on a pipe. A machine
that others use too slows a whole round rather than one contender, so contenders are compared within rounds: the ratio
of two contenders is the median over rounds of their seconds in the same round.

Writes ``results.jsonl`` (one line a contender), ``table.csv`` and ``table.md``. A run replaces earlier tables
of its tasks, sizes and batches, whatever their rows and contenders were, and leaves the others, each with the machine,
the command and the commit it is of.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import CONTENDERS, NO_SUCH, TASKS, Setting
from benchmarks.peers.machine import machine
from benchmarks.peers.process import Worker
from benchmarks.provenance import commit
from benchmarks.results import read_results

OURS = "pretrain"
PAUSE = 0.3
"""Seconds between two epochs, in which the thread pools of the one before fall asleep."""


QUIET = 0.1
"""The share of the machine that other processes may take before the table warns of it."""

BUSY = (
    "Threads that wait for each other after every operation (torch, OpenBLAS) suffer from that more than XLA's, so the "
    "ratios of torch and scikit-learn flatter ours."
)


class Goal(NamedTuple):
    """A bound on (contender's seconds / ours).

    Attributes:
        least: the smallest ratio that meets it.
        words: the goal, as the table puts it.
    """

    least: float
    words: str


GOALS = {
    "bare products": Goal(1 / 1.2, "ours at most 1.2 times these"),
    "torch": Goal(1.3, "ours at least 1.3 times faster"),
    "scikit-learn": Goal(1.5, "ours at least 1.5 times faster"),
    "learnergy": Goal(2.0, "ours at least 2 times faster"),
    "rbms": Goal(2.0, "ours at least 2 times faster"),
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


class Measured(NamedTuple):
    """A setting, its contenders' results, and where they are from: the machine, with the command and the commit."""

    setting: Setting
    results: list[Result]
    where: Mapping[str, Any]

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Its table's place among the others; a setting measured anew takes it."""
        setting = self.setting
        return list(TASKS).index(setting.task), setting.n_visible, setting.n_hidden, setting.batch_size


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


def measure(setting: Setting, names: Sequence[str], say: Callable[[str], None]) -> list[Result]:
    """Runs the contenders, interleaved, for as many rounds as the setting has timed epochs."""
    workers: list[Worker] = []
    try:
        for name in names:
            workers.append(Worker(name, setting))
            say(f"{name}: {workers[-1].absent or 'warm'}")
        present = [worker for worker in workers if worker.absent is None]
        answers: dict[str, list[dict[str, Any]]] = {worker.name: [] for worker in present}
        for number in range(1, setting.epochs - setting.warmup + 1):
            for worker in present:
                time.sleep(PAUSE)
                answers[worker.name].append(worker.epoch())
            latest = ", ".join(f"{name} {each[-1]['seconds']:.2f} s" for name, each in answers.items())
            say(f"round {number}: {latest}")
    finally:
        for worker in workers:
            worker.close()
    return [_result(worker, answers.get(worker.name, [])) for worker in workers]


def _result(worker: Worker, answers: Sequence[Mapping[str, Any]]) -> Result:
    if worker.absent is not None:
        return Result(worker.name, (), worker.absent)
    told = {name: [answer[name] for answer in answers] for name in ("seconds", "idle_cpu_seconds", "others")}
    return Result(worker.name, tuple(told.pop("seconds")), None, worker.facts | told)


def record(result: Result, setting: Setting, where: Mapping[str, Any]) -> dict[str, Any]:
    """A contender's line of ``results.jsonl``; ``where`` is the machine, with the commit and the command."""
    times = {"seconds": list(result.seconds)}
    if result.seconds:
        times |= {"least": min(result.seconds), "median": statistics.median(result.seconds)}
    head = {"name": result.name} | ({"absent": result.absent} if result.absent else times)
    return head | dict(result.facts) | {"setting": dataclasses.asdict(setting), "machine": dict(where)}


def stored(lines: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """What `record` made lines of, by setting."""
    found: dict[Setting, Measured] = {}
    told = ("name", "absent", "seconds", "least", "median", "setting", "machine")
    for line in lines:
        facts = {name: value for name, value in line.items() if name not in told}
        setting = Setting(**line["setting"])
        measured = found.setdefault(setting, Measured(setting, [], line["machine"]))
        measured.results.append(Result(line["name"], tuple(line.get("seconds", ())), line.get("absent"), facts))
    return list(found.values())


def rows_of(results: Sequence[Result], setting: Setting) -> list[list[str]]:
    """The table, header first; contenders in the order of their median ratio, absent ones last; what has no such
    learner is left out.
    """
    ours = next(result for result in results if result.name == OURS).seconds
    header = ["contender", "least, s", "median, s", "ratio to ours: median", "least", "most", "goal"]
    lines: list[tuple[float, list[str]]] = []
    for result in results:
        if result.absent is not None and result.absent.startswith(NO_SUCH):
            continue
        if result.absent is not None:
            lines.append((float("inf"), [result.name, *["absent"] * 2, *[""] * 3, result.absent]))
            continue
        ratio = ratios(result.seconds, ours)
        times = [f"{min(result.seconds):.2f}", f"{statistics.median(result.seconds):.2f}"]
        shown = [f"{ratio.median:.2f}", f"{ratio.least:.2f}", f"{ratio.most:.2f}"]
        lines.append(
            (ratio.median, [result.name, *times, *shown, verdict(result.name, ratio) if setting.task == "cd" else ""])
        )
    return [header, *[line for _, line in sorted(lines, key=lambda line: line[0])]]


def disturbance(results: Sequence[Result]) -> float | None:
    """The largest share of the machine, 0 to 1, that other processes took in any epoch; None if that is not known."""
    shares = [share for result in results for share in result.facts.get("others", ()) if share is not None]
    return max(shares, default=None)


def markdown(found: Sequence[Measured]) -> str:
    """The tables, one a setting, with what a reader needs to judge them."""
    text = ["# Speed", "", PROTOCOL, ""]
    for measured in found:
        header, *lines = rows_of(measured.results, measured.setting)
        text += [
            f"## {heading(measured.setting)}",
            "",
            about(measured),
            "",
            *["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines)],
            "",
        ]
    for paragraph in circumstances(found):
        text += [paragraph, ""]
    made = [f"- Command: `{command}`; commit {of}." for command, of in commands(found)]
    return "\n".join([*text, *made, *([""] if made else []), *contenders_of(found), ""])


PROTOCOL = (
    "Seconds an epoch, float32. Each contender runs in a process of its own, in turn, a number of rounds after warming "
    "up. A ratio is the contender's seconds divided by ours in the same round: above 1, ours is faster. Goals are set "
    "for CD-1 and judged by the median. Synthetic inputs in [0, 1] with MNIST's sparsity."
)
"""What was timed, and how it is told."""


def commands(found: Sequence[Measured]) -> list[tuple[str, str]]:
    """The commands that were run, each with its commit, as far as they were kept."""
    made = [
        (measured.where["command"], measured.where["commit"]) for measured in found if measured.where.get("command")
    ]
    return list(dict.fromkeys(made))


def heading(setting: Setting) -> str:
    """Of a setting's table."""
    return f"{setting.task}: {size_of(setting)}, batch {setting.batch_size}"


def about(measured: Measured) -> str:
    """What one epoch of a setting is, and on which machine it was timed."""
    setting, where = measured.setting, measured.where
    rounds = setting.epochs - setting.warmup
    return (
        f"An epoch is of {TASKS[setting.task]}; {setting.rows:,} rows, {rounds} rounds, on {where['cores']} cores "
        f"({where['processor']})."
    )


def circumstances(found: Sequence[Measured]) -> list[str]:
    """How busy the machine was meanwhile."""
    others = disturbance([result for measured in found for result in measured.results])
    quiet = "unknown" if others is None else f"at most {others:.0%} in any epoch"
    text = [f"Share of the machine that other processes took meanwhile: {quiet}."]
    return text + (["**The machine was busy.** " + BUSY] if others is not None and others > QUIET else [])


def contenders_of(found: Sequence[Measured]) -> list[str]:
    """What each contender does, or why it is absent everywhere: a line for each of the versions that were timed."""
    everything = [result for measured in found for result in measured.results]
    timed = {result.name for result in everything if result.absent is None}
    notes = [
        _note(result)
        for name in CONTENDERS
        for result in everything
        if result.name == name and (result.absent is None or name not in timed)
    ]
    return list(dict.fromkeys(notes))


def _note(result: Result) -> str:
    if result.absent is not None:
        return f"- **{result.name}** is absent: {result.absent}."
    versions = ", ".join(f"{name} {version}" for name, version in result.facts.get("versions", {}).items())
    return f"- **{result.name}** ({versions}): {result.facts.get('algorithm', '')}."


def size_of(setting: Setting) -> str:
    """A layer's size in words."""
    return f"{setting.n_visible}x{setting.n_hidden}"


def settings(
    tasks: Sequence[str], sizes: Sequence[tuple[int, int]], batches: Sequence[int], rows: int, rounds: int
) -> list[Setting]:
    """Every combination; a minibatch of ten has a sixth of the rows, for an update costs nearly as much."""
    return [
        Setting(
            rows if batch > 10 else rows // 6,
            rounds + Setting.warmup,
            task,
            n_visible=n_visible,
            n_hidden=n_hidden,
            batch_size=batch,
        )
        for task in tasks
        for n_visible, n_hidden in sizes
        for batch in batches
    ]


def main(
    out: Path = Path("paper_tables/speed"),
    wanted: Sequence[Setting] = (Setting(60_000, 7),),
    contenders: Sequence[str] = tuple(CONTENDERS),
    say: Callable[[str], None] = print,
    command: str = "",
) -> list[Measured]:
    """Measures, writes the results and the tables into ``out`` as they come, and returns all that are there.

    Args:
        out: a folder.
        wanted: the settings, one table each.
        contenders: names of `benchmarks.peers.CONTENDERS`; ours is among them always.
        say: takes a line of progress.
        command: recorded beside the results.
    """
    names = [name for name in CONTENDERS if name == OURS or name in contenders]
    where = machine() | {"commit": commit(), "command": command}
    found = stored(read_results(out / "results.jsonl"))
    for setting in wanted:
        say(f"{setting.task}, {size_of(setting)}, batch {setting.batch_size}, {setting.rows} rows")
        new = Measured(setting, measure(setting, names, say), where)
        found = sorted({each.place: each for each in (*found, new)}.values(), key=lambda measured: measured.place)
        write(out, found)
    say(markdown(found))
    return found


def write(out: Path, found: Sequence[Measured]) -> None:
    """Writes all results and the tables of them, after every setting: a run that is stopped has lost only the last."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for number, (setting, results, _) in enumerate(found):
        of = [setting.task, size_of(setting), str(setting.batch_size)]
        header, *lines = rows_of(results, setting)
        writer.writerows([] if number else [["task", "size", "batch", *header]])
        writer.writerows([*of, *line] for line in lines)
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record(result, of, where)) for of, results, where in found for result in results]
    for name, text in (
        ("results.jsonl", "\n".join(lines) + "\n"),
        ("table.csv", table.getvalue()),
        ("table.md", markdown(found)),
    ):
        whole = (out / name).with_suffix(".tmp")
        whole.write_text(text)
        whole.replace(out / name)


if __name__ == "__main__":
    main()
