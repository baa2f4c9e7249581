"""The restricted Boltzmann machine: two layers of units with an energy, trained by contrasting data with samples.

Energy and free energy of visible ``v`` and hidden ``h``, with ``s_i = 1`` but for Gaussian visible units of learned
variance ``s_i^2 = exp(z_i)``, and ``a_j = c_j + sum_i W_ij v_i / s_i^2``::

    Bernoulli visible   E(v, h) = - v.b - h.c - v W h
    Gaussian visible    E(v, h) = sum_i (v_i - b_i)^2 / (2 s_i^2) - sum_ij W_ij h_j v_i / s_i^2 - h.c
    either, F(v) = - log sum_h exp(-E(v, h)) = (the part of v alone) - sum_j A(a_j)

where ``A`` is the hidden units' log-partition, softplus for Bernoulli ones (`pretrain.units`; Gaussian and rectified
hidden units add an ``r(h)`` without parameters to ``E``). The gradient of the mean negative log-likelihood is
``<dF/dtheta>_data - <dF/dtheta>_model``. A sampler (`pretrain.samplers`) puts samples ``vk`` in the model's place::

    dW = (<vk hk> - <v0 h0>) / s^2,   db = (<vk> - <v0>) / s^2,   dc = <hk> - <h0>
    dz = ((<(vk - b)^2> - <(v0 - b)^2>) / 2 - sum_j W_ij (<vk hk> - <v0 h0>)_ij) / s^2

with hidden *means* in these statistics and hidden *samples* inside the chain (they are the bottleneck). Written this
way a CD-1 update is five matrix products (of few rows four, the last two joined); the surrogate loss
``<F(v0)> - <F(vk)>``, with vk held, gives the same gradient, but for rectified hidden units, whose F is that of the
copies they stand for. Below a variance of 0.05 ``z`` is drawn back by at least ``log 0.05 - z`` times the rate: that of
a constant feature would sink for ever.

Label units: ``n_classes`` more visible columns, one softmax group, join every row with its label, and ``P(y | x)`` is
a softmax over ``-F(x, y)``, exactly (Larochelle & Bengio, *Classification using discriminative restricted Boltzmann
machines*, ICML 2008).

Doubling is for a greedy stack that becomes a deep Boltzmann machine (`pretrain.generative.dbm`), whose layers hear from
both sides. A layer that will hear from above too is meanwhile told twice what it hears from below, by two copies
``v, v'`` of the visible layer with the same weights; one that will hear from below, by two copies ``h, h'`` of the
hidden layer. With ``e(v)`` the part of v alone::

    up     E(v, v', h) = e(v) + e(v') - (v + v') W h - h.c     F(v, v) = 2 e(v) - sum_j A(2 (v W)_j + c_j)
    down   E(v, h, h') = e(v) - v W (h + h') - (h + h').c      F(v)    = e(v) - 2 sum_j A((v W)_j + c_j)
    both   E(v, h)     = e(v) - 2 v W h - h.c                  F(v)    = e(v) - sum_j A(2 (v W)_j + c_j)

Hidden units hear ``2 v W + c`` (up, both), visible ones ``2 W h + b`` (down, both). In the data the visible copies are
equal; in a chain the copies of a layer are drawn apart, and their mean is what is kept: statistics depend on nothing
else. Label units of a machine doubled ``down`` are among its visible ones, and hear both hidden copies. ``both`` is for
layers in between, where twice the weights serve instead of copies. The statistics are those of one copy: half of the
gradient of F in ``W``, and in the bias of the layer that has copies.

References: Hinton, *A practical guide to training restricted Boltzmann machines*, UTML TR 2010-003; Cho, Ilin & Raiko,
ICANN 2011 (learned variances); Salakhutdinov & Hinton, *Deep Boltzmann machines*, AISTATS 2009 (doubling).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import Dense
from pretrain.samplers import CD, ParallelTempering, Phase, Sampler
from pretrain.sparsity import SparsityTarget
from pretrain.types import Batch, Inputs, Metrics, Needs
from pretrain.units import BernoulliUnits, Beside, GaussianUnits, RectifiedUnits, SoftmaxUnits, Units
from pretrain.units import sample as sample

Doubled = Literal["neither", "up", "down", "both"]
"""Which of a machine's layers hears the other twice: the hidden one ("up"), the visible one ("down")."""

