"""What members need of memory, and which of them train side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import benchmarks.stacks
import pretrain as pt
from benchmarks import waves
from benchmarks.__main__ import EXPERIMENTS
from benchmarks.experiment import Plan
from benchmarks.papers.larochelle2009 import tuning
from benchmarks.stacks import Stacks
from benchmarks.tasks import Context, Trained
from pretrain import fit, memory
from pretrain.data import Shifts, Splits, digits
from pretrain.types import Batch

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

TRAIN, VALID = (jax.tree.map(lambda leaf: leaf[:200], part) for part in digits()[:2])
STAGES = (pt.Stage(pt.BernoulliRBM(40), pt.Momentum(0.1), 1, 20), pt.Stage(pt.Autoencoder(30), pt.Momentum(0.1), 1, 20))


def test_what_a_member_needs_is_what_larger_programs_need_more() -> None:
    """A program for ten members, analysed by XLA, needs what the plan made from two says, within a fifth."""
    tuned = tuning(1.0, 3, 20, n_hidden=(200, 200))
    shared, each, left = memory.needed((), TRAIN, tuned=tuned, valid=VALID)
    lowered = fit.lowered(tuned, TRAIN, members=10, monitors={"valid": VALID})
    found = lowered.compile().memory_analysis()
    total = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    assert total - found.alias_size_in_bytes == pytest.approx(shared + 10 * each, rel=0.2)
    assert shared == 200 * (64 * 4 + 4) * 2  # x and y of both parts
    assert left == 0


def test_a_stack_needs_its_codes_and_what_its_layers_leave_behind() -> None:
    one, two = (memory.needed(STAGES[:n], TRAIN).each for n in (1, 2))
    left_behind = 4 * 2 * (64 * 40 + 40 + 64)  # parameters and momentum of the first layer
    assert two > one
    assert two > left_behind + 4 * 200 * (40 + 30)  # and codes below and above


def test_a_solvers_landmarks_stay() -> None:
    needs = memory.needed([pt.Stage(pt.KernelPCA(2, n_landmarks=100))], TRAIN)
    landmarks = 4 * 100 * (64 + 2)
    assert 2 * landmarks <= needs.left < 2.2 * landmarks  # of what was solved and of the layer


def test_a_trained_stack_holds_what_was_planned() -> None:
    """Every buffer that it refers to, counted once, for machines, autoencoders, and early stopping."""
    for stage in (*STAGES, dataclasses.replace(STAGES[1], patience=2), pt.Stage(pt.KernelPCA(2, n_landmarks=100))):
        done = pt.pretrain([stage], TRAIN, valid=VALID, seeds=range(4))
        kept = (done.layers, done.params, [(each.fits, each.best) for each in done.progress])
        arrays = [leaf for leaf in jax.tree.leaves(kept) if isinstance(leaf, jax.Array)]
        arrays = [jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in arrays]
        held = sum({array.unsafe_buffer_pointer(): array.nbytes for array in arrays}.values())
        planned = 4 * memory.needed([stage], TRAIN, valid=VALID).left
        assert held == pytest.approx(planned, rel=0.02)


def test_making_codes_needs_room_for_a_moment() -> None:
    """The mean field of many rows is found in blocks of a thousand, whose states are held beside what h1 hears."""
    zeros, rows = lambda *shape: jnp.zeros((1, *shape)), Batch(jnp.zeros((3_000, 16)))
    layer = pt.MeanField(zeros(16, 600), zeros(600, 600), zeros(600), zeros(600), n_second=10, steps=3)
    account = memory._Account()
    above, _ = account.codes(layer, rows, {})
    made = 4 * 3_000 * (16 + 10)
    assert above.x.shape == (1, 3_000, 26)
    assert account.most * memory.PROBED > made + 2 * 4 * 1_000 * 600


def test_waves_fit_and_are_even() -> None:
    shared, each, left = needs = memory.needed(STAGES, TRAIN)
    limit = int((shared + 6 * left + 4.5 * each) / memory.SHARE)  # four members beside the stacks of six others
    plan = memory.plan_waves(10, needs, limit=limit)
    assert plan.wave == 4  # three waves
    assert "10 members in 3 waves of 4" in str(plan)
    assert memory.plan_waves(12, needs, limit=limit - 6 * left, devices=2).wave == 6  # two waves, two devices
    assert memory.plan_waves(3, needs, limit=limit).wave == 3
    assert "1 member in 1 wave of 1:" in str(memory.plan_waves(1, needs, limit=limit, devices=4))
    with pytest.raises(MemoryError, match="one member needs"):
        memory.plan_waves(1, needs, limit=shared + each // 2)
    with pytest.raises(MemoryError, match=r"beside .* MiB of trained stacks"):
        memory.plan_waves(1_000, needs, limit=limit)
    assert memory.device_memory() > 2**20


def planned(row: str, plan: Plan, train: Batch) -> memory.Needs:
    """What a row's members need, as the runner asks for it."""
    asked: list[memory.Needs] = []

    def plan_waves(members: int, needs: memory.Needs, *, devices: int, limit: int) -> memory.Plan:
        asked.append(needs)
        return memory.plan_waves(members, needs, devices=devices, limit=limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "plan_waves", plan_waves)
        waves.in_a_wave(row, plan, Splits(train, VALID, VALID), 2, Context(Stacks(None), None, None), None, 2**34, str)
    return asked[0]


