"""Units of a restricted Boltzmann machine: what one layer draws, given the *total input* from the other and its bias.

With total inputs ``a = c + v W`` (to the hidden units) and ``u = b + h W^T`` (to the visible ones)::

    Bernoulli  h in {0, 1}        P(h = 1) = sigmoid(a)                    log-partition  softplus(a)
    Gaussian   h real             h ~ N(a, 1)                                             a^2/2 + log(2 pi)/2
    rectified  h >= 0             h = max(0, a + N(0, sigmoid(a)))                        -Li2(-exp(a)), see below
    softmax    one of n states    P(h_s = 1) = exp(a_s) / sum_r exp(a_r)                  log sum_s exp(a_s)

The log-partition is ``log sum_h exp(a h - r(h))``, ``r`` being the part of the energy without parameters (``h^2/2`` of
Gaussian units): the hidden layer's term of minus the free energy. As a visible layer, units add to the energy
``E(v, h)``::

    Bernoulli, softmax   - v.b
    Gaussian             sum_i (v_i - b_i)^2 / (2 s_i^2)        v ~ N(u, s^2), s^2 = exp(log_variance), or 1

A rectified unit stands for infinitely many Bernoulli copies with the inputs ``a - 1/2, a - 3/2, ...``: their sum has
mean ``softplus(a)``, variance ``sigmoid(a)`` and log-partition ``sum_n softplus(a - n + 1/2) ~ -Li2(-exp(a))``, the
integral of softplus. What is drawn in its place is a rectified normal, and the mean here is the mean of *that*.

References: Welling, Rosen-Zvi & Hinton, *Exponential family harmoniums*, NIPS 2004; Nair & Hinton, *Rectified linear
units improve restricted Boltzmann machines*, ICML 2010; Cho, Ilin & Raiko, *Improved learning of Gaussian-Bernoulli
restricted Boltzmann machines*, ICANN 2011.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erfinv, spence
from jax.scipy.stats import norm

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.draws import unit_uniform
from pretrain.layers import logit_mean
from pretrain.types import Inputs


class Units(Protocol):
    """One layer's kind of unit. Arrays are ``[..., units]``; energies and log-partitions are summed over units.

    Attributes:
        inputs: what rows a visible layer of such units takes.
        activation: what the layer passed up applies, a key of `pretrain.layers.ACTIVATIONS`, or "softmax".
    """

    inputs: ClassVar[Inputs]
    activation: ClassVar[str]

    def mean(self, total: Array, /) -> Array:
        """The mean value given the total input."""
        ...

    def sample(self, key: Array, total: Array, log_variance: Array | None = None, /) -> Array:
        """Values drawn given the total input, float32."""
        ...

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None, /) -> Array:
        """The visible layer's own part of the energy, ``[...]``."""
        ...

    def log_partition(self, total: Array, /) -> Array:
        """The hidden layer's term of minus the free energy, ``[...]``."""
        ...

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None, /) -> Array:
        """``log sum_v exp(-energy(v) + sum_i v_i (total - bias)_i / s_i^2)``, ``[...]``, an integral where v is real:
        the visible layer summed out given the hidden one.
        """
        ...

    def initial_bias(self, x: Array, /) -> Array:
        """The visible bias with which a machine without weights has the mean of the rows ``x``."""
        ...


def sample(key: Array, probabilities: Array) -> Array:
    """Bernoulli samples as float32 zeros and ones, drawn in float32 (a bfloat16 draw is biased)."""
    return (unit_uniform(key, probabilities.shape) < probabilities).astype(jnp.float32)


