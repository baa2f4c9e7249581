"""What members side by side cost: seconds a member-epoch of CD-1 for 1, 2, 4, ... members, beside the ceilings.

In every round each population trains one epoch, in turn with a large matrix product and a large copy, so that a machine
that others use too slows all of them. Two figures are put against these ceilings: the arithmetic of the five products
of an update, and the least memory traffic it can do with, which is to read and write weights and momentum once.
"""

from __future__ import annotations

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
from benchmarks.provenance import commit, device, versions
from pretrain import fit

SIDE = 4_096
"""Of the square matrices of the product, on an accelerator; half of it on a CPU."""

COPIED = 2**28
"""Bytes of the array that is copied."""


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
    """Operations a second of a large product."""
    side = SIDE if jax.default_backend() != "cpu" else SIDE // 2
    a = jnp.ones((side, side))
    return functools.partial(_rate, jax.jit(jnp.matmul), (a, a), 2.0 * side**3)


def _copy() -> Callable[[], float]:
    """Bytes a second, read and written, of a large copy."""
    a = jnp.ones(COPIED // 4)
    return functools.partial(_rate, jax.jit(lambda a: a + 1.0), (a,), 2.0 * COPIED)


def _rate(function: Callable[..., Any], arguments: tuple[Any, ...], amount: float) -> float:
    best = np.inf
    for _ in range(4):  # the first may compile
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        best = min(best, time.perf_counter() - began)
    return amount / best


def markdown(costs: Sequence[Cost], ceilings: Ceilings, setting: Setting, where: str) -> str:
    """The table and how to read it."""
    header, *lines = rows_of(costs, ceilings)
    table = ["| " + " | ".join(line) + " |" for line in (header, ["---:"] * len(header), *lines)]
    return "\n".join(["# Populations", "", about(costs, ceilings, setting, where), "", *table, ""])


def rows_of(costs: Sequence[Cost], ceilings: Ceilings) -> list[list[str]]:
    """The table, header first."""
    header = ["members", "least, s", "median, s", "least, s a member-epoch", "one alone / a member", "GFLOP/s", "GB/s"]
    alone = costs[0].each
    lines = [
        [
            str(cost.members),
            f"{min(cost.seconds):.3f}",
            f"{statistics.median(cost.seconds):.3f}",
            f"{cost.each:.4f}",
            f"{alone / cost.each:.2f}",
            f"{cost.flops / 1e9:.1f} ({cost.flops / ceilings.flops:.0%})",
            f"{cost.traffic / 1e9:.2f} ({cost.traffic / ceilings.traffic:.0%})",
        ]
        for cost in costs
    ]
    return [header, *lines]


def about(costs: Sequence[Cost], ceilings: Ceilings, setting: Setting, where: str) -> str:
    """What was timed, on which device, and how it is told."""
    return (
        f"One epoch of CD-1, {setting.n_visible}x{setting.n_hidden}, {setting.rows:,} rows, batch "
        f"{setting.batch_size}, float32, of populations in one process, in turn, {len(costs[0].seconds)} rounds after "
        f"compiling, on {where}. GFLOP/s: the five products of every update; GB/s: weights and momentum read and "
        "written once an update, the least there can be; in brackets the share of the ceilings, which were measured in "
        f"the same rounds: {ceilings.flops / 1e9:.0f} GFLOP/s by a large matrix product, "
        f"{ceilings.traffic / 1e9:.1f} GB/s by a large copy."
    )


def stored(lines: Sequence[Mapping[str, Any]]) -> tuple[list[Cost], Ceilings, Setting, str]:
    """What `main` made lines of, and the device."""
    costs = [Cost(line["members"], tuple(line["seconds"]), line["flops"], line["traffic"]) for line in lines]
    first = lines[0]
    setting = Setting(first["rows"], len(costs[0].seconds), batch_size=first["batch_size"])
    return costs, Ceilings(**first["ceilings"]), setting, first["device"]


def main(
    out: Path,
    members: int = 8,
    rounds: int = 5,
    rows: int = 10_000,
    say: Callable[[str], None] = print,
    command: str = "",
) -> tuple[list[Cost], Ceilings]:
    """Measures populations of 1, 2, 4, ... up to ``members`` and writes ``scaling.jsonl`` and ``scaling.md``."""
    setting = Setting(rows=rows, epochs=rounds)
    counts = [2**power for power in range(members.bit_length()) if 2**power <= members]
    with jax.default_matmul_precision("float32"):
        costs, ceilings = measure(setting, counts, rounds, say)
    out.mkdir(parents=True, exist_ok=True)
    shared = {"device": device(), "versions": versions(), "rows": rows, "batch_size": setting.batch_size}
    shared |= {"commit": commit(), "command": command}
    lines = [cost._asdict() | {"ceilings": ceilings._asdict()} | shared for cost in costs]
    (out / "scaling.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = markdown(costs, ceilings, setting, device())
    (out / "scaling.md").write_text(text)
    say(text)
    return costs, ceilings
