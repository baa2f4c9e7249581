"""What an experiment is: values only. A declaration says what is run, on what, and what was published."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from benchmarks.pictures import ImageShape
from pretrain import struct
from pretrain.data import Splits
from pretrain.rows import Augment
from pretrain.stage import Stage
from pretrain.types import Batch

if TYPE_CHECKING:
    from benchmarks.baselines import Baseline
    from benchmarks.summary import Summary
    from benchmarks.tasks import Task


@dataclasses.dataclass(frozen=True)
class Published:
    """The measure as published; None where the paper gives none.

    Attributes:
        train: on the training rows.
        valid: on the validation rows.
        test: on the test rows.
        source: of this row's figures, where it is not the experiment's; and how far the model there differs.
    """

    train: float | None = None
    valid: float | None = None
    test: float | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high`` to be tried, on a log scale unless ``linear``."""

    low: float
    high: float
    linear: bool = False

    def at(self, share: float) -> float:
        """The number at a share from 0 (low) to 1 (high) of the range."""
        if self.linear:
            return self.low + share * (self.high - self.low)
        return self.low * (self.high / self.low) ** share


@dataclasses.dataclass(frozen=True)
class Halving:
    """Successive halving: all combinations are tried with few epochs, the best share again with more, anew each time,
    the last of them with all (Jamieson & Talwalkar, *Non-stochastic best arm identification*, AISTATS 2016).

    Attributes:
        factor: of every so many one goes on, with so many times the epochs.
        rungs: how often.
    """

    factor: int = 3
    rungs: int = 2


class Pairs(Protocol):
    """How the rows of a batch get their partners: a frozen dataclass, so that a declaration can say it."""

    def __call__(self, batch: Batch, /) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class Keep:
    """What of the stack the network starts from (`pretrain.ablation`).

    Attributes:
        depth: so many of its lowest layers are the network's.
        trained: of these so many of the lowest keep what they learned, those above start at random; None: all.
        marginals: whether the weights of each layer are shuffled, and only their distribution is kept.
    """

    depth: int
    trained: int | None = None
    marginals: bool = False


@struct.dataclass
class Joint:
    """The stack as one deep Boltzmann machine, trained as such before it is fine-tuned.

    Attributes:
        stage: a `pretrain.generative.DBM` and its recipe; of no epochs, the machine stays as the stack gives it.
        front: so many of the lowest layers are not part of it: their codes are what it models.
        steps: mean-field sweeps in the network that is fine-tuned.
        gibbs_steps: before a sample is shown.
    """

    stage: Stage
    front: int = struct.field(pytree_node=False, default=0)
    steps: int = struct.field(pytree_node=False, default=5)
    gibbs_steps: int = struct.field(pytree_node=False, default=1_000)


