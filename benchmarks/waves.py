"""Members as populations: which seeds train side by side, on which data, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from benchmarks import hosts
from benchmarks.experiment import Plan
from benchmarks.tasks import Context
from pretrain import population
from pretrain.data import Splits
from pretrain.memory import PROBED, Machine, needed, plan_waves


def populations(
    name: str,
    plan: Plan,
    by_data: Mapping[str, list[int]],
    done: set[int],
    data: Callable[[str], Splits],
    context: Context,
    wave: int | None,
    memory: int | None,
    say: Callable[[str], None],
    own_rows: bool = False,
) -> Iterator[tuple[tuple[str, ...], list[int], Splits]]:
    """This process's seeds that are not done, a population at a time, with the name of each one's data, and the data;
    as many on every process, for all hand over what they found after each.

    With ``own_rows``, seeds of data of their own train side by side where all data are of the same sizes: the arrays
    have a member axis then. Otherwise only those of the same data do.
    """
    names_of = {seed: of for of, seeds in by_data.items() for seed in seeds}
    apart = [{seed: of for seed in seeds} for of, seeds in by_data.items()]
    found: dict[str, Splits] = {}
    if own_rows and len(by_data) > 1 and _side_by_side(wave, memory) and not done >= names_of.keys():
        found = {of: data(of) for of in by_data}
    together = bool(found) and len({_sizes(splits) for splits in found.values()}) == 1
    for names in [dict(sorted(names_of.items()))] if together else apart:
        if done >= names.keys():
            continue
        own = [found.get(of) or data(of) for of in dict.fromkeys(names.values())]
        share = -(-len(names) // jax.process_count())
        most = in_a_wave(name, plan, members_of(own[:PROBED]), share, context, wave, memory, say)
        for wanted in waves(hosts.own(list(names)), share, min(hosts.gathered([most])), context.devices):
            seeds = [seed for seed in wanted if seed not in done]
            of = tuple(names[seed] for seed in seeds)
            yield of, seeds, members_of([found[each] for each in of]) if together and seeds else own[0]


def members_of(parts: Sequence[Splits]) -> Splits:
    """The data of members: their arrays with a member axis, or those of the one data that all of them share."""
    return parts[0] if all(part is parts[0] for part in parts) else population.stacked(parts)


def waves(seeds: list[int], share: int, most: int, devices: int) -> list[list[int]]:
    """Seeds cut into populations: the same ones whatever is finished already, so that checkpoints are found again; as
    many on every process, the last of them empty where it has fewer seeds; multiples of the number of devices, then
    what is left over, which is fewer than there are devices.
    """
    cut, at = [], 0
    while at < share:
        size = min(most, share - at)
        size -= size % devices if size > devices else 0
        cut.append(seeds[at : at + size])
        at += size
    return cut


def in_a_wave(
    name: str,
    plan: Plan,
    data: Splits,
    members: int,
    context: Context,
    wave: int | None,
    memory: int | None,
    say: Callable[[str], None],
) -> int:
    """How many members train side by side."""
    if wave is not None:
        return wave
    if not _side_by_side(wave, memory):
        return 1
    train, valid = context.stacks.paired(plan.pairs, data)
    joint = plan.joint
    needs = needed(
        plan.pretraining,
        train,
        machine=None if joint is None else Machine(joint.stage, joint.front, joint.steps),
        tuned=plan.fine_tuning,
        output=plan.output,
        labels=plan.labels,
        held=plan.held,
        valid=valid,
    )
    tested = data.test.x.nbytes // len(data.test.x) if data.test.x.ndim > 2 else 0  # each member's own
    needs = needs._replace(each=needs.each + tested)
    planned = plan_waves(members, needs, devices=context.devices, limit=memory)
    say(f"{name}: {planned}")
    return planned.wave


def _side_by_side(wave: int | None, memory: int | None) -> bool:
    """Whether there may be more than one member in a wave: on a CPU they gain nothing by it."""
    return wave != 1 if wave is not None else memory is not None or jax.default_backend() != "cpu"


def _sizes(data: Splits) -> tuple[object, ...]:
    return tuple(leaf.shape for leaf in jax.tree.leaves(data))
