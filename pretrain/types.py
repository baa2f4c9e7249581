"""The nouns of the package: a batch of examples, a layer, and the two protocols that every model satisfies.

A *learner* is a frozen pytree that knows how to initialise its parameters, how to turn a minibatch into a gradient, how
to measure itself, and which layer it passes up. Whatever satisfies it can be pretrained, stacked and fine-tuned by the
one loop of `pretrain.fit`. A *solver* reaches its parameters in closed form instead.

Shapes below are those of one member; the loop adds the member axis by `jax.vmap`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

Metrics = dict[str, Array]
"""Named scalars. The first is the learner's own measure of progress."""

Inputs = Literal["real", "unit", "standardised"]
"""What a learner takes: any numbers, numbers in [0, 1], or features of mean 0 and, on average, variance 1."""

Needs = Literal["labels", "some labels", "pairs"]
"""What a learner reads besides ``x``: a label a row, labels of which some are `UNLABELLED`, or a partner a row."""

UNLABELLED = -1
"""The label of a row that has none, for learners that need only "some labels"."""


class Batch(NamedTuple):
    """Examples, along the leading axis; a field is None where it is absent.

    Attributes:
        x: ``[batch, features]`` inputs, float32.
        y: ``[batch]`` integer labels, or None.
        pair: a partner of each example (a neighbour, the next frame), or None. Either ``[batch, features]`` float32,
            or, in the rows given to a run, ``[batch, candidates]`` integers: row numbers of the same ``x``, of which
            one is drawn whenever the row comes up. A learner always sees features.
    """

    x: Array
    y: Array | None = None
    pair: Array | None = None


@runtime_checkable
class Layer(Protocol):
    """A callable pytree that maps ``[..., n_in]`` to ``[..., n_out]``."""

    def __call__(self, x: Array, /) -> Array: ...


class Learner(Protocol):
    """An objective that plugs into the loop: a `pretrain.struct.dataclass` whose numbers are leaves and whose sizes are
    static.

    Attributes:
        inputs: which values of ``x`` it takes.
        needs: what it reads besides ``x``; one that needs labels has a field ``n_classes``.
    """

    @property
    def inputs(self) -> Inputs: ...

    @property
    def needs(self) -> tuple[Needs, ...]: ...

    def init(self, key: Array, data: Batch, /) -> tuple[Any, Any]:
        """Returns (params, state) from the training data; state is what is carried on but not learned, or ()."""
        ...

    def gradient(self, params: Any, state: Any, batch: Batch, key: Array, /) -> tuple[Any, Any, Metrics]:
        """Returns (a descent direction shaped like params, the next state, the metrics of this minibatch)."""
        ...

    def evaluate(self, params: Any, batch: Batch, key: Array, /) -> Metrics:
        """Returns the mean measures over a batch. Early stopping goes by the first (lower is better), reports and
        warnings by the first that `pretrain.report.JUDGED` names.
        """
        ...

    def layer(self, params: Any, /) -> Layer:
        """Returns the trained layer that is passed up."""
        ...


@runtime_checkable
class WeighsLabels(Protocol):
    """A learner whose minibatches stand for the mean over all labelled rows: it must know how many of all there are."""

    def with_share(self, state: Any, share: Array, /) -> Any:
        """Returns the state with the share of all training rows that have a label."""
        ...


def labelled_share(labels: Array) -> Array:
    """The share of ``labels`` ``[rows]`` that are not `UNLABELLED`; where none is, one row's: it is divided by."""
    return jnp.maximum((labels >= 0).sum(), 1) / labels.shape[-1]


@runtime_checkable
class Solver(Protocol):
    """A model with a closed form (kernel PCA, principal components, standardisation): a stage without a loop.

    Attributes:
        inputs: which values of ``x`` it takes.
        needs: what it reads besides ``x``; one that needs labels has a field ``n_classes``.
    """

    @property
    def inputs(self) -> Inputs: ...

    @property
    def needs(self) -> tuple[Needs, ...]: ...

    def solve(self, key: Array, data: Batch, /) -> Any:
        """Returns the parameters, from all training rows."""
        ...

    def layer(self, params: Any, /) -> Layer:
        """Returns the layer that is passed up."""
        ...
