"""Signs of health, taken once an epoch on a probe minibatch: how far updates move weights, how many units are stuck.

::

    update_ratio    = mean |update| / mean |weight|, over all matrices
    dead_units      = share of hidden units that respond to no row of the probe
    saturated_units = share of hidden units that respond fully to every row of the probe

An update ratio of about 1e-3 is healthy (Hinton, *A practical guide to training restricted Boltzmann machines*, UTML TR
2010-003, section 7). A stuck unit tells its input's rows apart no longer, and passes no gradient on. What "respond"
means depends on the activation::

    activation   dead                     saturated
    sigmoid      h <= 0.05 on all rows    h >= 0.95 on all rows
    tanh         |h| <= 0.05 on all rows  h >= 0.95 on all rows, or h <= -0.95 on all rows
    relu         h == 0 on all rows       -
    linear       -                        -

A unit that is at one end for some rows and at the other for others is neither: it is a binary feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from pretrain.layers import Dense
from pretrain.network import Network, Unrolled
from pretrain.types import Batch, Layer, Learner, Metrics

if TYPE_CHECKING:
    from pretrain.progress import Fit

NEAR = 0.05
"""How near to an end of its range a unit's response counts as there."""


def diagnose(
    learner: Learner, transform: optax.GradientTransformation, fit: Fit, batch: Batch, key: Array
) -> dict[str, Array]:
    """One member's signs of health; nothing is trained.

    Args:
        learner: the objective.
        transform: the optimiser.
        fit: the member's run.
        batch: the probe: some training rows, as the learner sees them.
        key: for the gradient.

    Returns:
        ``update_ratio``, of the update that the probe's gradient would make, and the shares of `stuck_units`.
    """
    grads, _, _ = learner.gradient(fit.params, fit.state, batch, key)
    updates, _ = transform.update(grads, fit.opt_state, fit.params)
    return update_ratio(fit.params, updates) | stuck_units(learner.layer(fit.params), batch.x)


def update_ratio(params: Any, updates: Any) -> Metrics:
    """``update_ratio`` over the leaves that are matrices; left out where there is none."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(updates), strict=True)
    matrices = [(weights, update) for weights, update in pairs if weights.ndim >= 2]
    if not matrices:
        return {}
    moved = sum(jnp.abs(update).sum() for _, update in matrices)
    size = sum(jnp.abs(weights).sum() for weights, _ in matrices)
    return {"update_ratio": moved / jnp.maximum(size, jnp.finfo(jnp.float32).tiny)}


def stuck_units(layer: Layer, x: Array) -> Metrics:
    """``dead_units`` and ``saturated_units`` over all hidden units, NaN where a response is no finite number.

    A share that no activation of the layer defines is left out, as are both where its parts are not `Dense`.

    Args:
        layer: a layer, or a network, of which the hidden layers or the encoder are looked at.
        x: ``[rows, features]``.
    """
    dead, saturated, finite = [], [], jnp.array(True)
    for dense in hidden_layers(layer):
        x = dense(x)
        finite &= jnp.isfinite(x).all()
        low, high = x.min(axis=0), x.max(axis=0)
        match dense.activation:
            case "sigmoid":
                dead.append(high <= NEAR)
                saturated.append(low >= 1.0 - NEAR)
            case "tanh":
                dead.append((low >= -NEAR) & (high <= NEAR))
                saturated.append((low >= 1.0 - NEAR) | (high <= NEAR - 1.0))
            case "relu":
                dead.append(high <= 0.0)
    units = {"dead_units": dead, "saturated_units": saturated}
    shares = {name: jnp.concatenate(stuck).mean() for name, stuck in units.items() if stuck}
    return {name: jnp.where(finite, share, jnp.nan) for name, share in shares.items()}


def hidden_layers(layer: Layer) -> tuple[Dense, ...]:
    """The layers whose units are hidden: not a classifier's output, not a decoder; () if they are not `Dense`."""
    match layer:
        case Network():
            layers = layer.layers[:-1] if layer.head else layer.layers
        case Unrolled():
            layers = layer.encoder
        case _:
            layers = (layer,)
    return tuple(layers) if all(isinstance(part, Dense) for part in layers) else ()  # type: ignore[arg-type]
