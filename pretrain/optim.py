"""Optimiser recipes: pytrees of numbers from which the optax transformation is built inside the trace.

A recipe's numbers are leaves, so a population of learning rates is one `jax.vmap`. Weight decay is the L2 penalty
``weight_decay/2 * |W|^2``: its gradient is added before momentum, to matrices only, never to biases. So it is in `Adam`
and `Adagrad` too, where the penalty's gradient is rescaled with the loss's: it is not the decoupled decay of AdamW.

A bound on norms is no penalty but a projection after the update: a column ``w`` of a matrix, the weights into one unit,
becomes ``w min(1, max_norm/|w|)`` (Srebro & Shraibman, COLT 2005; Hinton et al., arXiv:1207.0580, 2012).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from pretrain import struct


class Recipe(Protocol):
    """Anything that builds an optax transformation, given how many updates an epoch has."""

    def build(self, steps_per_epoch: int, /) -> optax.GradientTransformation: ...


class Schedule(Protocol):
    """A factor on the learning rate as a function of the (fractional) epoch."""

    def __call__(self, epoch: Array, /) -> Array | float: ...


@struct.dataclass
class Constant:
    """No decay."""

    def __call__(self, epoch: Array) -> float:
        return 1.0


@struct.dataclass
class Linear:
    """1 until epoch ``start``, then straight down to 0 at epoch ``end``."""

    end: float | Array
    start: float | Array = 0.0

    def __call__(self, epoch: Array) -> Array:
        length = jnp.maximum(self.end - self.start, 1e-6)  # end == start: at once
        return jnp.clip((self.end - epoch) / length, 0.0, 1.0)


@struct.dataclass
class Inverse:
    """``1 / (1 + rate * epoch)``, the decrease of Larochelle et al. (2009); ``rate`` in 1/epochs."""

    rate: float | Array

    def __call__(self, epoch: Array) -> Array:
        return 1.0 / (1.0 + self.rate * epoch)


@struct.dataclass
class WarmUp:
    """Another schedule, multiplied by a factor that rises from 0, at the first update, to 1 at epoch ``epochs``.

    For steps that are too large only at the start, as those of a Gaussian-visible RBM may be, whose units all learn the
    same strongest direction first.
    """

    epochs: float | Array = 1.0
    then: Schedule = Constant()

    def __call__(self, epoch: Array) -> Array:
        return jnp.clip(epoch / jnp.maximum(self.epochs, 1e-6), 0.0, 1.0) * self.then(epoch)


def _check(recipe: Any) -> None:
    """Raises: ValueError: of a number that is a list or a schedule, a negative rate, a schedule that is none."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "schedule":
            if isinstance(value, int | float | np.ndarray | jax.Array):
                raise ValueError(
                    f"schedule must be a function of the epoch, as Linear(end=20) is; got {value!r}: name the number "
                    "that you mean (learning_rate=..., momentum=..., weight_decay=...)"
                )
        elif isinstance(value, list | tuple):
            raise ValueError(
                f"{field.name} must be a number, or an array of one a member; got {value!r}: numpy.array(...)"
            )
        elif callable(value):
            raise ValueError(f"{field.name} must be a number; got {value!r}: write schedule=...")
    rate = recipe.learning_rate
    if isinstance(rate, int | float | np.ndarray) and np.any(np.asarray(rate) < 0.0):
        raise ValueError(f"learning_rate must not be negative: steps go down the gradient; got {rate}")


def _matrices(params: Any) -> Any:
    """Where weight decay acts: on matrices, but not on those of layers that stay fixed."""

    def fixed(node: Any) -> bool:
        return getattr(node, "fixed", False)

    return jax.tree.map(lambda node: not fixed(node) and node.ndim >= 2, params, is_leaf=fixed)


def _descend(learning_rate: float | Array, schedule: Schedule, steps_per_epoch: int) -> optax.GradientTransformation:
    def rate(step: Any) -> Any:
        return learning_rate * schedule(step / steps_per_epoch)

    return optax.scale_by_learning_rate(rate)


def _bounded(max_norm: float | Array) -> optax.GradientTransformation:
    """Shortens updates so that no column of a matrix is longer than ``max_norm`` after them."""

    def shorten(updates: Any, params: Any) -> Any:
        def shortened(update: Array, weights: Array) -> Array:
            after = weights + update
            norm = jnp.sqrt(jnp.square(after).sum(axis=-2, keepdims=True))
            return jnp.where(norm > max_norm, after * (max_norm / norm) - weights, update)

        return jax.tree.map(shortened, updates, params)

    return optax.masked(optax.stateless(shorten), _matrices)


