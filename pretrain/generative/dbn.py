"""The deep belief network: directed layers under a restricted Boltzmann machine; sampling, and its variational bound.

::

    p(x, h_1 .. h_L) = p(x | h_1) p(h_1 | h_2) .. p(h_{L-1} | h_L) p_RBM(h_L)
    p_RBM(h) = exp(-F(h)) / Z                 of the top machine, its own hidden units summed out
    q(h_1 .. h_L | x) = q(h_1 | x) q(h_2 | h_1) .. q(h_L | h_{L-1})

Every conditional is a product of sigmoid units: those of p are the generative layers, those of q the recognition
layers. (Given h_1, x may be Gaussian of variance 1 instead.) A greedily trained stack of RBMs is such a network, with
each layer's two sets of weights tied; one RBM is one with ``L = 0``. For any q::

    log p(x) >= E_q[log p(x, h) - log q(h | x)] = E_q[log p(x, h)] + H(q)

with equality where q is the true posterior. The expectation is a mean over samples of q. ``log q`` is averaged over
the same samples rather than put in as the entropy's closed form: it rises and falls with ``log p(x, h)``, so that the
difference varies much less, and not at all where q is the posterior. The log of the mean of ``p(x, h) / q(h | x)`` over
the samples is a tighter bound, at least in expectation.

References: Hinton, Osindero & Teh, *A fast learning algorithm for deep belief nets*, Neural Computation 18 (2006);
Salakhutdinov & Murray, ICML 2008 (the bound with an estimated ``Z``); Burda, Grosse & Salakhutdinov, ICLR 2016 (the
tighter one).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from pretrain import population, struct
from pretrain.generative.gibbs import check_clamped, check_machine, gibbs_chain, join_labels, machine
from pretrain.generative.partition import log_unnormalised_visible
from pretrain.layers import Dense, compose
from pretrain.learners.rbm import RBMParams, free_energy, sample
from pretrain.losses import reconstruction_loss
from pretrain.units import standard_normal

if TYPE_CHECKING:
    from pretrain.stack import Pretrained


class Samples(NamedTuple):
    """Attributes: ``x`` [n, features] samples, the ``probabilities`` [n, features] they were drawn from (of Gaussian
    units the means), and their ``labels`` [n], or None.
    """

    x: Array
    probabilities: Array
    labels: Array | None


class Bound(NamedTuple):
    """A lower bound on log-probabilities, in nats.

    Attributes:
        rows: ``[rows]`` the estimate for each row.
        standard_errors: ``[rows]`` of these, from the spread over the samples; NaN from one sample.
        importance: ``[rows]`` the log of the mean over samples of ``p(x, h) / q(h | x)``: never below ``rows``, and in
            expectation never above the log-probability.
    """

    rows: Array
    standard_errors: Array
    importance: Array

    @property
    def mean(self) -> Array:
        """The bound on the average log-probability."""
        return self.rows.mean()

    @property
    def standard_error(self) -> Array:
        """Of ``mean``, as an estimate for these rows: neither the choice of rows nor ``log_z``'s error is in it."""
        return jnp.sqrt(jnp.square(self.standard_errors).sum()) / self.rows.shape[0]


def log_probability(layer: Dense, below: Array, above: Array) -> Array:
    """``log p(below | above)`` in nats, ``[...]``, of units that ``layer`` predicts from those above: binary, or with a
    linear layer Gaussian of variance 1.
    """
    total = layer.preactivation(above)
    if layer.activation == "linear":
        return -0.5 * (jnp.square(below - total) + math.log(2.0 * math.pi)).sum(axis=-1)
    return -reconstruction_loss("cross_entropy", below, total)


def _drawn(key: Array, layer: Dense, means: Array) -> Array:
    """The units that ``layer`` predicts, drawn given their means."""
    return means + standard_normal(key, means.shape) if layer.activation == "linear" else sample(key, means)


