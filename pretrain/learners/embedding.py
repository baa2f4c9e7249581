"""Unsupervised embedding: partners lie close together, other rows at least a margin apart.

With f_i the embedding of row i, p its partner (a neighbour, the next frame) and j another row of the minibatch::

    distance="squared"   L = |f_i - f_p|^2   + max(0, m - |f_i - f_j|)^2
    distance="l1"        L = |f_i - f_p|_1   + max(0, m - |f_i - f_j|_1)

averaged over rows i. The first term alone is least where all rows coincide; the second forbids that. Where f is::

    at="internal"    f = h = sigmoid(x W + b), the code of the layer itself
    at="auxiliary"   f = h A, a linear map that is thrown away once the layer is trained
    at="output"      f = softmax(h V + c), a classifier trained at the same time with what labels there are:
                     + supervised_weight * mean over labelled rows of -log f_i[y_i]

That mean is over the labelled rows of all training rows: a minibatch's gradient has its expectation, however few labels
there are (`pretrain.learners.partially_supervised`).

The other row is the one just under half a minibatch further on: minibatches are shuffled, so it is a random one, and in
batches that are in order (a film under measurement) it is far away. That it happens to be a neighbour is unlikely.

References: Weston, Ratle & Collobert, *Deep learning via semi-supervised embedding*, ICML 2008 (squared, neighbours);
Mobahi, Collobert & Weston, *Deep learning from temporal coherence in video*, ICML 2009 (l1, consecutive frames).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import ACTIVATIONS, Dense, uniform
from pretrain.learners.partially_supervised import labelled_losses, labelled_mean, labelled_part
from pretrain.types import Batch, Inputs, Metrics, Needs, labelled_share

At = Literal["internal", "auxiliary", "output"]
Distance = Literal["squared", "l1"]


class EmbeddingParams(NamedTuple):
    """Attributes: ``weights`` [features, hidden], ``bias`` [hidden], and ``top``, the linear map on the code, or None
    at ``internal``.
    """

    weights: Array
    bias: Array
    top: Dense | None


def euclidean(difference: Array) -> Array:
    """The length of each row of ``[..., n]``, with gradient 0 where it is 0."""
    square = jnp.square(difference).sum(axis=-1)
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)


def attraction(f: Array, partner: Array, distance: Distance) -> Array:
    """The loss of each pair that belongs together: ``[batch, n]`` twice to ``[batch]``."""
    difference = f - partner
    return (jnp.square(difference) if distance == "squared" else jnp.abs(difference)).sum(axis=-1)


def repulsion(f: Array, other: Array, margin: Array | float, distance: Distance) -> Array:
    """The loss of each pair that does not belong together: ``[batch, n]`` twice to ``[batch]``."""
    if distance == "squared":
        return jnp.square(jax.nn.relu(margin - euclidean(f - other)))
    return jax.nn.relu(margin - jnp.abs(f - other).sum(axis=-1))


def others(f: Array) -> Array:
    """For each row of ``[batch, n]`` another one, just under half a batch further on; no two rows each other's."""
    rows = f.shape[0]
    if rows < 2:
        raise ValueError("an embedding is repelled by the other rows of its minibatch; got 1 row: give at least 2")
    return jnp.roll(f, -max(1, (rows - 1) // 2), axis=0)


@struct.dataclass
class Embedding:
    """A layer trained by the margin loss over pairs of rows.

    Attributes:
        n_hidden: code units.
        at: where the loss is: on the code (``internal``), on a linear map of it (``auxiliary``) or on a classifier's
            output (``output``).
        n_embedding: dimensions of the linear map, for ``auxiliary``.
        n_classes: of the classifier, for ``output``.
        margin: how far apart other rows are pushed. Distances of codes grow as the root of the number of units (as the
            number, where l1), so a margin of 1 leaves many sigmoid units almost linear; 5 to 10 suit 500 of them.
        distance: ``squared`` or ``l1``.
        supervised_weight: of the cross-entropy in nats beside the margin loss, for ``output``.
        activation: of the code, a key of `pretrain.layers.ACTIVATIONS`.
        initial_scale: initial weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
    """

    n_hidden: int = struct.field(pytree_node=False)
    at: At = struct.field(pytree_node=False, default="internal")
    n_embedding: int | None = struct.field(pytree_node=False, default=None)
    n_classes: int | None = struct.field(pytree_node=False, default=None)
    margin: float | Array = 1.0
    distance: Distance = struct.field(pytree_node=False, default="squared")
    supervised_weight: float | Array = 1.0
    activation: str = struct.field(pytree_node=False, default="sigmoid")
    initial_scale: float | Array = 1.0

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden)
        if self.at not in ("internal", "auxiliary", "output"):
            raise ValueError(f"at must be 'internal', 'auxiliary' or 'output'; got {self.at!r}")
        if self.distance not in ("squared", "l1"):
            raise ValueError(f"distance must be 'squared' or 'l1'; got {self.distance!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        for size, value, place in (
            ("n_embedding", self.n_embedding, "auxiliary"),
            ("n_classes", self.n_classes, "output"),
        ):
            if (value is None) == (self.at == place):
                fix = f"give {size}" if value is None else f"leave it out, or set at='{place}'"
                raise ValueError(f"{size} goes with at='{place}'; got {size}={value} and at={self.at!r}: {fix}")
            if value is not None:
                check_sizes(**{size: value})

    @property
    def inputs(self) -> Inputs:
        return "real"

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("pairs", "some labels") if self.at == "output" else ("pairs",)

    def init(self, key: Array, data: Batch) -> tuple[EmbeddingParams, Any]:
        """Uniform weights, those above the code too, and zero biases. The state is, with ``output``, the share of
        ``data``'s rows that have a label, until `with_share` tells that of all rows.
        """
        code_key, top_key = jax.random.split(key)
        weights = uniform(code_key, data.x.shape[-1], self.n_hidden, self.initial_scale)
        n_top, top = self.n_embedding or self.n_classes, None
        if n_top is not None:
            top = Dense(uniform(top_key, self.n_hidden, n_top, self.initial_scale), jnp.zeros((n_top,)), "linear")
        state = ()
        if self.at == "output":
            assert data.y is not None
            state = labelled_share(data.y)
        return EmbeddingParams(weights, jnp.zeros((self.n_hidden,)), top), state

    def with_share(self, state: Any, share: Array) -> Any:
        """The state with the share of all training rows that have a label; without ``output`` there is none."""
        return share if self.at == "output" else state

    def embed(self, params: EmbeddingParams, x: Array) -> Array:
        """The embedding f, ``[..., features]`` to ``[..., hidden | embedding | classes]``; of a classifier, its logits,
        which are not yet f.
        """
        code = self.layer(params)(x)
        return code if params.top is None else params.top(code)

    def gradient(self, params: EmbeddingParams, state: Any, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        """The gradient of the margin loss, with ``output`` joined by the cross-entropy.

        Reports ``margin_loss`` and its parts and, with ``output``, this minibatch's part of the labelled rows' mean
        ``cross_entropy`` in nats, whose expectation is that mean: 0 where no row has a label.
        """

        def objective(params: EmbeddingParams) -> tuple[Array, Metrics]:
            measures, logits = self._margin(params, batch)
            loss = measures["margin_loss"]
            if self.at == "output":
                cross_entropy = labelled_part(labelled_losses(logits, batch.y), batch.y, state)
                loss = loss + self.supervised_weight * cross_entropy
                measures = measures | {"cross_entropy": cross_entropy}
            return loss, measures

        grads, measures = jax.grad(objective, has_aux=True)(params)
        return grads, state, measures

    def evaluate(self, params: EmbeddingParams, batch: Batch, key: Array) -> Metrics:
        """``margin_loss`` and its parts ``attraction`` and ``repulsion``; with ``output`` also, of the rows that have a
        label, the mean ``cross_entropy`` in nats (0 where none has) and ``error`` in percent (NaN there).
        """
        measures, logits = self._margin(params, batch)
        if self.at != "output":
            return measures
        assert batch.y is not None
        wrong = 100.0 * labelled_mean(logits.argmax(axis=-1) != batch.y, batch.y)
        return measures | {
            "cross_entropy": labelled_mean(labelled_losses(logits, batch.y), batch.y),
            "error": jnp.where((batch.y >= 0).any(), wrong, jnp.nan),
        }

    def _margin(self, params: EmbeddingParams, batch: Batch) -> tuple[Metrics, Array]:
        """The margin loss with its parts, and the embedding of ``x``; of a classifier, its logits."""
        assert batch.pair is not None
        embedded, partner = self.embed(params, batch.x), self.embed(params, batch.pair)
        f = embedded
        if self.at == "output":
            f, partner = jax.nn.softmax(f), jax.nn.softmax(partner)
        pull = attraction(f, partner, self.distance).mean()
        push = repulsion(f, others(f), self.margin, self.distance).mean()
        return {"margin_loss": pull + push, "attraction": pull, "repulsion": push}, embedded

    def layer(self, params: EmbeddingParams) -> Dense:
        """The layer of codes."""
        return Dense(params.weights, params.bias, self.activation)