def test_own_rows_are_each_members_and_counted_once() -> None:
    """Beside shared rows, which are counted apart, the difference is a member's rows, those that are watched too."""
    plan = EXPERIMENTS["mnist"].row("deep").plans["smoke"]
    own = jax.tree.map(lambda leaf: jnp.stack([leaf] * memory.PROBED), TRAIN)
    shared, apart = (memory.needed((), rows, tuned=plan.fine_tuning, valid=VALID) for rows in (TRAIN, own))
    rows, watched = (sum(leaf.nbytes for leaf in jax.tree.leaves(part)) for part in (TRAIN, VALID))
    assert (shared.shared, apart.shared) == (rows + watched, watched)
    assert rows <= apart.each - shared.each < 1.6 * rows  # and some scratch
    assert apart.left == shared.left
    layers = [pt.Stage(pt.Autoencoder(4), pt.Sgd(0.1), 1, 20)] * 2
    shared, apart = (memory.needed(layers, rows) for rows in (TRAIN, own))
    assert apart.shared == 0
    assert shared.shared <= apart.each - shared.each < 1.6 * shared.shared


def test_seeds_with_data_of_their_own_come_in_order_and_finished_ones_load_nothing() -> None:
    parts = {name: Splits(*[Batch(TRAIN.x[n : n + 50])] * 3) for n, name in enumerate("abc")}
    loaded: list[str] = []

    def load(name: str) -> Splits:
        loaded.append(name)
        return parts[name]

    def found(done: set[int], own_rows: bool = True) -> list[tuple[str, list[int], tuple[int, ...]]]:
        by_data = {"a": [0, 3], "b": [1, 4], "c": [2]}
        context = Context(Stacks(None), None, None)
        made = waves.populations("row", Plan(()), by_data, done, load, context, 3, None, str, own_rows)
        return [("".join(of), seeds, data.train.x.shape) for of, seeds, data in made]

    n = TRAIN.x.shape[1]
    assert found(set()) == [("abc", [0, 1, 2], (3, 50, n)), ("ab", [3, 4], (2, 50, n))]
    assert found({0, 1}) == [("c", [2], (50, n)), ("ab", [3, 4], (2, 50, n))]
    assert found(set(), own_rows=False) == [("aa", [0, 3], (50, n)), ("bb", [1, 4], (50, n)), ("c", [2], (50, n))]
    loaded.clear()
    assert found({0, 1, 2, 3, 4}) == []
    assert loaded == []
    parts["c"] = Splits(*[Batch(TRAIN.x[:40])] * 3)
    assert [seeds for _, seeds, _ in found(set())] == [[0, 3], [1, 4], [2]]


