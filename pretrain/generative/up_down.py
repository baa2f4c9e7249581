"""The up-down algorithm: contrastive wake-sleep, which fine-tunes a deep belief network as a generative model.

Wake: the recognition layers sample the hidden states of the data, bottom up, and the generative layers learn to predict
each layer from the one above. The top machine learns by CD-k from there. Sleep: the top machine's chains are passed
down by the generative layers, and the recognition layers learn to recover what caused each layer::

    wake    h_l ~ q(h_l | h_{l-1}), h_0 = x      generative   d/dG log p(h_{l-1} | h_l)
    top     h_L -> k Gibbs steps -> s_L          machine      CD-k: <v h>_data - <v h>_chain
    sleep   s_{l-1} ~ p(s_{l-1} | s_l)           recognition  d/dR log q(s_l | s_{l-1})

each a delta rule, ``(state - prediction)`` times the states predicted from, averaged over the rows. Where the top
machine has label units, they hold the rows' labels in its data and are sampled in its chain. The sleep phase ends in
probabilities of the features, as in the paper, or in samples.

Reference: Hinton, Osindero & Teh, *A fast learning algorithm for deep belief nets*, Neural Computation 18 (2006),
appendix B. There the top machine's statistics are of sampled hidden units; here of their probabilities, which have the
same mean.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.generative.dbn import DBN
from pretrain.generative.gibbs import gibbs_chain, join_labels, machine
from pretrain.generative.partition import class_log_weights
from pretrain.layers import Dense, logit_mean
from pretrain.learners.rbm import RBMParams, hidden_probabilities, sample
from pretrain.network import Network
from pretrain.types import Batch, Inputs, Metrics, Needs


def delta_rule(layer: Dense, inputs: Array, states: Array) -> Dense:
    """The descent direction of the mean over rows of ``- log P(states | inputs)`` under a sigmoid layer.

    Args:
        layer: what predicts.
        inputs: ``[rows, n_in]``.
        states: ``[rows, n_out]``, zeros and ones, or probabilities.
    """
    error = layer(inputs) - states
    return Dense(inputs.T @ error / inputs.shape[0], error.mean(axis=0), layer.activation)


@struct.dataclass
class UpDown:
    """Contrastive wake-sleep of a `DBN`, through `pretrain.fine_tune` with ``params=DBN.from_stack(pretrained)``.

    Attributes:
        n_hidden: units of each hidden layer, from the bottom up; the last are the top machine's hidden units.
        n_classes: label units of the top machine; 0: none.
        k: Gibbs steps in the top machine.
        sample_visible: whether the sleep phase ends in samples of the features or in their probabilities.
        initial_scale: standard deviation of the initial weights of a network that is not pretrained.
    """

    n_hidden: tuple[int, ...] = struct.field(pytree_node=False)
    n_classes: int = struct.field(pytree_node=False, default=0)
    k: int = struct.field(pytree_node=False, default=3)
    sample_visible: bool = struct.field(pytree_node=False, default=False)
    initial_scale: float | Array = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.n_hidden, tuple) or not self.n_hidden:
            raise ValueError(f"n_hidden must be a tuple of at least one layer size; got {self.n_hidden!r}")
        check_sizes(k=self.k, **{f"n_hidden[{i}]": n for i, n in enumerate(self.n_hidden)})
        if self.n_classes:
            check_sizes(n_classes=self.n_classes)

    @property
    def inputs(self) -> Inputs:
        return "unit"

    @property
    def needs(self) -> tuple[Needs, ...]:
        return ("labels",) if self.n_classes else ()

    def init(self, key: Array, data: Batch) -> tuple[DBN, Any]:
        """Random weights, a layer's two sets equal; zero biases, but those of the features reproduce their means."""
        *sizes, n_top = (data.x.shape[-1], *self.n_hidden)
        *keys, top_key = jax.random.split(key, len(sizes))
        weights = [
            self.initial_scale * jax.random.normal(k, (n_in, n_out))
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]
        biases = [logit_mean(data.x), *(jnp.zeros((n,)) for n in sizes[1:])]
        n_visible = sizes[-1] + self.n_classes
        top = RBMParams(
            self.initial_scale * jax.random.normal(top_key, (n_visible, n_top)),
            jnp.concatenate([biases[-1], jnp.zeros((self.n_classes,))]),
            jnp.zeros((n_top,)),
        )
        recognition = tuple(Dense(w, jnp.zeros((w.shape[1],))) for w in weights)
        generative = tuple(Dense(w.T, bias) for w, bias in zip(weights, biases, strict=False))
        return DBN(recognition, generative, top, self.n_classes), ()

    def _check(self, params: DBN) -> None:
        sizes = (*(layer.bias.shape[-1] for layer in params.recognition), params.top.hidden_bias.shape[-1])
        if (sizes, params.n_classes) != (self.n_hidden, self.n_classes):
            raise ValueError(
                f"the network has hidden layers of {sizes} and {params.n_classes} label units, but UpDown was given "
                f"n_hidden={self.n_hidden} and n_classes={self.n_classes}: they must agree"
            )
        if params.generative and params.generative[0].activation == "linear":
            raise ValueError("UpDown is for binary features; this network's are Gaussian: pretrain it by BernoulliRBMs")

    def wake(self, params: DBN, x: Array, key: Array) -> list[Array]:
        """The data and the hidden states sampled above it, from the bottom up: ``[rows, units]`` each."""
        states = [x]
        for index, layer in enumerate(params.recognition):
            states.append(sample(jax.random.fold_in(key, index), layer(states[-1])))
        return states

    def sleep(self, params: DBN, state: Array, key: Array) -> list[Array]:
        """The states generated below ``state`` of the highest directed layer, from the features up to it."""
        states = [state]
        for index, layer in reversed(list(enumerate(params.generative))):
            below = layer(states[0])
            if index > 0 or self.sample_visible:
                below = sample(jax.random.fold_in(key, index), below)
            states.insert(0, below)
        return states

    def gradient(self, params: DBN, state: Any, batch: Batch, key: Array) -> tuple[DBN, Any, Metrics]:
        """The wake-sleep direction; its measure is the squared ``reconstruction_error`` of the rows by the chains that
        start at them, passed down.
        """
        self._check(params)
        n_classes, top = self.n_classes, params.top
        wake_key, chain_key, sleep_key = jax.random.split(key, 3)
        woken = self.wake(params, batch.x, wake_key)
        data = join_labels(woken[-1], batch.y, n_classes)
        chain = gibbs_chain(top, chain_key, data, self.k, n_classes).visible
        slept = self.sleep(params, chain[:, : chain.shape[1] - n_classes], sleep_key)

        recognised, dreamt = hidden_probabilities(top, data), hidden_probabilities(top, chain)
        rows = batch.x.shape[0]
        grads = DBN(
            recognition=tuple(map(delta_rule, params.recognition, slept[:-1], slept[1:])),
            generative=tuple(map(delta_rule, params.generative, woken[1:], woken[:-1])),
            top=RBMParams(
                weights=(chain.T @ dreamt - data.T @ recognised) / rows,
                visible_bias=chain.mean(axis=0) - data.mean(axis=0),
                hidden_bias=dreamt.mean(axis=0) - recognised.mean(axis=0),
            ),
            n_classes=n_classes,
        )
        return grads, state, {"reconstruction_error": jnp.square(batch.x - slept[0]).sum(axis=-1).mean()}

    def evaluate(self, params: DBN, batch: Batch, key: Array) -> Metrics:
        """``reconstruction_error`` and, with label units, the ``error`` in percent.

        The first is squared and summed over features, of a mean-field pass up to the top hidden units and down again
        (labels held at the rows' own): every array of the network takes part in it. It is no likelihood: wake-sleep
        follows the gradient of none, and the bound (`DBN.bound`) needs ``log Z``, without which it falls by growing
        weights alone. ``error`` is of the class of the least free energy in the top machine, given ``x`` passed up.
        """
        self._check(params)
        top, up = params.top, params.up(batch.x)
        hidden = hidden_probabilities(top, join_labels(up, batch.y, self.n_classes))
        visible = machine(top, self.n_classes).visible_units.mean(hidden @ top.weights.T + top.visible_bias)
        reconstruction = params.down(visible[:, : up.shape[1]])
        measures = {"reconstruction_error": jnp.square(batch.x - reconstruction).sum(axis=-1).mean()}
        if self.n_classes:
            scores = class_log_weights(top, up, self.n_classes)
            error = 100.0 * (scores.argmax(axis=-1) != batch.y).mean()
            finite = jnp.isfinite(scores).all()
            measures["error"] = jnp.where(finite, error, jnp.nan)
        return measures

    def layer(self, params: DBN) -> Network:
        """The recognition layers and the top machine's, label units left out."""
        return Network(params.layers())
