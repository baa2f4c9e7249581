"""Partially supervised pretraining: any learner, whose layer must also tell the classes of the rows that have labels.

::

    objective   L(x) + weight * mean over labelled rows of -log softmax(layer(x) V + c)[y]

L is the wrapped learner's own objective, V and c an output layer that is thrown away. It is for inputs whose
distribution says little of the classes. With f the share of all training rows that have a label, a minibatch of B rows
stands for the mean over labelled rows by::

    1/(B f) sum over its labelled rows of -log softmax(layer(x) V + c)[y]

whose expectation that mean is, however few labels there are; with few its steps are rare and large.

Reference: Bengio, Lamblin, Popovici & Larochelle, *Greedy layer-wise training of deep networks*, NIPS 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import Dense
from pretrain.types import Batch, Inputs, Layer, Learner, Metrics, Needs, WeighsLabels, labelled_share


class PartiallySupervisedParams(NamedTuple):
    """Attributes: ``inner``, the wrapped learner's parameters, and ``output`` [hidden, classes], a linear layer."""

    inner: Any
    output: Dense


class PartiallySupervisedState(NamedTuple):
    """Attributes: ``inner``, the wrapped learner's state, and ``share`` [], the share of rows that have a label."""

    inner: Any
    share: Array


@struct.dataclass
class PartiallySupervised:
    """A learner with a supervised term.

    Attributes:
        learner: what is trained with it; its layer and its decoder are passed on.
        n_classes: labels are ``0 .. n_classes - 1``, and `pretrain.types.UNLABELLED` where there is none.
        weight: factor on the cross-entropy; 0 leaves the learner's own gradient.
    """

    learner: Learner
    n_classes: int = struct.field(pytree_node=False)
    weight: float | Array = 1.0

    def __post_init__(self) -> None:
        check_sizes(n_classes=self.n_classes)

    @property
    def inputs(self) -> Inputs:
        return self.learner.inputs

    @property
    def needs(self) -> tuple[Needs, ...]:
        needs = self.learner.needs
        return needs if "labels" in needs else (*needs, "some labels")

    def init(self, key: Array, data: Batch) -> tuple[PartiallySupervisedParams, PartiallySupervisedState]:
        """The learner's own start, from the same key; the output starts at zero: every class equally likely. The share
        of labelled rows is that of ``data``, until `with_share` tells that of all rows.
        """
        inner, state = self.learner.init(key, data)
        units = jax.eval_shape(lambda inner, x: self.learner.layer(inner)(x), inner, data.x).shape[-1]
        output = Dense(jnp.zeros((units, self.n_classes)), jnp.zeros((self.n_classes,)), "linear")
        assert data.y is not None
        return PartiallySupervisedParams(inner, output), PartiallySupervisedState(state, labelled_share(data.y))

    def with_share(self, state: PartiallySupervisedState, share: Array) -> PartiallySupervisedState:
        """The state with the share of all training rows that have a label."""
        inner = self.learner.with_share(state.inner, share) if isinstance(self.learner, WeighsLabels) else state.inner
        return PartiallySupervisedState(inner, share)

    def _logits(self, params: PartiallySupervisedParams, x: Array) -> Array:
        return params.output(self.learner.layer(params.inner)(x))

    def gradient(
        self, params: PartiallySupervisedParams, state: PartiallySupervisedState, batch: Batch, key: Array
    ) -> tuple[PartiallySupervisedParams, PartiallySupervisedState, Metrics]:
        """The learner's own gradient plus ``weight`` times that of the cross-entropy.

        Reports the learner's metrics and this minibatch's part of the labelled rows' mean ``cross_entropy`` in nats,
        whose expectation is that mean; a minibatch without labels adds exactly zero to both.
        """
        inner, inner_state, metrics = self.learner.gradient(params.inner, state.inner, batch, key)
        cross_entropy, supervised = jax.value_and_grad(
            lambda params: labelled_part(labelled_losses(self._logits(params, batch.x), batch.y), batch.y, state.share)
        )(params)
        own = PartiallySupervisedParams(inner, jax.tree.map(jnp.zeros_like, params.output))
        grads = jax.tree.map(lambda own, other: own + self.weight * other, own, supervised)
        return grads, state._replace(inner=inner_state), metrics | {"cross_entropy": cross_entropy}

    def evaluate(self, params: PartiallySupervisedParams, batch: Batch, key: Array) -> Metrics:
        """The learner's own measures, and ``error``: misclassified rows in percent of those that have a label; NaN
        where none has.
        """
        measures = self.learner.evaluate(params.inner, batch, key)
        assert batch.y is not None
        wrong = self._logits(params, batch.x).argmax(axis=-1) != batch.y
        return measures | {"error": jnp.where((batch.y >= 0).any(), 100.0 * labelled_mean(wrong, batch.y), jnp.nan)}

    def layer(self, params: PartiallySupervisedParams) -> Layer:
        """The learner's own."""
        return self.learner.layer(params.inner)

    @property
    def decoder(self) -> Callable[[PartiallySupervisedParams], Dense]:
        """The learner's own, if it has one: a missing attribute where that is missing."""
        decode = self.learner.decoder  # type: ignore[attr-defined]
        return lambda params: decode(params.inner)


def labelled_losses(logits: Array, labels: Array | None) -> Array:
    """Cross-entropies ``[batch]`` in nats; of rows without a label, that of the first class."""
    assert labels is not None
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))


def labelled_mean(values: Array, labels: Array | None) -> Array:
    """The mean of ``values`` ``[batch]`` over the rows that have a label; 0 where none has."""
    assert labels is not None
    labelled = labels >= 0
    return jnp.where(labelled, values, 0.0).sum() / jnp.maximum(labelled.sum(), 1)


def labelled_part(values: Array, labels: Array | None, share: Array) -> Array:
    """What a minibatch's ``values`` ``[batch]`` say of their mean over all labelled rows, whose share is ``share``: its
    expectation over minibatches is that mean. 0 where no row has a label; where all have, the mean of ``values``.
    """
    assert labels is not None
    return jnp.where(labels >= 0, values, 0.0).sum() / (len(labels) * share)