def _chain(max_norm: float | Array | None, *parts: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(*parts) if max_norm is None else optax.chain(*parts, _bounded(max_norm))


@struct.dataclass
class Sgd:
    """Plain stochastic gradient descent.

    Attributes:
        learning_rate: step size.
        schedule: factor on it, by epoch.
        weight_decay: L2 penalty on matrices.
        max_norm: after every update no column of a matrix, the weights into one unit, is longer; None: no bound.
    """

    learning_rate: float | Array = 0.1
    schedule: Schedule = Constant()
    weight_decay: float | Array = 0.0
    max_norm: float | Array | None = None

    def __post_init__(self) -> None:
        _check(self)

    def build(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation; call it inside the trace."""
        return _chain(
            self.max_norm,
            optax.add_decayed_weights(self.weight_decay, mask=_matrices),
            _descend(self.learning_rate, self.schedule, steps_per_epoch),
        )


@struct.dataclass
class Momentum:
    """Heavy-ball momentum that changes once, the RBM's usual schedule (Hinton, *A practical guide*, 2010, section 9).

    ``velocity = momentum(epoch) * velocity + gradient``; ``params -= learning_rate * schedule(epoch) * velocity``.

    Attributes:
        learning_rate: step size.
        initial_momentum: momentum before ``switch_epoch``.
        momentum: momentum from ``switch_epoch`` on.
        switch_epoch: in epochs.
        schedule: factor on the learning rate, by epoch.
        weight_decay: L2 penalty on matrices.
        max_norm: after every update no column of a matrix, the weights into one unit, is longer; None: no bound.
    """

    learning_rate: float | Array = 0.1
    initial_momentum: float | Array = 0.5
    momentum: float | Array = 0.9
    switch_epoch: float | Array = 5.0
    schedule: Schedule = Constant()
    weight_decay: float | Array = 0.0
    max_norm: float | Array | None = None

    def __post_init__(self) -> None:
        _check(self)

    def build(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation; call it inside the trace."""

        def momentum(step: Any) -> Array:
            return jnp.where(step < self.switch_epoch * steps_per_epoch, self.initial_momentum, self.momentum)

        return _chain(
            self.max_norm,
            optax.add_decayed_weights(self.weight_decay, mask=_matrices),
            optax.inject_hyperparams(optax.trace)(decay=momentum),
            _descend(self.learning_rate, self.schedule, steps_per_epoch),
        )


@struct.dataclass
class Adam:
    """Steps of about the learning rate a parameter: the mean gradient over the root of the mean squared gradient.

    ``m = b1 m + (1 - b1) g``; ``v = b2 v + (1 - b2) g^2``; after t updates
    ``params -= learning_rate * schedule(epoch) * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)``.

    Reference: Kingma & Ba, *Adam: a method for stochastic optimization*, ICLR 2015.

    Attributes:
        learning_rate: step size.
        b1: decay of the mean gradient.
        b2: decay of the mean squared gradient.
        epsilon: added to the root.
        schedule: factor on the learning rate, by epoch.
        weight_decay: L2 penalty on matrices, whose gradient is a part of g.
    """

    learning_rate: float | Array = 1e-3
    b1: float | Array = 0.9
    b2: float | Array = 0.999
    epsilon: float | Array = 1e-8
    schedule: Schedule = Constant()
    weight_decay: float | Array = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def build(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation; call it inside the trace."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=_matrices),
            optax.scale_by_adam(self.b1, self.b2, self.epsilon),
            _descend(self.learning_rate, self.schedule, steps_per_epoch),
        )


@struct.dataclass
class Adagrad:
    """Each parameter's rate falls with the squared gradients it has seen.

    ``a += g^2``; ``params -= learning_rate * schedule(epoch) * g / sqrt(a + epsilon)``.

    Reference: Duchi, Hazan & Singer, *Adaptive subgradient methods*, JMLR 12:2121-2159 (2011).

    Attributes:
        learning_rate: step size.
        schedule: factor on it, by epoch.
        weight_decay: L2 penalty on matrices, whose gradient is a part of g.
        initial_accumulator: a before the first update.
        epsilon: added to a.
    """

    learning_rate: float | Array = 0.01
    schedule: Schedule = Constant()
    weight_decay: float | Array = 0.0
    initial_accumulator: float | Array = 0.1
    epsilon: float | Array = 1e-7

    def __post_init__(self) -> None:
        _check(self)

    def build(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation; call it inside the trace."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=_matrices),
            optax.scale_by_rss(self.initial_accumulator, self.epsilon),
            _descend(self.learning_rate, self.schedule, steps_per_epoch),
        )