FEW_ROWS = 25
"""Up to so many rows a minibatch both weight statistics are one product: passes over the weights then cost more than
the products, and it is one pass less. Measured with ten rows, where it gains a tenth, and with a hundred: nothing.
"""

LOWEST_LOG_VARIANCE = math.log(0.05)
"""From below this, where momentum or a large step may take it, a learned variance is drawn back, the harder the lower
it is: that of a constant feature would sink for ever.
"""


class RBMParams(NamedTuple):
    """Attributes: ``weights`` [visible, hidden], ``visible_bias`` [visible], ``hidden_bias`` [hidden], and
    ``log_variance`` [visible] of Gaussian visible units where it is learned. Label units are the last ``visible`` ones
    of weights and bias.
    """

    weights: Array
    visible_bias: Array
    hidden_bias: Array
    log_variance: Array | None = None


def hidden_probabilities(params: RBMParams, visible: Array) -> Array:
    """``P(h = 1 | v)`` of Bernoulli units, ``[..., hidden]``."""
    return jax.nn.sigmoid(visible @ params.weights + params.hidden_bias)


def visible_probabilities(params: RBMParams, hidden: Array) -> Array:
    """``P(v = 1 | h)`` of Bernoulli units, ``[..., visible]``."""
    return jax.nn.sigmoid(hidden @ params.weights.T + params.visible_bias)


def free_energy(params: RBMParams, visible: Array) -> Array:
    """``F(v)`` of Bernoulli units in nats, ``[...]``: minus the log of the unnormalised probability of ``visible``."""
    softplus = jax.nn.softplus(visible @ params.weights + params.hidden_bias)
    return -visible @ params.visible_bias - softplus.sum(axis=-1)


class SparseState(NamedTuple):
    """Attributes: ``sampler``, the sampler's state; ``activity`` [hidden], the running mean of the hidden units."""

    sampler: Any
    activity: Array


