"""The exact partition function of a small RBM, by enumeration of its smaller side.

One side is summed out in closed form, the other state by state::

    log Z = log sum_v exp(-F(v))                 F(v) = - v.b - sum_j softplus(c_j + (v W)_j)
          = log sum_h exp(-F'(h))                F'(h) = - h.c - sum_i softplus(b_i + (W h)_i)

Where the last visible units are a softmax group of label units, ``logsumexp_k(b_k + (W h)_k)`` stands in ``F'`` in
place of their softplus, and the visible states are those of the binary units times the classes. Gaussian visible units,
of variances ``s^2``, are always those summed out: in place of softplus stand ``((b_i + (W h)_i)^2 - b_i^2) / (2 s_i^2)
+ log(2 pi s_i^2) / 2``.

There are ``2^n`` states of ``n`` units; they are made in blocks, each block's sum is taken in the logarithm, and so is
the sum of the blocks: in float32 the relative error of ``log Z`` is about 1e-6.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

from pretrain.generative.gibbs import check_machine, machine
from pretrain.learners.rbm import RBMParams, free_energy
from pretrain.units import BernoulliUnits, Units

MAX_UNITS = 20
"""At most so many binary units are enumerated: a million states."""

BLOCK = 2**10
"""States summed at a time."""


def log_unnormalised_hidden(
    params: RBMParams, hidden: Array, n_classes: int = 0, visible: Units = BernoulliUnits()
) -> Array:
    """``log sum_v exp(-E(v, h))`` in nats, ``[...]``: log of the unnormalised probability of ``h``."""
    rbm = machine(params, n_classes, visible)
    summed_out = rbm.visible_units.visible_log_partition
    total = rbm.visible_input(params, hidden)
    return hidden @ params.hidden_bias + summed_out(total, params.visible_bias, params.log_variance)


def class_log_weights(params: RBMParams, x: Array, n_classes: int) -> Array:
    """``-F(x, label)`` of each class, ``[..., n_classes]``; their softmax is ``P(label | x)``.

    Args:
        params: a machine with label units.
        x: ``[..., units]`` the binary visible units.
        n_classes: how many label units there are.
    """
    weights, label_weights = params.weights[:-n_classes], params.weights[-n_classes:]
    bias, label_bias = params.visible_bias[:-n_classes], params.visible_bias[-n_classes:]
    activation = x @ weights + params.hidden_bias
    of_class = functools.partial(_class_log_weight, activation)
    return (x @ bias)[..., None] + jnp.moveaxis(jax.lax.map(of_class, (label_weights, label_bias)), 0, -1)


def _class_log_weight(activation: Array, label: tuple[Array, Array]) -> Array:
    weights, bias = label
    return bias + jax.nn.softplus(activation + weights).sum(axis=-1)


def log_unnormalised_visible(params: RBMParams, x: Array, n_classes: int = 0) -> Array:
    """``-F(x)`` in nats, ``[...]``: the log of the unnormalised probability of the binary visible units ``x``, whatever
    the label.
    """
    if n_classes == 0:
        return -free_energy(params, x)
    return jax.nn.logsumexp(class_log_weights(params, x, n_classes), axis=-1)


@functools.partial(jax.jit, static_argnames=("n_classes", "visible"))
def log_partition(params: RBMParams, n_classes: int = 0, visible: Units = BernoulliUnits()) -> Array:
    """The exact ``log Z`` of an RBM with Bernoulli hidden units, in nats.

    Args:
        params: the machine, with at most `MAX_UNITS` binary units on its smaller side; of other than Bernoulli
            visible units, on its hidden side.
        n_classes: its last so many visible units are one softmax group of label units.
        visible: kind of the others, Bernoulli, Gaussian (with its variances where these were learned) or softmax.

    Raises:
        ValueError: if there are too many states, or the parameters are not of such a machine.
    """
    check_machine(params, n_classes, visible)
    n_other, n_hidden = params.weights.shape[0] - n_classes, params.weights.shape[1]
    binary = isinstance(visible, BernoulliUnits)
    n_units = min(n_other, n_hidden) if binary else n_hidden
    if n_units > MAX_UNITS:
        sides = f"{n_other} binary visible and {n_hidden} hidden units, of which the fewer"
        sides = sides if binary else "the hidden units, which"
        raise ValueError(
            f"the exact log Z needs 2**{n_units} states: {sides} may be at most {MAX_UNITS}; estimate it with "
            "annealed_importance_sampling"
        )
    of_hidden = functools.partial(log_unnormalised_hidden, visible=visible)
    log_weight = of_hidden if n_hidden == n_units else log_unnormalised_visible
    block = min(2**n_units, BLOCK)

    def block_sum(first: Array) -> Array:
        return jax.nn.logsumexp(log_weight(params, _states(first + jnp.arange(block), n_units), n_classes))

    return jax.nn.logsumexp(jax.lax.map(block_sum, jnp.arange(0, 2**n_units, block)))


def _states(numbers: Array, n_units: int) -> Array:
    """The binary digits of whole numbers ``[states]``, ``[states, n_units]`` float32, lowest digit first."""
    return ((numbers[:, None] >> jnp.arange(n_units)) & 1).astype(jnp.float32)