@struct.dataclass
class Plan:
    """How one row is trained at one scale: a pytree, whose leaves are the numbers of its stages.

    Attributes:
        pretraining: the stages, from the bottom up; () trains from a random initialisation.
        fine_tuning: the last stage; None where the pretrained stack is the model.
        pairs: gives the rows partners, for learners that need them.
        augment: changes the rows of every minibatch while the stack is pretrained.
        augment_tuning: likewise while the network is fine-tuned.
        keep: what of the stack goes on to the network; None: all of it. Rows that keep more or less of one stack share
            it, for a stage does not depend on those above.
        joint: trains the stack as one deep Boltzmann machine in between.
        held: so many of the lowest layers stay as they are while all above is fine-tuned: their codes, and the mean
            field on them, are then computed once.
        output: trains the output layer alone before fine-tuning.
        baseline: a classifier that is no network (`benchmarks.baselines`), on the codes of the stack, if there is one;
            in place of fine-tuning.
        labels: fine-tuning sees so many labelled training rows, drawn by class with the member's seed; None: all.
        score: what the experiment's task needs besides (the annealing of a likelihood).
        grid: dotted path of a value in this plan (``*`` for every pretraining stage) to those tried for it, or a
            `Range`; the best on validation is chosen (`benchmarks.selection`). Sizes and choices may be tried too.
        samples: so many points of the grid are tried, spread over it evenly by a scrambled Sobol sequence; 0: all
            combinations.
        halving: tries most of them with few epochs only.
        data: the names of the experiment's data that it is trained and tested on, as a `Scale`'s; None: the scale's.
    """

    pretraining: tuple[Stage, ...]
    fine_tuning: Stage | None = None
    pairs: Pairs | None = struct.field(pytree_node=False, default=None)
    augment: Augment | None = struct.field(pytree_node=False, default=None)
    augment_tuning: Augment | None = struct.field(pytree_node=False, default=None)
    keep: Keep | None = struct.field(pytree_node=False, default=None)
    joint: Joint | None = None
    held: int = struct.field(pytree_node=False, default=0)
    output: Stage | None = None
    baseline: Baseline | None = struct.field(pytree_node=False, default=None)
    labels: int | None = struct.field(pytree_node=False, default=None)
    score: Any = struct.field(pytree_node=False, default=None)
    grid: Mapping[str, Sequence[Any] | Range] = struct.field(pytree_node=False, default_factory=dict)
    samples: int = struct.field(pytree_node=False, default=0)
    halving: Halving | None = struct.field(pytree_node=False, default=None)
    data: str | tuple[str, ...] | None = struct.field(pytree_node=False, default=None)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: what it is called on the command line.
        title: in the table.
        published: what was published.
        plans: by scale; a scale without it leaves the row out.
        series: rows of one series are also drawn as a curve over their levels; "" is none.
        level: where on it.
        drawn: whether its filters, samples and confusion matrix are drawn; not of a row that shows what another does.
    """

    name: str
    title: str
    published: Published
    plans: Mapping[str, Plan]
    series: str = ""
    level: float = 0.0
    drawn: bool = True


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a run is.

    Attributes:
        data: the name of the experiment's data; of several names, one for each seed in turn.
        seeds: how many by default.
        note: what a reader should know about it.
        comparable: whether published figures are of the same test rows.
        units: where seeds are tested on data of their own, of which units (objects) each one's are: seeds that share
            some are not independent of each other.
        views: of what few things the test rows are views, if they are not independent of each other: the binomial
            interval of one network's error would then be far too narrow.
        chosen_on: so many of the first seeds' data were looked at when settings were chosen.
    """

    data: str | tuple[str, ...]
    seeds: int
    note: str
    comparable: bool = True
    units: tuple[tuple[int, ...], ...] = ()
    views: str = ""
    chosen_on: int = 0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        name: its command.
        title: of the table.
        source: where it was published.
        metric: what the numbers are.
        task: how a row is trained and measured.
        scales: by name.
        rows: in the table's order.
        data: loaders by name; each takes ``data_dir`` and ``say``.
        image_shape: of an input, or what makes an image of it, by data name, for pictures of filters.
        level: what the rows' levels are, where they have any.
        classes: names of the classes, for a confusion matrix; () are their numbers.
        panels: rows that are compared, by what is asked of them; they are drawn side by side.
        weights: rows whose weights are compared.
        findings: what the results say of the paper's claims, as lines of Markdown, from the table's summaries.
        notes: lines printed under the table.
        question: what the experiment asks, in a sentence or two.
    """

    name: str
    title: str
    source: str
    metric: str
    task: Task
    scales: Mapping[str, Scale]
    rows: tuple[Row, ...]
    data: Mapping[str, Callable[..., Splits]]
    image_shape: Mapping[str, ImageShape]
    level: str = ""
    classes: tuple[str, ...] = ()
    panels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    weights: tuple[str, ...] = ()
    findings: Callable[[Sequence[Summary]], list[str]] | None = None
    notes: tuple[str, ...] = ()
    question: str = ""

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            UnknownName: with the nearest one there is.
        """
        return {row.name: row for row in self.rows}[known(name, [row.name for row in self.rows], "row")]

    def by_data(self, scale: str, plan: Plan, seeds: Sequence[int]) -> dict[str, list[int]]:
        """The seeds of a plan by the name of the data that they are trained and tested on."""
        names = plan.data or self.scales[scale].data
        names, found = (names,) if isinstance(names, str) else names, {}
        for seed in seeds:
            found.setdefault(names[seed % len(names)], []).append(seed)
        return found


class UsageError(ValueError):
    """What a user asked for cannot be done; the message says why and what can."""


class UnknownName(UsageError):
    """A name that is not known, with the nearest that is."""


def known(name: str, names: Sequence[str], what: str) -> str:
    """``name`` if it is one of ``names``.

    Raises:
        UnknownName: with the nearest one, and all of them.
    """
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    raise UnknownName(f"unknown {what} {name!r}: did you mean {nearest[0]!r}? There are {', '.join(names)}.")


def declared(value: Any) -> Any:
    """A plan, stage, learner or recipe as JSON values: class names and fields, nothing left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: declared(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": type(value).__name__} | fields
    if isinstance(value, Mapping):
        return {str(key): declared(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [declared(item) for item in value]
    if isinstance(value, np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    return value


def declaration_hash(experiment: Experiment, row: Row, scale: str, plan: Plan, precision: str = "float32") -> str:
    """Names what was run: twelve hexadecimal digits over the name of the scale's data, the row and its plan, of which
    parts that are not used are left out, so that a new kind of part renames nothing. Where seeds have data of their
    own, a result's line says which, and one more renames nothing either.
    """
    data = experiment.scales[scale].data
    own = plan.replace(data=None) if isinstance(plan.data, tuple) else plan  # type: ignore[attr-defined]
    used = {name: part for name, part in declared(own).items() if part not in (None, 0, {})}
    what = [experiment.name, row.name, scale, data if isinstance(data, str) else None, used]
    return digest(*what, *([] if precision == "float32" else [precision]))


def digest(*what: object) -> str:
    """Names values by what they are declared as: twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(declared(list(what)), sort_keys=True).encode()).hexdigest()[:12]


def replaced(plan: Plan, path: str, value: Any) -> Plan:
    """The plan with the number at a dotted path replaced; ``pretraining.*.…`` replaces it in every pretraining stage.

    Raises:
        UnknownName: if there is no such number.
    """
    return _replaced(plan, path.split("."), value)


def _replaced(node: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    head, *rest = path
    if isinstance(node, tuple):
        chosen = range(len(node)) if head == "*" else [int(head)]
        return tuple(_replaced(item, rest, value) if i in chosen else item for i, item in enumerate(node))
    known(head, [field.name for field in dataclasses.fields(node)], "number")
    return dataclasses.replace(node, **{head: _replaced(getattr(node, head), rest, value)})