@struct.dataclass
class RBM:
    """A restricted Boltzmann machine and how it is trained.

    Attributes:
        n_hidden: hidden units.
        visible: kind of the visible units.
        hidden: kind of the hidden units; Gaussian ones are a linear code (Hinton & Salakhutdinov, Science 2006).
        sampler: of the negative phase: `CD`, `PCD`, `FastPCD` or `ParallelTempering`.
        n_classes: label units, 0 for none.
        sample_visible: whether a chain from the data passes visible samples or means (mean-field, less noise).
            Persistent chains always pass samples, for they are to reach the model's distribution; and so do learned
            variances, which means would mislead.
        sample_data: whether Bernoulli visible units take a row as probabilities of which every update draws a binary
            sample, as a layer of a deep belief network meets the samples of the layer below, never their means.
        doubled: which layer hears the other twice: the hidden one (``up``) in the lowest machine of a stack that
            becomes a deep Boltzmann machine, the visible one (``down``) in the highest, ``both`` between. For Bernoulli
            hidden units under Bernoulli ones or Gaussian ones of variance 1; label units only ``down``. What
            `pretrain.generative` computes from the parameters alone (partition functions, chains) is of the machine
            that is doubled in neither.
        sparsity: a `SparsityTarget`, or None.
        initial_scale: standard deviation of the initial weights.

    Gaussian visible units and rectified or Gaussian hidden ones need a 10 to 100 times smaller learning rate;
    persistent chains go with plain `Sgd`: under momentum parameters and chains swing about each other.
    """

    n_hidden: int = struct.field(pytree_node=False)
    visible: Units = BernoulliUnits()
    hidden: Units = BernoulliUnits()
    sampler: Sampler = CD(1)
    n_classes: int = struct.field(pytree_node=False, default=0)
    sample_visible: bool = struct.field(pytree_node=False, default=False)
    sample_data: bool = struct.field(pytree_node=False, default=False)
    doubled: Doubled = struct.field(pytree_node=False, default="neither")
    sparsity: SparsityTarget | None = None
    initial_scale: float | Array = 0.01

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden)
        if self.n_classes != 0:
            check_sizes(n_classes=self.n_classes)
        if isinstance(self.hidden, SoftmaxUnits):
            raise ValueError("softmax units are for the visible layer; got them as hidden: use BernoulliUnits()")
        if isinstance(self.hidden, GaussianUnits) and self.hidden.learn_variance:
            raise ValueError("hidden Gaussian units have variance 1; got learn_variance=True: use GaussianUnits()")
        if self.sample_data and not isinstance(self.visible, BernoulliUnits):
            kind = type(self.visible).__name__
            raise ValueError(f"only Bernoulli units take probabilities; got sample_data=True with {kind}: leave it out")
        if isinstance(self.hidden, RectifiedUnits) and isinstance(self.visible, RectifiedUnits):
            raise ValueError("rectified units on both sides have no bounded energy: make the visible ones Gaussian")
        others = [
            u for u in (self.visible, self.hidden) if isinstance(u, GaussianUnits | RectifiedUnits | SoftmaxUnits)
        ]
        if isinstance(self.sampler, ParallelTempering) and (others or self.n_classes):
            found = type(others[0]).__name__ if others else f"n_classes={self.n_classes}"
            raise ValueError(f"parallel tempering is for Bernoulli units only; got {found}: use PCD or FastPCD")
        self._check_doubled()

    def _check_doubled(self) -> None:
        if self.doubled not in get_args(Doubled):
            raise ValueError(f"doubled must be one of {', '.join(get_args(Doubled))}; got {self.doubled!r}")
        refused = {
            type(self.sampler).__name__: isinstance(self.sampler, ParallelTempering),
            f"n_classes={self.n_classes}": self.n_classes != 0 and self.doubled != "down",
            "learn_variance=True": self._learned_variance,
            f"visible {type(self.visible).__name__}": not isinstance(self.visible, BernoulliUnits | GaussianUnits),
            f"hidden {type(self.hidden).__name__}": not isinstance(self.hidden, BernoulliUnits),
        }
        found = [name for name, given in refused.items() if given]
        if self.doubled != "neither" and found:
            raise ValueError(
                f"doubled={self.doubled!r} is for Bernoulli hidden units under Bernoulli ones, or Gaussian ones of "
                "variance 1, trained by CD, PCD or FastPCD, label units for 'down' alone; got "
                f"{', '.join(found)}: leave out one or the other"
            )

    @property
    def inputs(self) -> Inputs:
        return self.visible.inputs

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("labels",) if self.n_classes else ()

    @property
    def visible_units(self) -> Units:
        """The visible layer, label units included."""
        if not self.n_classes:
            return self.visible
        return Beside(self.visible, SoftmaxUnits(self.n_classes), self.n_classes)

    @property
    def _learned_variance(self) -> bool:
        return isinstance(self.visible, GaussianUnits) and self.visible.learn_variance

    @property
    def _hears_twice(self) -> tuple[bool, bool]:
        """Whether the hidden, and whether the visible units hear the other layer twice."""
        return self.doubled in ("up", "both"), self.doubled in ("down", "both")

    @property
    def sampled(self) -> bool:
        """Whether chains that start at the data pass visible samples."""
        return self.sample_visible or self._learned_variance

    def rows(self, batch: Batch) -> Array:
        """The visible values of a batch, ``[batch, visible + n_classes]``: ``x``, and the label as one of n_classes."""
        if not self.n_classes:
            return batch.x
        assert batch.y is not None
        return jnp.concatenate([batch.x, jax.nn.one_hot(batch.y, self.n_classes)], axis=-1)

    def init(self, key: Array, data: Batch) -> tuple[RBMParams, Any]:
        """Weights ~ N(0, initial_scale^2), hidden biases 0, visible biases those that give each column's mean.

        Persistent chains start at samples of the visible biases, running means at the sparsity target.
        """
        rows = self.rows(data)
        weights = self.initial_scale * jax.random.normal(key, (rows.shape[-1], self.n_hidden))
        log_variance = jnp.zeros((data.x.shape[-1],)) if self._learned_variance else None
        bias = self.visible_units.initial_bias(rows)
        params = RBMParams(weights, bias, jnp.zeros((self.n_hidden,)), log_variance)
        state = self.sampler.init(self, params, jax.random.fold_in(key, 1))
        if self.sparsity is None:
            return params, state
        return params, SparseState(state, jnp.full((self.n_hidden,), self.sparsity.target, jnp.float32))

    def _precision(self, params: RBMParams) -> Array:
        """``1/s^2`` of the units that have variances, 1 for those beside them: ``[visible]``."""
        assert params.log_variance is not None
        n_others = params.weights.shape[0] - len(params.log_variance)
        return jnp.concatenate([jnp.exp(-params.log_variance), jnp.ones((n_others,))])

    def hidden_input(self, params: RBMParams, visible: Array) -> Array:
        """The total inputs ``a`` to the hidden units, ``[..., hidden]``."""
        if params.log_variance is not None:
            visible = visible * self._precision(params)
        heard = visible @ params.weights
        return (2.0 * heard if self._hears_twice[0] else heard) + params.hidden_bias

    def visible_input(self, params: RBMParams, hidden: Array) -> Array:
        """The total inputs to the visible units, ``[..., visible]``."""
        heard = hidden @ params.weights.T
        return (2.0 * heard if self._hears_twice[1] else heard) + params.visible_bias

    def visible_sample(self, params: RBMParams, total: Array, key: Array) -> Array:
        """Visible values drawn given their total inputs; where there are two copies, the mean of both."""
        if self.doubled != "up":
            return self.visible_units.sample(key, total, params.log_variance)
        one, other = (self.visible_units.sample(copy, total) for copy in jax.random.split(key))
        return 0.5 * (one + other)

    def hidden_sample(self, total: Array, key: Array) -> Array:
        """Likewise of the hidden units."""
        if self.doubled != "down":
            return self.hidden.sample(key, total)
        one, other = (self.hidden.sample(copy, total) for copy in jax.random.split(key))
        return 0.5 * (one + other)

    def gibbs(self, params: RBMParams, total: Array, key: Array, *, sampled: bool) -> tuple[Array, Array]:
        """One step ``a -> h -> v -> a``: from total inputs to the hidden units to (visible, total inputs)."""
        hidden_key, visible_key = jax.random.split(key)
        total = self.visible_input(params, self.hidden_sample(total, hidden_key))
        visible = self.visible_sample(params, total, visible_key) if sampled else self.visible_units.mean(total)
        return visible, self.hidden_input(params, visible)

    def contrast(self, params: RBMParams, data: Phase, chains: Phase) -> RBMParams:
        """``<dF/dtheta>_data - <dF/dtheta>_chains``, the statistics of the module's docstring."""
        (v0, a0), (vk, ak) = data, chains
        h0, hk = self.hidden.mean(a0), self.hidden.mean(ak)
        if len(v0) == len(vk) <= FEW_ROWS:
            weights = jnp.concatenate([vk, v0]).T @ jnp.concatenate([hk, -h0]) / len(v0)
        else:
            weights = vk.T @ hk / len(vk) - v0.T @ h0 / len(v0)
        visible_bias = vk.mean(axis=0) - v0.mean(axis=0)
        hidden_bias = hk.mean(axis=0) - h0.mean(axis=0)
        if params.log_variance is None:
            return RBMParams(weights, visible_bias, hidden_bias)
        precision, n = self._precision(params), len(params.log_variance)
        squares = [jnp.square(v - params.visible_bias).mean(axis=0) for v in (v0, vk)]
        slope = (precision * (0.5 * (squares[1] - squares[0]) - (params.weights * weights).sum(axis=1)))[:n]
        sunk = jnp.minimum(params.log_variance - LOWEST_LOG_VARIANCE, 0.0)
        slope = jnp.where(sunk < 0.0, jnp.minimum(slope, sunk), slope)
        return RBMParams(precision[:, None] * weights, precision * visible_bias, hidden_bias, slope)

    def gradient(self, params: RBMParams, state: Any, batch: Batch, key: Array) -> tuple[RBMParams, Any, Metrics]:
        """The sampler's estimate of the likelihood's gradient, the next state, and a measure of this minibatch.

        The measure of CD is the squared ``reconstruction_error`` of the first step; of persistent chains the
        ``mean_gap``, the squared distance between the mean rows of data and chains. With a sparsity target also the
        ``mean_activation`` of the hidden units.
        """
        if self.sample_data:
            key, data_key = jax.random.split(key)
            batch = batch._replace(x=sample(data_key, batch.x))
        visible = self.rows(batch)
        data = Phase(visible, self.hidden_input(params, visible))
        if self.sparsity is None:
            return self.sampler.gradient(self, params, state, data, key)
        grads, chains, metrics = self.sampler.gradient(self, params, state.sampler, data, key)
        return self._sparse(self.sparsity, params, SparseState(chains, state.activity), data, grads, metrics)

    def _sparse(
        self,
        sparsity: SparsityTarget,
        params: RBMParams,
        state: SparseState,
        data: Phase,
        grads: RBMParams,
        metrics: Any,
    ) -> tuple[RBMParams, SparseState, Metrics]:
        mean = self.hidden.mean(data.total).mean(axis=0)
        heard = data.visible.mean(axis=0)
        if params.log_variance is not None:
            heard = heard * self._precision(params)
        activity, weights, bias = sparsity.pull(state.activity, mean, heard)
        grads = grads._replace(weights=grads.weights + weights, hidden_bias=grads.hidden_bias + bias)
        return grads, state._replace(activity=activity), metrics | {"mean_activation": mean.mean()}

    def free_energy(self, params: RBMParams, visible: Array) -> Array:
        """``F(v)`` in nats, ``[...]``; of rectified hidden units that of the Bernoulli copies they stand for.

        Raises:
            ValueError: with rectified visible units, which have none in closed form.
        """
        own = self.visible_units.energy(visible, params.visible_bias, params.log_variance)
        inside = self.hidden.log_partition(self.hidden_input(params, visible))
        return (2.0 * own if self.doubled == "up" else own) - (2.0 * inside if self.doubled == "down" else inside)

    def class_log_probabilities(self, params: RBMParams, x: Array) -> Array:
        """``log P(y | x)``, ``[..., n_classes]``, exactly: the free energies of ``x`` joined with every label.

        Raises:
            ValueError: if the machine has no label units.
        """
        if not self.n_classes:
            raise ValueError("this machine has no label units: train it with n_classes=...")
        absent = jnp.zeros((*x.shape[:-1], self.n_classes))
        total = self.hidden_input(params, jnp.concatenate([x, absent], axis=-1))
        labels = slice(-self.n_classes, None)
        inside = self.hidden.log_partition(total[..., None, :] + params.weights[labels])
        inside = 2.0 * inside if self.doubled == "down" else inside
        return jax.nn.log_softmax(inside + params.visible_bias[labels])

    def evaluate(self, params: RBMParams, batch: Batch, key: Array) -> Metrics:
        """``reconstruction_error`` (squared, summed over visible units, of a mean-field pass), mean ``free_energy`` in
        nats (not with rectified visible units) and, with label units, the ``error`` of the likeliest class in percent.

        CD follows the gradient of neither; the gap of free energies between training and validation rows tells of
        overfitting (it needs no partition function).
        """
        visible = self.rows(batch)
        hidden = self.hidden.mean(self.hidden_input(params, visible))
        reconstruction = self.visible_units.mean(self.visible_input(params, hidden))
        measures = {"reconstruction_error": jnp.square(visible - reconstruction).sum(axis=-1).mean()}
        if not isinstance(self.visible, RectifiedUnits):
            measures["free_energy"] = self.free_energy(params, visible).mean()
        if self.n_classes:
            log_probabilities = self.class_log_probabilities(params, batch.x)
            error = 100.0 * (log_probabilities.argmax(axis=-1) != batch.y).mean()
            measures["error"] = jnp.where(jnp.isfinite(log_probabilities).all(), error, jnp.nan)
        return measures

    def layer(self, params: RBMParams) -> Dense:
        """The recognition layer, the hidden units' mean (of rectified ones ``max(0, a)``) given ``x``; of a machine
        with label units, given ``x`` and no label: none of them is on.
        """
        n = params.weights.shape[0] - self.n_classes
        weights = params.weights[:n]
        if params.log_variance is not None:
            weights = weights * jnp.exp(-params.log_variance)[:, None]
        return Dense(2.0 * weights if self._hears_twice[0] else weights, params.hidden_bias, self.hidden.activation)

    def decoder(self, params: RBMParams) -> Dense:
        """The generative layer, the visible units' mean given the hidden ones; label units are left out.

        Raises:
            ValueError: with softmax visible units.
        """
        if isinstance(self.visible, SoftmaxUnits):
            raise ValueError("softmax visible units have no decoder among the layers: use BernoulliUnits()")
        n = params.weights.shape[0] - self.n_classes
        weights = 2.0 * params.weights if self._hears_twice[1] else params.weights
        return Dense(weights[:n].T, params.visible_bias[:n], self.visible.activation)


@struct.dataclass
class BernoulliRBM(RBM):
    """An `RBM` with Bernoulli units on both sides."""


@struct.dataclass
class GaussianRBM(RBM):
    """An `RBM` with Gaussian visible units; it takes standardised rows."""

    visible: Units = GaussianUnits()
