"""What members side by side cost: seconds a member-epoch of CD-1 for 1, 2, 4, ... members, beside the ceilings.

A table is of one device, one size of minibatch and one precision of products, and a run replaces earlier ones of these.
In every round each population trains one epoch, in turn with a large matrix product and a large copy, so that a machine
that others use too slows all of them. Two figures are put against these ceilings: the arithmetic of the five products
of an update, and the least memory traffic it can do with, which is to read and write weights and momentum once.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pretrain
from benchmarks.peers import Setting, synthetic
from benchmarks.precision import products
from benchmarks.provenance import commit, device, versions
from benchmarks.results import read_results
from pretrain import fit

ON_A_CPU, ELSEWHERE = (2_048, 2**28), (8_192, 2**31)
"""The side of the square matrices of the product, and the bytes of the array that is copied."""

KEY = ("device", "batch_size", "precision")
"""Of a line: those that agree in these are a table."""

ALONE = (64, 20.0)
"""The goal on an accelerator: of so many members each costs at most one so-manieth of one alone."""

SHARE = (400, 0.5)
"""The goal there: of so many members the nearer of the two ceilings is reached by at least so much."""


class Cost(NamedTuple):
    """A population's line.

    Attributes:
        members: side by side.
        seconds: of each timed epoch of the whole population.
        flops: floating-point operations a second of the products, at the least time.
        traffic: bytes a second of weights and momentum, likewise.
    """

    members: int
    seconds: tuple[float, ...]
    flops: float
    traffic: float

    @property
    def each(self) -> float:
        """Least seconds a member-epoch."""
        return min(self.seconds) / self.members


class Ceilings(NamedTuple):
    """The most that was measured: ``flops`` a second of a product, ``traffic`` in bytes a second of a copy."""

    flops: float
    traffic: float


def counted(setting: Setting, members: int) -> tuple[float, float]:
    """Operations of the products, and bytes of weights and momentum read and written once an update, an epoch."""
    updates = members * (setting.rows // setting.batch_size)
    weights = setting.n_visible * setting.n_hidden
    return updates * 5 * 2 * setting.batch_size * weights, updates * 4 * 4 * weights


@dataclasses.dataclass(frozen=True)
class Table:
    """Populations of one device, size of minibatch and precision, in one process.

    Attributes:
        setting: sizes and rows.
        precision: of the products.
        device: it ran on.
        costs: a line each.
        ceilings: measured in the same rounds.
        command: that timed them, if it was kept.
        commit: of the source.
    """

    setting: Setting
    precision: str
    device: str
    costs: tuple[Cost, ...]
    ceilings: Ceilings
    command: str = ""
    commit: str | None = None


def measure(
    setting: Setting, members: Sequence[int], rounds: int, say: Callable[[str], None]
) -> tuple[list[Cost], Ceilings]:
    """Times one epoch of every population a round, in turn, after each has compiled.

    Args:
        setting: sizes and rows.
        members: of the populations.
        rounds: timed epochs of each.
        say: takes a line of progress.
    """
    x = pretrain.Batch(jnp.asarray(synthetic(setting)))
    learner = pretrain.BernoulliRBM(setting.n_hidden)
    optimizer = pretrain.Momentum(setting.learning_rate, setting.momentum)
    states: dict[int, Any] = dict.fromkeys(members)

    def epoch(count: int) -> float:
        before = states[count]
        done = 0 if before is None else before.epoch
        spent = 0.0 if before is None else before.seconds
        states[count] = fit.run(
            learner,
            optimizer,
            x,
            epochs=done + 1,
            batch_size=setting.batch_size,
            seeds=range(count),
            resume=before,
        )
        jax.block_until_ready(states[count].fits)
        return states[count].seconds - spent

    product, copy = _product(), _copy()
    for count in members:
        say(f"{count} members: {epoch(count):.2f} s, compilation included")
    seconds: dict[int, list[float]] = {count: [] for count in members}
    ceilings = []
    for number in range(1, rounds + 1):
        for count in members:
            seconds[count].append(epoch(count))
        ceilings.append((product(), copy()))
        shown = ", ".join(f"{count}: {each[-1] / count:.3f}" for count, each in seconds.items())
        say(f"round {number}: seconds a member-epoch {shown}")
    costs = []
    for count, each in seconds.items():
        flops, traffic = counted(setting, count)
        costs.append(Cost(count, tuple(each), flops / min(each), traffic / min(each)))
    return costs, Ceilings(*(max(found) for found in zip(*ceilings, strict=True)))


def _product() -> Callable[[], float]:
    """Operations a second of a large product, in the precision that holds here; of random numbers, for a device may
    be faster on others.
    """
    side, _ = _large()
    a = jax.random.normal(jax.random.key(0), (side, side))
    return functools.partial(_rate, jax.jit(jnp.matmul), (a, a), 2.0 * side**3)


def _copy() -> Callable[[], float]:
    """Bytes a second, read and written, of a large copy."""
    _, copied = _large()
    a = jnp.ones(copied // 4)
    return functools.partial(_rate, jax.jit(lambda a: a + 1.0), (a,), 2.0 * copied)


def _large() -> tuple[int, int]:
    return ON_A_CPU if jax.default_backend() == "cpu" else ELSEWHERE


def _rate(function: Callable[..., Any], arguments: tuple[Any, ...], amount: float) -> float:
    best = np.inf
    for _ in range(4):  # the first may compile
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        best = min(best, time.perf_counter() - began)
    return amount / best


def markdown(tables: Sequence[Table]) -> str:
    """The tables and how to read them."""
    text = ["# Populations", "", PROTOCOL, ""]
    for table in tables:
        header, *lines = rows_of(table)
        shown = ["| " + " | ".join(line) + " |" for line in (header, ["---:"] * len(header), *lines)]
        text += [f"## {heading(table)}", "", about(table), "", *shown, ""]
        made = [f"Command: `{table.command}`; commit {table.commit}."] if table.command else []
        text += [*(f"- {line}" for line in [*verdicts(table), *made]), ""] if verdicts(table) or made else []
    return "\n".join(text)


PROTOCOL = (
    "One epoch of CD-1 of populations in one process, in turn, some rounds after compiling. GFLOP/s: the five products "
    "of every update; GB/s: weights and momentum read and written once an update, the least there can be; in brackets "
    "the share of the ceilings, which were measured in the same rounds by a large matrix product and a large copy."
)


def heading(table: Table) -> str:
    """Of a table."""
    return f"{table.device}: batch {table.setting.batch_size}, products in {table.precision}"


def rows_of(table: Table) -> list[list[str]]:
    """The table, header first."""
    costs, ceilings = table.costs, table.ceilings
    header = ["members", "least, s", "median, s", "least, s a member-epoch", "one alone / a member", "GFLOP/s", "GB/s"]
    alone = next((cost.each for cost in costs if cost.members == 1), None)
    lines = [
        [
            str(cost.members),
            f"{min(cost.seconds):.3f}",
            f"{statistics.median(cost.seconds):.3f}",
            f"{cost.each:.3g}",
            "" if alone is None else f"{alone / cost.each:.2f}",
            f"{cost.flops / 1e9:,.1f} ({cost.flops / ceilings.flops:.0%})",
            f"{cost.traffic / 1e9:,.2f} ({cost.traffic / ceilings.traffic:.0%})",
        ]
        for cost in costs
    ]
    return [header, *lines]


def about(table: Table) -> str:
    """What was timed, and the ceilings."""
    setting = table.setting
    return (
        f"{setting.n_visible}x{setting.n_hidden}, {setting.rows:,} rows, {len(table.costs[0].seconds)} rounds; "
        f"ceilings: {table.ceilings.flops / 1e9:,.0f} GFLOP/s, {table.ceilings.traffic / 1e9:,.1f} GB/s."
    )


def verdicts(table: Table) -> list[str]:
    """Whether the goals for an accelerator are met, as far as populations of their sizes were timed; [] on a CPU."""
    if table.device.startswith("cpu"):
        return []
    costs, found = {cost.members: cost for cost in table.costs}, []
    members, least = ALONE
    if {1, members} <= costs.keys():
        ratio = costs[1].each / costs[members].each
        found.append(
            f"Goal: of {members} members each at least {least:.0f} times cheaper than one alone: "
            f"{'met' if ratio >= least else 'missed'} ({ratio:.1f})."
        )
    members, share = SHARE
    if members in costs:
        cost, ceilings = costs[members], table.ceilings
        reached = max(cost.flops / ceilings.flops, cost.traffic / ceilings.traffic)
        found.append(
            f"Goal: at {members} members at least {share:.0%} of the nearer ceiling: "
            f"{'met' if reached >= share else 'missed'} ({reached:.0%})."
        )
    return found


def stored(lines: Sequence[Mapping[str, Any]]) -> list[Table]:
    """What `main` made lines of."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line[name] for name in KEY), []).append(line)
    found = []
    for (where, batch_size, precision), group in groups.items():
        costs = tuple(Cost(line["members"], tuple(line["seconds"]), line["flops"], line["traffic"]) for line in group)
        first = group[0]
        setting = Setting(first["rows"], len(costs[0].seconds), batch_size=batch_size)
        made = first.get("command", ""), first.get("commit")
        found.append(Table(setting, precision, where, costs, Ceilings(**first["ceilings"]), *made))
    return found


def main(
    out: Path,
    members: Sequence[int] = (1, 2, 4, 8),
    rounds: int = 5,
    rows: int = 10_000,
    batches: Sequence[int] = (100,),
    precisions: Sequence[str] = ("float32",),
    say: Callable[[str], None] = print,
    command: str = "",
) -> list[Table]:
    """Measures populations of so many members and writes ``scaling.jsonl`` and ``scaling.md``, after every table."""
    path = out / "scaling.jsonl"
    lines = read_results(path)
    shared = {"device": device(), "versions": versions(), "commit": commit(), "command": command, "rows": rows}
    for precision in precisions:
        for batch_size in batches:
            setting = Setting(rows=rows, epochs=rounds, batch_size=batch_size)
            say(f"batch {batch_size}, products in {precision}")
            with products(precision):
                costs, ceilings = measure(setting, members, rounds, say)
            own = shared | {"batch_size": batch_size, "precision": precision, "ceilings": ceilings._asdict()}
            lines = [line for line in lines if any(line[name] != own[name] for name in KEY)]
            lines += [cost._asdict() | own for cost in costs]
            out.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            (out / "scaling.md").write_text(markdown(stored(lines)))
    say(markdown(stored(lines)))
    return stored(lines)
