"""The training loop: the only one.

A run is a scan over minibatches inside a scan over epochs inside one compiled *chunk*; the host loops over chunks,
fetches what was measured, reports, checkpoints and goes on. Members are vmapped outermost. Everything a run is lives in
`Fit`: save it, restore it, and the run continues bit for bit, because every random number is derived from
(member, stage, step, purpose) and never from the position of a chunk.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pretrain import early_stopping, population
from pretrain.checks import check_batch, check_recipe, check_run
from pretrain.diagnostics import diagnose
from pretrain.early_stopping import Best
from pretrain.layers import through
from pretrain.optim import Recipe
from pretrain.progress import AUGMENT, INIT, MONITOR, ORDER, PAIR, STEP, Fit, Progress
from pretrain.rows import Augment, chosen, drawn, paired
from pretrain.types import Batch, Layer, Learner, WeighsLabels, labelled_share

INIT_ROWS = 10_000
"""At most so many training rows are shown to ``learner.init`` (evenly spaced ones)."""

PROBE_ROWS = 100
"""A probe is taken on at most so many training rows, evenly spaced; or as many as a minibatch has, if that is more."""


def start(
    learner: Learner,
    optimizer: Recipe,
    train: Batch,
    key: Array,
    lower: Sequence[Layer] = (),
    params: Any = None,
    *,
    batch_size: int,
) -> Fit:
    """One member's run before its first update; ``params`` replaces the learner's initial ones (fine-tuning)."""
    n_rows = train.x.shape[0]
    sample = through(lower, paired(train, INIT_ROWS))
    initial, state = learner.init(jax.random.fold_in(key, INIT), sample)
    if isinstance(learner, WeighsLabels) and train.y is not None:
        state = learner.with_share(state, labelled_share(train.y))
    params = initial if params is None else params
    opt_state = optimizer.build(n_rows // batch_size).init(params)
    return Fit(params, state, opt_state, key, jnp.zeros((), jnp.int32))


def epoch(
    learner: Learner,
    optimizer: Recipe,
    fit: Fit,
    train: Batch,
    *,
    batch_size: int,
    lower: Sequence[Layer] = (),
    augment: Augment | None = None,
    mesh: Mesh | None = None,
) -> tuple[Fit, dict[str, Array]]:
    """One member's pass over the training rows in a fresh random order; metrics are means over its minibatches.

    Rows left over by ``batch_size`` are left out of this epoch; the next order draws others.
    """
    n_rows = train.x.shape[0]
    steps = n_rows // batch_size
    transform = optimizer.build(steps)
    order_key = jax.random.fold_in(jax.random.fold_in(fit.key, ORDER), fit.step // steps)
    order = jax.random.permutation(order_key, n_rows)[: steps * batch_size].reshape(steps, batch_size)
    step_key, pair_key, augment_key = (jax.random.fold_in(fit.key, purpose) for purpose in (STEP, PAIR, AUGMENT))

    def update(fit: Fit, rows: Array) -> tuple[Fit, dict[str, Array]]:
        batch = drawn(train, chosen(train, rows), jax.random.fold_in(pair_key, fit.step))
        if augment is not None:
            batch = batch._replace(x=augment(batch.x, jax.random.fold_in(augment_key, fit.step)))
        batch = through(lower, population.divided(batch, mesh))
        key = jax.random.fold_in(step_key, fit.step)
        grads, state, metrics = learner.gradient(fit.params, fit.state, batch, key)
        updates, opt_state = transform.update(grads, fit.opt_state, fit.params)
        return Fit(optax.apply_updates(fit.params, updates), state, opt_state, fit.key, fit.step + 1), metrics

    fit, metrics = jax.lax.scan(update, fit, order)
    return fit, jax.tree.map(jnp.mean, metrics)


class _Job(NamedTuple):
    """What a chunk is given besides the state that it moves on: every leaf of the first three has a member axis."""

    learner: Learner
    optimizer: Recipe
    lower: tuple[Layer, ...]
    augment: Augment | None
    train: Batch
    monitors: dict[str, Batch]
    done: Array
    epochs: Array
    patience: Array


@functools.partial(jax.jit, static_argnames=("batch_size", "chunk", "probe", "mesh"), donate_argnames=("fits", "best"))
def _chunk(
    fits: Fit, best: Best | None, job: _Job, *, batch_size: int, chunk: int, probe: bool, mesh: Mesh | None = None
) -> tuple[Fit, Best | None, Array, dict[str, Array]]:
    """``chunk`` epochs of the whole population, and how many are then done, ``[devices along the member axis]``.

    Epochs past the last, or after every member (of a device) has stopped, are passed over: one compile serves all
    chunks.
    """
    program = functools.partial(_epochs, batch_size=batch_size, chunk=chunk, probe=probe, mesh=mesh)
    if mesh is None:
        return program(fits, best, job)
    shared, own = P(), P(population.MEMBER)
    seen = {name: population.specs(batch) for name, batch in job.monitors.items()}
    parts = _Job(own, own, own, shared, population.specs(job.train), seen, shared, shared, shared)  # type: ignore[arg-type]
    results = (own, own, own, P(None, population.MEMBER))
    return jax.shard_map(
        program,
        mesh=mesh,
        in_specs=(own, own, parts),
        out_specs=results,
        axis_names={population.MEMBER},
        check_vma=False,
    )(fits, best, job)


def _epochs(
    fits: Fit, best: Best | None, job: _Job, *, batch_size: int, chunk: int, probe: bool, mesh: Mesh | None
) -> tuple[Fit, Best | None, Array, dict[str, Array]]:
    """What `_chunk` does, for the members of one device."""
    learner, optimizer, lower, augment, train, monitors, done, epochs, patience = job

    def one(learner: Learner, optimizer: Recipe, lower: Any, fit: Fit, train: Batch, monitors: dict[str, Batch]):
        options: dict[str, Any] = {"batch_size": batch_size, "lower": lower, "augment": augment, "mesh": mesh}
        fit, metrics = epoch(learner, optimizer, fit, train, **options)
        key = jax.random.fold_in(jax.random.fold_in(fit.key, MONITOR), fit.step)
        seen = {}
        for name, batch in monitors.items():
            measures = learner.evaluate(fit.params, through(lower, batch), key)
            seen |= {f"{name}/{measure}": value for measure, value in measures.items()}
            if name == "valid":
                if not measures:
                    raise ValueError(f"{type(learner).__name__}.evaluate must return at least one measure; got none")
                seen["score"] = next(iter(measures.values()))
        if probe:
            batch = through(lower, paired(train, max(batch_size, PROBE_ROWS)))
            seen |= diagnose(learner, optimizer.build(train.x.shape[0] // batch_size), fit, batch, key)
        return fit, metrics | seen

    axes = (0, 0, 0, 0, population.axes(train), {name: population.axes(batch) for name, batch in monitors.items()})
    population_epoch = jax.jit(population.over_members(one, axes, fits.step.shape[0]))  # traced once, for both branches

    def advance(carry: Any) -> Any:
        fits, best, index = carry
        fits, seen = population_epoch(learner, optimizer, lower, fits, train, monitors)
        score = seen.pop("score", None)
        if best is not None:
            best = jax.vmap(early_stopping.update, in_axes=(0, 0, 0, None, None))(
                best, fits.params, score, index + 1, patience
            )
        return (fits, best, index + 1), seen

    def skip(carry: Any) -> Any:
        seen = jax.eval_shape(lambda c: advance(c)[1], carry)
        return carry, jax.tree.map(lambda s: jnp.full(s.shape, -jnp.inf, s.dtype), seen)

    def body(carry: Any, _: None) -> Any:
        _, best, index = carry
        running = index < epochs
        if best is not None:
            running &= early_stopping.running(best, patience).any()
        return jax.lax.cond(running, advance, skip, carry)

    (fits, best, done), seen = jax.lax.scan(body, (fits, best, done), length=chunk)
    return fits, best, done[None], seen


def run(
    learner: Learner,
    optimizer: Recipe,
    train: Batch,
    *,
    epochs: int,
    batch_size: int,
    seeds: Sequence[int] = (0,),
    keys: Array | None = None,
    lower: Sequence[Layer] = (),
    augment: Augment | None = None,
    params: Any = None,
    monitors: Mapping[str, Batch] | None = None,
    patience: int | None = None,
    chunk: int = 1,
    probe: bool = False,
    mesh: Mesh | None = None,
    resume: Progress | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
) -> Progress:
    """Trains a population of one learner and returns it with its history.

    Args:
        learner: the objective. Any numeric leaf may hold one value a member.
        optimizer: the recipe; likewise.
        train: ``x`` of ``[rows, features]`` is shared by all members, of ``[members, rows, features]`` it is their own.
        epochs: how many at most.
        batch_size: rows an update.
        seeds: one a member.
        keys: ``[members]`` random keys, in place of ``seeds``.
        lower: trained layers (with a member axis) through which every minibatch is passed first.
        augment: if given, changes the rows of every minibatch before that, on the device; nothing of it is stored.
            Monitors are not changed.
        params: initial parameters with a member axis, in place of ``learner.init``'s.
        monitors: batches on which ``learner.evaluate`` is called after every epoch, by name.
        patience: None keeps the last parameters. A number keeps, a member at a time, those with the lowest first
            measure on the monitor ``valid``, and stops a member once more than so many epochs brought no better one.
        chunk: epochs a compiled call; it changes no bit of the result.
        probe: whether the history also tells, after every epoch, how large an update is beside the weights and how
            many units are dead or saturated (`pretrain.diagnostics`), on `PROBE_ROWS` training rows.
        mesh: over which devices the members, and the rows of every minibatch, are divided (`pretrain.population.mesh`);
            None: all on one. The result is the same, to the rounding of sums over rows.
        resume: a `Progress` of the same run to go on from: of the same members, learner, recipe and monitors. Its
            arrays are consumed.
        on_chunk: called after every chunk, before the next consumes the arrays it is shown.

    Raises:
        ValueError: if the data does not suit the learner, or ``resume`` is another run's; the message gives the value
            and the fix.
    """
    check_recipe(optimizer)
    monitors = dict(monitors or {})
    keys = population.member_keys(seeds) if keys is None else keys
    members = keys.shape[0]
    learner, optimizer = population.broadcast(learner, members), population.broadcast(optimizer, members)
    for name, batch in {"train": train, **monitors}.items():
        check_batch(batch, name, members)
    lower, train = tuple(lower), jax.tree.map(jnp.asarray, train)
    monitors = {name: jax.tree.map(jnp.asarray, batch) for name, batch in monitors.items()}
    check_run(
        learner, train, monitors, epochs=epochs, batch_size=batch_size, chunk=chunk, patience=patience, own=not lower
    )
    if augment is not None and train.pair is not None:
        raise ValueError("rows that are augmented have no partners yet; got both augment and train.pair: give one")
    monitors = {name: paired(batch) for name, batch in monitors.items()}

    if mesh is not None:
        population.check_mesh(mesh, members, batch_size)
        keys = jnp.asarray(population.spread(keys, mesh))  # so that each device begins its own members
    options: dict[str, Any] = {"batch_size": batch_size, "keys": keys, "lower": lower, "patience": patience}
    if resume is not None:
        _check_resumed(resume, functools.partial(begin, learner, optimizer, train, params=params, **options))
        _check_measured(resume, {*monitors}, probe)
    began = time.perf_counter() - (0.0 if resume is None else resume.seconds)
    progress = resume or begin(learner, optimizer, train, params=params, **options)
    if mesh is not None:
        learner, optimizer, lower, fits, best = population.spread(
            (learner, optimizer, lower, progress.fits, progress.best), mesh
        )
        progress = progress._replace(fits=fits, best=best)
        train, monitors = population.placed(train, mesh), {n: population.placed(b, mesh) for n, b in monitors.items()}
    limit = jnp.asarray(np.iinfo(np.int32).max if patience is None else patience, jnp.int32)
    while progress.epoch < epochs and (
        progress.best is None or bool(early_stopping.running(progress.best, limit).any())
    ):
        count = jnp.asarray(progress.epoch, jnp.int32), jnp.asarray(epochs, jnp.int32)
        fits, best, reached, seen = _chunk(
            progress.fits,
            progress.best,
            _Job(learner, optimizer, tuple(lower), augment, train, monitors, *count, limit),
            batch_size=batch_size,
            chunk=chunk,
            probe=probe,
            mesh=mesh,
        )
        done = int(reached.max())
        new = {name: np.array(values)[: done - progress.epoch] for name, values in seen.items()}
        old = progress.history or {name: values[:0] for name, values in new.items()}
        for name, values in new.items() if mesh is not None else ():
            for before, after in itertools.pairwise([*old[name][-1:], *values]):
                after[np.isneginf(after)] = before[np.isneginf(after)]  # of a device whose members had all stopped
        history = {name: np.concatenate([old[name], values]) for name, values in new.items()}
        progress = Progress(done, fits, best, history, time.perf_counter() - began)
        if on_chunk is not None:
            on_chunk(progress)
    return progress


def _check_resumed(resume: Progress, begin: Callable[[], Progress]) -> None:
    """Raises ValueError where a progress is not of the shapes that the run would begin with."""

    def shapes(progress: Progress) -> Any:
        return {
            jax.tree_util.keystr(path): (leaf.shape, str(leaf.dtype))
            for path, leaf in jax.tree_util.tree_flatten_with_path((progress.fits, progress.best))[0]
        }

    expected, found = shapes(jax.eval_shape(begin)), shapes(resume)
    for name in dict.fromkeys([*expected, *found]):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"resume is of another run: {name} is {found.get(name, 'missing')}, here it is "
                f"{expected.get(name, 'missing')}: give the same learner, recipe, seeds and patience, or leave it out"
            )


def _check_measured(resume: Progress, monitors: set[str], probe: bool) -> None:
    """Raises ValueError where a history has not been measured by what the run is measured by, as far as it tells: a
    learner's ``evaluate`` may measure nothing, and a probe has no ratio of updates where there are no matrices.
    """
    found = {name.split("/")[0] for name in resume.history if "/" in name}
    probed = "update_ratio" in resume.history
    told = any(np.ndim(leaf) > 2 for leaf in jax.tree.leaves(resume.fits.params))  # the first axis is that of members
    if (found and found != monitors) or (resume.history and told and probed != probe):
        raise ValueError(
            f"the run that is resumed was measured on {sorted(found)}, this one is on {sorted(monitors)}, or but one "
            "of them with a probe: give the same monitors and probe"
        )


def begin(
    learner: Learner,
    optimizer: Recipe,
    train: Batch,
    *,
    batch_size: int,
    keys: Array,
    lower: Sequence[Layer] = (),
    params: Any = None,
    patience: int | None = None,
) -> Progress:
    """The population before its first update; the arguments are those of `run`."""
    members = keys.shape[0]
    learner, optimizer = population.broadcast(learner, members), population.broadcast(optimizer, members)
    fits = _begin(learner, optimizer, train, keys, tuple(lower), params, batch_size=batch_size)
    best = None if patience is None else early_stopping.first(fits.params, members)
    return Progress(0, fits, best, {}, 0.0)


@functools.partial(jax.jit, static_argnames=("batch_size",))
def _begin(learner: Any, optimizer: Any, train: Batch, keys: Array, lower: Any, params: Any, *, batch_size: int) -> Fit:
    one = functools.partial(start, batch_size=batch_size)
    axes = (0, 0, population.axes(train), 0, 0, 0)
    return jax.vmap(one, in_axes=axes)(learner, optimizer, train, keys, lower, params)


def lowered(
    stage: Any,
    train: Batch,
    *,
    members: int,
    monitors: Mapping[str, Batch],
    params: Any = None,
    chunk: int = 1,
    mesh: Mesh | None = None,
) -> jax.stages.Lowered:
    """The program of a chunk of a `Stage` as `run` would compile it, from shapes alone.

    Args:
        stage: what is trained, and how.
        train: the training rows, or their shapes.
        members: of the population.
        monitors: as in `run`.
        params: the shapes of initial parameters with a member axis, in place of ``learner.init``'s.
        chunk: epochs a call.
        mesh: as in `run`.
    """
    learner, optimizer = (population.broadcast(part, members) for part in (stage.learner, stage.optimizer))
    monitors = {name: jax.eval_shape(paired, batch) for name, batch in monitors.items()}

    def before(train: Batch, params: Any) -> tuple[Fit, Best | None]:
        keys = population.member_keys(range(members))
        progress = begin(
            learner, optimizer, train, batch_size=stage.batch_size, keys=keys, params=params, patience=stage.patience
        )
        return progress.fits, progress.best

    fits, best = jax.eval_shape(before, train, params)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    job = _Job(learner, optimizer, (), None, train, monitors, count, count, count)  # type: ignore[arg-type]
    return _chunk.lower(fits, best, job, batch_size=stage.batch_size, chunk=chunk, probe=True, mesh=mesh)
