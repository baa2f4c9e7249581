"""The parameters of a deep Boltzmann machine: the stack they come from, and what follows from them alone.

**From a greedy stack.** Of two machines, one trained on the other, both are models of the layer between them. The lower
one tells that layer what is below twice, the upper one what is above::

    lower   logit p(h | below) = 2 below W + c             upper   logit p(h | above) = 2 W' above + b
    the geometric mean of both, normalised, has the mean of their logits:   below W + W' above + (b + c) / 2

which is the layer's conditional in a deep Boltzmann machine of weights W and W' and the bias ``(b + c) / 2``. The
lowest and the highest layer hear one side only, and once, in the stack as in the machine: their biases are kept.

Label units beside the input of the highest machine (weights U, biases d) shape what it learns and are then left out:
what it hears of a label not known, ``U' softmax(d)``, goes to its hidden biases.

**As a restricted Boltzmann machine.** A layer is joined to its neighbours only, so that the even layers (v, h2, ..) are
independent given the odd ones (h1, h3, ..), and these given those: the energy is that of a restricted machine with the
even layers on its visible side and the odd ones on its hidden side, its weights in blocks. They have one partition
function.

References: Salakhutdinov & Hinton, *Deep Boltzmann machines*, AISTATS 2009; *An efficient learning procedure for deep
Boltzmann machines*, Neural Computation 24 (2012).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import entr

from pretrain import population
from pretrain.checks import check_sizes
from pretrain.layers import Dense, MeanField
from pretrain.learners.rbm import RBM, RBMParams
from pretrain.units import BernoulliUnits, GaussianUnits, Units

if TYPE_CHECKING:
    from pretrain.stack import Pretrained


class DBMParams(NamedTuple):
    """Attributes: ``weights`` of each hidden layer, ``[units below, units]``, and ``biases`` of each layer,
    ``[units]``, the visible one first. Of a population, every array has a leading member axis.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @property
    def n_hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer, whether or not there is a member axis."""
        return tuple(bias.shape[-1] for bias in self.biases[1:])


def from_stack(pretrained: Pretrained, index: int | None = None) -> DBMParams:
    """A pretrained stack of RBMs as one deep Boltzmann machine.

    Args:
        pretrained: from `pretrain.pretrain`: one RBM, or RBMs of which the lowest is doubled "up", the highest "down"
            and those between "both"; the highest may have label units.
        index: which member; None: all, with the member axis kept.

    Raises:
        ValueError: if a stage is no such RBM.
    """
    depth = len(pretrained.stages)
    doubled = ("neither",) if depth == 1 else ("up", *("both",) * (depth - 2), "down")
    for number, (stage, expected) in enumerate(zip(pretrained.stages, doubled, strict=True), 1):
        machine = stage.learner
        if not isinstance(machine, RBM):
            raise ValueError(
                f"a deep Boltzmann machine is a stack of RBMs; got {type(machine).__name__} as stage {number}: give "
                "pretrained.above(n), the stack without its n lowest stages, whose codes the machine then models"
            )
        if machine.doubled != expected:
            raise ValueError(
                f"stage {number} of {depth} must be an RBM with doubled={expected!r} to become a layer of a deep "
                f"Boltzmann machine; got doubled={machine.doubled!r}: train it so"
            )
        kinds = {"hidden": machine.hidden} if number == 1 else {"hidden": machine.hidden, "visible": machine.visible}
        for side, units in kinds.items():
            if not isinstance(units, BernoulliUnits):
                raise ValueError(
                    f"the hidden layers of a deep Boltzmann machine are Bernoulli units; got {side} "
                    f"{type(units).__name__} in stage {number}"
                )
        check_visible(machine.visible)
        if machine.n_classes and machine.doubled != "down":
            raise ValueError(
                "only the highest RBM of at least two, doubled 'down', may have label units; stage "
                f"{number} of {depth} has {machine.n_classes}: train it without"
            )
    machines = [
        _without_labels(stage.learner, params)
        for stage, params in zip(pretrained.stages, pretrained.params, strict=True)
    ]
    between = [0.5 * (below.hidden_bias + above.visible_bias) for below, above in itertools.pairwise(machines)]
    params = DBMParams(
        tuple(machine.weights for machine in machines),
        (machines[0].visible_bias, *between, machines[-1].hidden_bias),
    )
    copied = jax.tree.map(jnp.copy, params)  # the loop consumes what it is given
    return copied if index is None else population.member(copied, index)


def _without_labels(machine: Any, params: RBMParams) -> RBMParams:
    """The parameters but for those of label units, whose input to the hidden units is that of a label not known."""
    if not machine.n_classes:
        return params
    n = params.visible_bias.shape[-1] - machine.n_classes
    unknown = jax.nn.softmax(params.visible_bias[..., n:], axis=-1)
    heard = jnp.einsum("...k,...kh->...h", unknown, params.weights[..., n:, :])
    return RBMParams(params.weights[..., :n, :], params.visible_bias[..., :n], params.hidden_bias + heard)


def check_visible(units: object) -> None:
    """Checks that a deep Boltzmann machine may have such visible units.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(units, BernoulliUnits | GaussianUnits) or getattr(units, "learn_variance", False):
        raise ValueError(
            "the visible units of a deep Boltzmann machine are Bernoulli units or Gaussian ones of variance 1; got "
            f"{units!r}: use BernoulliUnits() or GaussianUnits()"
        )