@struct.dataclass
class DBN:
    """A deep belief network. Of a population, every array has a leading member axis.

    Attributes:
        recognition: layers up, from the bottom: ``q(h_1 = 1 | x)`` first. () where the network is one RBM.
        generative: layers down, from the bottom: ``p(x = 1 | h_1)`` first; with a linear one ``x`` is Gaussian of
            variance 1.
        top: the machine whose visible units are the highest layer and, last, the label units.
        n_classes: label units of the top machine.
    """

    recognition: tuple[Dense, ...]
    generative: tuple[Dense, ...]
    top: RBMParams
    n_classes: int = struct.field(pytree_node=False, default=0)

    @classmethod
    def from_stack(cls, pretrained: Pretrained, index: int | None = None) -> DBN:
        """A pretrained stack of Bernoulli RBMs. The highest may have label units; the lowest, if there is one above it,
        Gaussian visible units of variance 1.

        Args:
            pretrained: from `pretrain.pretrain`.
            index: which member; None: all, with the member axis kept (to be fine-tuned by `UpDown`).

        Raises:
            ValueError: if a stage is not such an RBM, or one below the top has label units.
        """
        recognition, generative = [], []
        for number, (stage, params) in enumerate(zip(pretrained.stages, pretrained.params, strict=True), 1):
            kind = type(stage.learner).__name__
            if not isinstance(params, RBMParams):
                raise ValueError(
                    f"a deep belief network is a stack of RBMs; got {kind} as stage {number}: give "
                    "pretrained.above(n), the stack without its n lowest stages, whose codes the network then models"
                )
            if getattr(stage.learner, "n_classes", 0) and number < len(pretrained.stages):
                raise ValueError(
                    f"only the top RBM may have label units; stage {number} of {len(pretrained.stages)} has"
                )
            if getattr(stage.learner, "doubled", "neither") != "neither":
                raise ValueError(
                    f"stage {number} is an RBM with doubled={stage.learner.doubled!r}, a layer of a deep Boltzmann "  # type: ignore[attr-defined]
                    "machine (DBM.from_stack): train it without, for a deep belief network"
                )
            learner: Any = population.broadcast(stage.learner, population.n_members(params))
            up, down = jax.vmap(lambda learner, params: (learner.layer(params), learner.decoder(params)))(
                learner, params
            )
            below = down.activation
            if up.activation != "sigmoid" or below not in (("sigmoid", "linear") if number == 1 else ("sigmoid",)):
                raise ValueError(
                    "the units of a deep belief network are Bernoulli units, the lowest may be Gaussian; the "
                    f"{kind} of stage {number} goes up by {up.activation} and down by {below} units: use BernoulliRBM"
                )
            if below == "linear" and (len(pretrained.stages) == 1 or params.log_variance is not None):
                raise ValueError(
                    "a Gaussian RBM in a deep belief network has another RBM above it, and variance 1; alone, or with "
                    "variances that were learned, annealed_importance_sampling(..., visible=GaussianUnits()) serves"
                )
            recognition.append(up)
            generative.append(down)
        n_classes = getattr(pretrained.stages[-1].learner, "n_classes", 0)
        dbn = cls(tuple(recognition[:-1]), tuple(generative[:-1]), pretrained.params[-1], n_classes)
        copied = jax.tree.map(jnp.copy, dbn)  # the loop consumes what it is given
        return copied if index is None else population.member(copied, index)

    def layers(self) -> tuple[Dense, ...]:
        """The layers up, the top machine's (without its label units) included: to predict, or to fine-tune."""
        n_binary = self.top.weights.shape[-2] - self.n_classes
        return (*self.recognition, Dense(self.top.weights[..., :n_binary, :], self.top.hidden_bias))

    def sample(self, key: Array, n: int, n_steps: Any, labels: Array | None = None) -> Samples:
        """Draws from the model: ``n`` Gibbs chains in the top machine, then down the generative layers.

        Args:
            key: a random key.
            n: how many samples.
            n_steps: Gibbs steps of the top machine, from samples of its visible biases.
            labels: ``[n]`` classes to draw examples of, or None to draw the labels too, if there are any.

        Raises:
            ValueError: of a population, or of labels that are no classes of this machine's.
        """
        if labels is not None:
            check_clamped(labels, n, self.n_classes)
            labels = jnp.asarray(labels)
        return self._sample(key, n, n_steps, labels)

    @functools.partial(jax.jit, static_argnames="n")
    def _sample(self, key: Array, n: int, n_steps: Any, labels: Array | None) -> Samples:
        check_machine(self.top, self.n_classes)
        start_key, chain_key, down_key = jax.random.split(key, 3)
        bias = jnp.broadcast_to(self.top.visible_bias, (n, self.top.visible_bias.shape[0]))
        start = machine(self.top, self.n_classes).visible_units.sample(start_key, bias)
        state, probabilities = gibbs_chain(self.top, chain_key, start, n_steps, self.n_classes, labels)
        if self.n_classes:
            labels = state[:, -self.n_classes :].argmax(axis=-1)
            state, probabilities = state[:, : -self.n_classes], probabilities[:, : -self.n_classes]
        for index, layer in reversed(list(enumerate(self.generative))):
            probabilities = layer(state)
            state = _drawn(jax.random.fold_in(down_key, index), layer, probabilities)
        return Samples(state, probabilities, labels)

    def log_ratio(self, x: Array, log_z: Array, key: Array, y: Array | None = None) -> Array:
        """``log p(x, h) - log q(h | x)`` in nats, ``[rows]``, at one sample h of q; with ``y``, of ``p(x, y, h)``."""
        total = jnp.zeros(x.shape[:-1])
        below = x
        for index, (up, down) in enumerate(zip(self.recognition, self.generative, strict=True)):
            above = sample(jax.random.fold_in(key, index), up(below))
            total += log_probability(down, below, above) - log_probability(up, above, below)
            below = above
        if y is None:
            return total + log_unnormalised_visible(self.top, below, self.n_classes) - log_z
        return total - free_energy(self.top, join_labels(below, y, self.n_classes)) - log_z

    def bound(
        self, x: Array, log_z: Array, key: Array | None = None, n_samples: int = 10, y: Array | None = None
    ) -> Bound:
        """The variational lower bound on ``log p(x)``; the labels, if there are any, are summed out.

        Args:
            x: ``[rows, features]`` zeros and ones, or real values of Gaussian units.
            log_z: of the top machine, exact (`log_partition`) or estimated (`annealed_importance_sampling`).
            key: a random key; None: a fixed one.
            n_samples: samples of q a row.
            y: ``[rows]`` labels, to bound ``log p(x, y)`` instead.

        Raises:
            ValueError: of a population, of labels that are no classes of this machine's, or of rows of other features
                or, of binary units, out of [0, 1].
        """
        if y is not None:
            check_clamped(y, len(x), self.n_classes)
            y = jnp.asarray(y)
        if self.generative and jnp.shape(x)[-1] != (n := self.generative[0].n_out):
            raise ValueError(f"x must have {n} features, the network's visible units; got {jnp.shape(x)[-1]}")
        binary = not self.generative or self.generative[0].activation == "sigmoid"
        if binary and not isinstance(x, Tracer) and not 0.0 <= np.min(x) <= np.max(x) <= 1.0:
            raise ValueError(f"x must lie in [0, 1], for binary units; got {np.min(x)} to {np.max(x)}")
        return self._bound(jnp.asarray(x), log_z, key, n_samples, y)

    @functools.partial(jax.jit, static_argnames="n_samples")
    def _bound(self, x: Array, log_z: Array, key: Array | None, n_samples: int, y: Array | None) -> Bound:
        check_machine(self.top, self.n_classes)
        keys = jax.random.split(jax.random.key(0) if key is None else key, n_samples)
        ratios = jax.lax.map(lambda key: self.log_ratio(x, log_z, key, y), keys)
        errors = ratios.std(axis=0, ddof=1) / jnp.sqrt(n_samples)
        return Bound(ratios.mean(axis=0), errors, jax.nn.logsumexp(ratios, axis=0) - jnp.log(n_samples))

    def up(self, x: Array) -> Array:
        """``x`` ``[..., features]`` passed up to the highest directed layer, as probabilities: ``[..., units]``."""
        return compose(self.recognition, x)

    def down(self, h: Array) -> Array:
        """The highest directed layer ``[..., units]`` passed down to the features, as means."""
        return compose(self.generative[::-1], h)