def test_members_that_cannot_differ_share_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid over fine-tuning pretrains once, whatever the wave; a population of seeds or of rates does not."""
    trained: list[int] = []

    def pretrain(*arguments: object, seeds: list[int], **options: object) -> pt.Pretrained:
        trained.append(len(seeds))
        return pt.pretrain(*arguments, seeds=seeds, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(benchmarks.stacks, "pretrain", pretrain)
    stage, data = pt.Stage(pt.Autoencoder(4), pt.Sgd(0.1), 2, 20), Splits(TRAIN, VALID, VALID)
    alone, _ = Stacks(None).get(Plan((stage,)), data, [7], None)
    stacks = Stacks(None)
    alike, shared = stacks.get(Plan((stage,)), data, [7, 7, 7], None)
    assert not shared
    assert stacks.get(Plan((stage,)), data, [7, 7], None)[1]
    for one, three in zip(jax.tree.leaves(alone.layers), jax.tree.leaves(alike.layers), strict=True):
        np.testing.assert_array_equal(np.broadcast_to(one, three.shape), three)
    assert alike.progress[0].finite.shape == (3,)
    rates = stage.replace(optimizer=pt.Sgd(np.array([0.1, 0.2])))  # type: ignore[attr-defined]
    Stacks(None).get(Plan((rates,)), data, [7, 7], None)
    Stacks(None).get(Plan((stage,)), data, [7, 8], None)
    assert trained == [1, 1, 2, 2]


def test_a_row_is_put_on_the_lowest_layers_of_the_one_before_where_these_are_its_own() -> None:
    """The same numbers as alone; the time of what was there belongs to the row that trained it."""
    first, second, third = (pt.Stage(pt.Autoencoder(n), pt.Sgd(0.1), 2, 20) for n in (5, 4, 3))
    data, stacks = Splits(TRAIN, VALID, VALID), Stacks(None)
    assert [stacks.get(Plan((first, second)), data, [seed], None)[1] for seed in (7, 8)] == [0, 0]
    found = [stacks.get(Plan((first, third)), data, [seed], None) for seed in (7, 8, 9)]
    assert [shared for _, shared in found] == [1, 1, 0]
    alone, _ = Stacks(None).get(Plan((first, third)), data, [8], None)
    for one, other in zip(jax.tree.leaves(found[1][0][:2]), jax.tree.leaves(alone[:2]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(Trained(*found[0], None).seconds) == ["layer 2/2"]
    kept = found[0][0]
    assert list(Trained(kept.below(1), 1, None, beyond=kept.progress[1:]).seconds) == ["layers above"]
    assert not Trained(kept.below(1), 2, None, beyond=kept.progress[1:]).seconds
    shorter, shared = stacks.get(Plan((first,)), data, [7], None)
    assert (len(shorter.stages), shared) == (1, 1)
    moved = Plan((first, third), augment=Shifts((1, 8, 8), 1))
    assert stacks.get(moved, data, [7], None)[1] == 0


@pytest.mark.parametrize("row", ["autoencoder/deep-autoencoder-2d", "likelihood/dbn-up-down", "family/kernel-pca"])
def test_networks_that_are_no_classifiers_or_on_layers_that_stay_fixed_are_planned_too(row: str) -> None:
    name, row = row.split("/")
    plan = EXPERIMENTS[name].row(row).plans["smoke"]
    needs = planned(row, plan, TRAIN)
    first = plan.pretraining[0].learner
    weights = 4 * 64 * getattr(first, "n_hidden", getattr(first, "n_components", 0))
    assert needs.each > 3 * weights > 0  # and momentum, and a copy
    assert needs.shared > 0


def test_a_joint_machine_is_analysed() -> None:
    plan = EXPERIMENTS["norb"].row("dbm").plans["smoke"]
    assert plan.joint is not None
    crowd = plan.joint.stage.replace(learner=plan.joint.stage.learner.replace(n_chains=100_000))  # type: ignore[attr-defined]
    needs = planned("dbm", dataclasses.replace(plan, joint=plan.joint.replace(stage=crowd)), TRAIN)  # type: ignore[attr-defined]
    chains = 4 * 100_000 * (24 + 24)  # of the codes and of h2, from which h1 is drawn
    assert chains < needs.left < needs.each < 10 * chains


def test_rows_of_a_members_own_are_its_own_whatever_else_there_is() -> None:
    plan = EXPERIMENTS["labels"].row("deep-2009-50").plans["smoke"]
    few, many = TRAIN, jax.tree.map(lambda leaf: jnp.tile(leaf, (100, *(1,) * (leaf.ndim - 1))), TRAIN)
    one, other = (planned("deep-2009-50", plan, train) for train in (few, many))
    assert other.shared > 50 * one.shared
    assert other.each == pytest.approx(one.each, rel=0.01)
    assert one.each > 2 * 4 * 50 * 64


def test_rates_of_every_member_are_planned_as_one_is() -> None:
    stage = STAGES[1]
    three = stage.replace(optimizer=pt.Momentum(np.array([0.02, 0.05, 0.1])))  # type: ignore[attr-defined]
    assert memory.needed([three], TRAIN) == memory.needed([stage], TRAIN)


def test_waves_are_the_same_whatever_is_finished_and_use_all_devices() -> None:
    seeds = list(range(10))
    assert waves.waves(seeds, 10, 4, 1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [len(wave) for wave in waves.waves(list(range(13)), 13, 16, 8)] == [8, 5]
    assert [len(wave) for wave in waves.waves(list(range(5)), 5, 5, 4)] == [4, 1]
    assert waves.waves(seeds[:3], 4, 2, 1) == [[0, 1], [2]]  # a process with one seed fewer than others
    assert waves.waves(seeds[:2], 3, 2, 1) == [[0, 1], []]