def standard_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws from N(0, 1) that fuse with what uses them: the quantiles of uniform draws at the middle of their step."""
    middle = unit_uniform(key, shape) + jnp.float32(2.0**-24)
    return math.sqrt(2.0) * erfinv(2.0 * middle - 1.0)


@struct.dataclass
class BernoulliUnits:
    """Units that are 0 or 1; as a visible layer they take numbers in [0, 1] as probabilities."""

    inputs: ClassVar[Inputs] = "unit"
    activation: ClassVar[str] = "sigmoid"

    def mean(self, total: Array) -> Array:
        return jax.nn.sigmoid(total)

    def sample(self, key: Array, total: Array, log_variance: Array | None = None) -> Array:
        return sample(key, jax.nn.sigmoid(total))

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None) -> Array:
        return -values @ bias

    def log_partition(self, total: Array) -> Array:
        return jax.nn.softplus(total).sum(axis=-1)

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None) -> Array:
        return self.log_partition(total)

    def initial_bias(self, x: Array) -> Array:
        return logit_mean(x)


@struct.dataclass
class GaussianUnits:
    """Linear units with Gaussian noise, of variance 1 or, in a visible layer, of a variance each that is learned.

    Attributes:
        learn_variance: whether ``log_variance`` is a parameter, [visible], starting at variance 1. The gradient goes
            with ``1/s^2``, so the learning rate must be small enough for the smallest variance there is.
    """

    learn_variance: bool = struct.field(pytree_node=False, default=False)

    inputs: ClassVar[Inputs] = "standardised"
    activation: ClassVar[str] = "linear"

    def mean(self, total: Array) -> Array:
        return total

    def sample(self, key: Array, total: Array, log_variance: Array | None = None) -> Array:
        noise = standard_normal(key, total.shape)
        return total + (noise if log_variance is None else jnp.exp(0.5 * log_variance) * noise)

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None) -> Array:
        squares = jnp.square(values - bias)
        return 0.5 * (squares if log_variance is None else squares * jnp.exp(-log_variance)).sum(axis=-1)

    def log_partition(self, total: Array) -> Array:
        return 0.5 * (jnp.square(total) + math.log(2.0 * math.pi)).sum(axis=-1)

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None) -> Array:
        variance = 0.0 if log_variance is None else log_variance
        squares = (total - bias) * (total + bias) * jnp.exp(-variance)
        return 0.5 * (squares + math.log(2.0 * math.pi) + variance).sum(axis=-1)

    def initial_bias(self, x: Array) -> Array:
        return x.mean(axis=0)


@struct.dataclass
class RectifiedUnits:
    """Noisy rectified linear units. In a visible layer they have no energy in closed form, hence no free energy."""

    inputs: ClassVar[Inputs] = "real"
    activation: ClassVar[str] = "relu"

    def mean(self, total: Array) -> Array:
        """``a Phi(a/s) + s phi(a/s)`` with ``s^2 = sigmoid(a)``: the mean of what `sample` draws."""
        deviation = jnp.exp(0.5 * jax.nn.log_sigmoid(total))
        ratio = total / jnp.maximum(deviation, jnp.finfo(jnp.float32).tiny)
        return jnp.maximum(total * norm.cdf(ratio) + deviation * norm.pdf(ratio), 0.0)

    def sample(self, key: Array, total: Array, log_variance: Array | None = None) -> Array:
        deviation = jnp.exp(0.5 * jax.nn.log_sigmoid(total))
        return jnp.maximum(total + deviation * standard_normal(key, total.shape), 0.0)

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None) -> Array:
        raise ValueError("rectified visible units have no free energy in closed form: use Gaussian ones for one")

    def log_partition(self, total: Array) -> Array:
        """That of the Bernoulli copies for which the unit stands, to 1/24 nat a unit."""
        # Li2(-e^a) = - Li2(-e^-a) - a^2/2 - pi^2/6, and spence(1 + z) = Li2(-z)
        tail = spence(1.0 + jnp.exp(-jnp.abs(total)))
        positive = 0.5 * jnp.square(total) + math.pi**2 / 6.0 + tail
        return jnp.where(total > 0.0, positive, -tail).sum(axis=-1)

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None) -> Array:
        raise ValueError("rectified visible units cannot be summed out in closed form: use Gaussian ones")

    def initial_bias(self, x: Array) -> Array:
        return x.mean(axis=0)


@struct.dataclass
class SoftmaxUnits:
    """Groups of ``n_states`` columns, in each of which exactly one is 1; only as a visible layer."""

    n_states: int = struct.field(pytree_node=False)

    inputs: ClassVar[Inputs] = "unit"
    activation: ClassVar[str] = "softmax"

    def __post_init__(self) -> None:
        check_sizes(n_states=self.n_states)

    def _groups(self, columns: Array) -> Array:
        return columns.reshape(*columns.shape[:-1], -1, self.n_states)

    def mean(self, total: Array) -> Array:
        return jax.nn.softmax(self._groups(total), axis=-1).reshape(total.shape)

    def sample(self, key: Array, total: Array, log_variance: Array | None = None) -> Array:
        cumulative = jnp.cumsum(jax.nn.softmax(self._groups(total), axis=-1), axis=-1)
        passed = unit_uniform(key, cumulative.shape[:-1])[..., None] >= cumulative[..., :-1]
        return jax.nn.one_hot(passed.sum(axis=-1), self.n_states).reshape(total.shape)

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None) -> Array:
        return -values @ bias

    def log_partition(self, total: Array) -> Array:
        return jax.nn.logsumexp(self._groups(total), axis=-1).sum(axis=-1)

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None) -> Array:
        return self.log_partition(total)

    def initial_bias(self, x: Array) -> Array:
        """The log of each state's frequency, kept at or above 1/(rows + 1).

        Raises:
            ValueError: if the columns do not make whole groups.
        """
        if x.shape[-1] % self.n_states:
            raise ValueError(
                f"softmax units of {self.n_states} states need a multiple of {self.n_states} columns; got "
                f"{x.shape[-1]}: encode each variable as {self.n_states} columns, of which one is 1"
            )
        return jnp.log(jnp.maximum(x.mean(axis=0), 1.0 / (x.shape[0] + 1)))


@struct.dataclass
class Beside:
    """A visible layer of two kinds of units: the label's group beside the others, or, where a deep Boltzmann machine is
    taken for a restricted one, its higher even layers beside its visible one.

    Attributes:
        first: kind of the first columns.
        last: kind of the last ones.
        n_last: how many these are.
    """

    first: Units
    last: Units
    n_last: int = struct.field(pytree_node=False)

    inputs: ClassVar[Inputs] = "real"
    activation: ClassVar[str] = "linear"

    def split(self, columns: Array) -> tuple[Array, Array]:
        """The columns of the first kind and those of the last."""
        return columns[..., : -self.n_last], columns[..., -self.n_last :]

    def mean(self, total: Array) -> Array:
        first, last = self.split(total)
        return jnp.concatenate([self.first.mean(first), self.last.mean(last)], axis=-1)

    def sample(self, key: Array, total: Array, log_variance: Array | None = None) -> Array:
        (first, last), (first_key, last_key) = self.split(total), jax.random.split(key)
        values = self.first.sample(first_key, first, log_variance), self.last.sample(last_key, last)
        return jnp.concatenate(values, axis=-1)

    def energy(self, values: Array, bias: Array, log_variance: Array | None = None) -> Array:
        (first, last), (first_bias, last_bias) = self.split(values), self.split(bias)
        return self.first.energy(first, first_bias, log_variance) + self.last.energy(last, last_bias)

    def log_partition(self, total: Array) -> Array:
        first, last = self.split(total)
        return self.first.log_partition(first) + self.last.log_partition(last)

    def visible_log_partition(self, total: Array, bias: Array, log_variance: Array | None = None) -> Array:
        (first, last), (first_bias, last_bias) = self.split(total), self.split(bias)
        summed = self.first.visible_log_partition(first, first_bias, log_variance)
        return summed + self.last.visible_log_partition(last, last_bias)

    def initial_bias(self, x: Array) -> Array:
        first, last = self.split(x)
        return jnp.concatenate([self.first.initial_bias(first), self.last.initial_bias(last)])
