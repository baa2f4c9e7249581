"""Block Gibbs sampling of an RBM, with or without a group of label units in its visible layer.

The last ``n_classes`` visible units, if there are any, are one softmax group: exactly one of them is on. Given the
hidden units the two parts are independent::

    P(v_i = 1 | h) = sigmoid(b_i + sum_j W_ij h_j)           i: the binary visible units
    P(label = k | h) = softmax_k(b_k + sum_j W_kj h_j)       k: the label units
    P(h_j = 1 | v) = sigmoid(c_j + sum_i v_i W_ij)           i: all visible units

A step of the chain draws all hidden units given the visible ones, then all visible units given those. With labels
clamped it samples ``P(v | label)``: how a deep belief network draws a digit of a given class. Gaussian visible units
are drawn from ``N(b_i + sum_j W_ij h_j, s_i^2)`` and heard as ``v_i / s_i^2``.

References: Hinton, Osindero & Teh, *A fast learning algorithm for deep belief nets*, Neural Computation 18 (2006);
Larochelle & Bengio, *Classification using discriminative restricted Boltzmann machines*, ICML 2008 (label units).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from pretrain.checks import check_labels
from pretrain.learners.rbm import RBM, RBMParams, sample
from pretrain.units import BernoulliUnits, Beside, GaussianUnits, SoftmaxUnits, Units


class Chains(NamedTuple):
    """Where Gibbs chains are.

    Attributes:
        visible: ``[chains, visible]`` samples, label units included.
        probabilities: ``[chains, visible]`` those that the samples were drawn from (of Gaussian units the means).
    """

    visible: Array
    probabilities: Array


def check_machine(params: RBMParams, n_classes: int, visible: Units = BernoulliUnits()) -> None:
    """Checks that these are the parameters of one RBM with such visible units and so many label units.

    Raises:
        ValueError: a population, learned variances of units that are not Gaussian, more label units than visible units,
            or groups of softmax units that are not whole.
    """
    if params.weights.ndim != 2:
        raise ValueError(
            f"weights must be [visible, hidden]; got shape {tuple(params.weights.shape)}: take one machine with "
            "pretrain.member(params, index), or jax.vmap over the members"
        )
    first = visible.first if isinstance(visible, Beside) else visible
    if params.log_variance is not None and not isinstance(first, GaussianUnits):
        raise ValueError(
            f"this machine has Gaussian visible units (log_variance is given), not {visible!r}: pass "
            "visible=GaussianUnits(), or the even_units of a deep Boltzmann machine"
        )
    n_others = n_classes + (visible.n_last if isinstance(visible, Beside) else 0)
    if params.log_variance is not None and len(params.log_variance) + n_others != params.weights.shape[0]:
        raise ValueError(
            f"{len(params.log_variance)} of the {params.weights.shape[0]} visible units are Gaussian, {n_others} are "
            "said to be of another kind: of a deep Boltzmann machine pass visible=machine.even_units"
        )
    if not 0 <= n_classes < params.weights.shape[0]:
        raise ValueError(
            f"n_classes must be from 0 to {params.weights.shape[0] - 1}, for {params.weights.shape[0]} visible units "
            f"of which the last n_classes are labels; got {n_classes}"
        )
    n_others = params.weights.shape[0] - n_classes
    if isinstance(visible, SoftmaxUnits) and n_others % visible.n_states:
        raise ValueError(f"{n_others} visible units do not make whole groups of {visible.n_states} states")


def machine(params: RBMParams, n_classes: int = 0, visible: Units = BernoulliUnits()) -> RBM:
    """The learner whose parameters these are: what knows its layers' energies, means and draws."""
    return RBM(params.weights.shape[-1], visible, n_classes=n_classes)


def check_clamped(labels: Any, rows: int, n_classes: int) -> None:
    """Checks labels that are given to a machine's label units, as far as their values are known (not inside a trace).

    Raises:
        ValueError: the machine has none, or they are not ``rows`` integers in ``0 .. n_classes - 1``.
    """
    if n_classes == 0:
        raise ValueError("labels were given but this machine has no label units: leave them out")
    if not isinstance(labels, Tracer):
        check_labels(np.asarray(labels), rows, n_classes, "labels")


def join_labels(x: Array, labels: Array | None, n_classes: int) -> Array:
    """The visible layer ``[..., units + n_classes]``: binary units ``[..., units]`` and labels ``[...]`` as 0 and 1."""
    if n_classes == 0:
        return x
    assert labels is not None
    return jnp.concatenate([x, jax.nn.one_hot(labels, n_classes, dtype=x.dtype)], axis=-1)


def gibbs_step(
    params: RBMParams,
    key: Array,
    values: Array,
    n_classes: int = 0,
    labels: Array | None = None,
    visible: Units = BernoulliUnits(),
) -> Chains:
    """``v -> h -> v``; ``labels`` ``[chains]`` clamps the label units."""
    rbm = machine(params, n_classes, visible)
    hidden_key, visible_key = jax.random.split(key)
    hidden = sample(hidden_key, jax.nn.sigmoid(rbm.hidden_input(params, values)))
    total, units = rbm.visible_input(params, hidden), rbm.visible_units
    chains = Chains(units.sample(visible_key, total, params.log_variance), units.mean(total))
    if labels is None:
        return chains
    return Chains(*(join_labels(part[..., :-n_classes], labels, n_classes) for part in chains))


def gibbs_chain(
    params: RBMParams,
    key: Array,
    start: Array,
    n_steps: Any,
    n_classes: int = 0,
    labels: Array | None = None,
    visible: Units = BernoulliUnits(),
) -> Chains:
    """Runs Gibbs chains side by side.

    Args:
        params: the machine; its last ``n_classes`` visible units are label units.
        key: a random key.
        start: ``[chains, visible]`` visible states to start from, label units included.
        n_steps: how many steps; may be traced. After 0 the chains are where they started.
        n_classes: how many label units there are.
        labels: ``[chains]`` integers to which the label units are clamped, or None to sample them.
        visible: kind of the other visible units, Bernoulli, Gaussian (with its variances where these were learned) or
            softmax.

    Raises:
        ValueError: if the shapes do not agree.
    """
    check_machine(params, n_classes, visible)
    if start.shape[-1] != params.weights.shape[0]:
        raise ValueError(
            f"start must have {params.weights.shape[0]} visible units, label units included; got {start.shape[-1]}"
        )
    if labels is not None:
        check_clamped(labels, len(start), n_classes)
        start = join_labels(start[..., :-n_classes], labels, n_classes)

    def step(index: Array, chains: Chains) -> Chains:
        return gibbs_step(params, jax.random.fold_in(key, index), chains.visible, n_classes, labels, visible)

    return jax.lax.fori_loop(0, n_steps, step, Chains(start, start))