def total_input(params: DBMParams, states: Any, layer: int) -> Array:
    """What the units of a layer hear from both neighbours, and their bias: ``[..., units]``."""
    total = params.biases[layer]
    if layer > 0:
        total = total + states[layer - 1] @ params.weights[layer - 1]
    if layer < len(params.weights):
        total = total + states[layer + 1] @ params.weights[layer].T
    return total


def sweep(params: DBMParams, heard: Array, means: tuple[Array, ...]) -> tuple[Array, ...]:
    """One mean-field sweep; ``heard`` ``[rows, h1]`` is ``x W_1``, which no sweep changes."""
    above = DBMParams(params.weights[1:], params.biases[1:])
    updated = list(means)
    for layer in (*range(0, len(means), 2), *range(1, len(means), 2)):  # h1 is number 0 here
        total = total_input(above, updated, layer)
        updated[layer] = jax.nn.sigmoid(total + heard if layer == 0 else total)
    return tuple(updated)


def start_chains(visible: Units, params: DBMParams, key: Array, n: int) -> tuple[Array, ...]:
    """Samples of the even layers' biases, ``[n, units]`` each."""
    return tuple(
        _units(visible, layer).sample(jax.random.fold_in(key, layer), jnp.broadcast_to(bias, (n, *bias.shape)))
        for layer, bias in list(enumerate(params.biases))[::2]
    )


def gibbs(visible: Units, params: DBMParams, chains: tuple[Array, ...], key: Array, n_steps: Any) -> tuple[Array, ...]:
    """All layers after so many steps from these even ones, which were last drawn given the odd ones there are."""
    n_rows = len(chains[0])
    start = [jnp.zeros((n_rows, len(bias))) for bias in params.biases]
    start[::2] = chains

    def step(index: Any, states: tuple[Array, ...]) -> tuple[Array, ...]:
        drawn, step_key = list(states), jax.random.fold_in(key, index)
        for layer in (*range(1, len(drawn), 2), *range(0, len(drawn), 2)):
            total = total_input(params, drawn, layer)
            drawn[layer] = _units(visible, layer).sample(jax.random.fold_in(step_key, layer), total)
        return tuple(drawn)

    return jax.lax.fori_loop(0, n_steps, step, tuple(start))


def _units(visible: Units, layer: int) -> Units:
    return BernoulliUnits() if layer else visible


def statistics(states: Any) -> DBMParams:
    """The means over rows of what the energy is linear in, shaped like the parameters."""
    products = [below.T @ above / len(below) for below, above in itertools.pairwise(states)]
    return DBMParams(tuple(products), tuple(state.mean(axis=0) for state in states))


def hidden_energy(params: DBMParams, x: Array, means: tuple[Array, ...]) -> Array:
    """The mean energy under a factorial posterior but for the part of ``x`` alone, ``[rows]``."""
    layers = zip(params.weights, params.biases[1:], (x, *means), means, strict=False)
    return -jnp.asarray(sum(((below @ weights + bias) * q).sum(axis=-1) for weights, bias, below, q in layers))


def entropy(means: tuple[Array, ...]) -> Array:
    """The entropy of a factorial posterior in nats, ``[rows]``."""
    return jnp.asarray(sum((entr(q) + entr(1.0 - q)).sum(axis=-1) for q in means))


def bipartite(params: DBMParams) -> RBMParams:
    """The even layers as one side, in order, the odd ones as the other: weights in blocks."""
    even, odd = range(0, len(params.biases), 2), range(1, len(params.biases), 2)

    def block(row: int, column: int) -> Array:
        if column == row + 1:
            return params.weights[row]
        if row == column + 1:
            return params.weights[column].T
        return jnp.zeros((params.biases[row].shape[0], params.biases[column].shape[0]))

    weights = jnp.block([[block(row, column) for column in odd] for row in even])
    sides = [jnp.concatenate([params.biases[layer] for layer in side]) for side in (even, odd)]
    return RBMParams(weights, *sides)


def upward(params: DBMParams) -> tuple[Dense, ...]:
    """The layers of the pass up in which every hidden layer but the highest hears its input twice, in place of what it
    would hear from above.
    """
    *lower, highest = params.weights
    weights = (*(2.0 * weights for weights in lower), highest)
    return tuple(Dense(heard, bias) for heard, bias in zip(weights, params.biases[1:], strict=True))


def discriminative(params: DBMParams, steps: int) -> tuple[MeanField | Dense, ...]:
    """One member's network for fine-tuning, see `pretrain.generative.dbm.DBM.discriminative_layers`.

    Raises:
        ValueError: of a machine with one hidden layer.
    """
    check_sizes(steps=steps)
    if len(params.weights) < 2:
        raise ValueError(
            "a mean-field second layer needs at least two hidden layers; got one: its posterior is exact, fine-tune "
            "dbm.layer(params).layers"
        )
    n_visible, n_second = params.weights[0].shape[0], params.weights[1].shape[1]
    joined = bipartite(params)
    mean_field = MeanField(
        weights_in=joined.weights[:n_visible],
        weights=joined.weights[n_visible:].T,
        bias_odd=joined.hidden_bias,
        bias_even=joined.visible_bias[n_visible:],
        n_second=n_second,
        steps=steps,
    )
    first = Dense(jnp.concatenate([params.weights[0], params.weights[1].T]), params.biases[1])
    return mean_field, first, *upward(params)[1:]
