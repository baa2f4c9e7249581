"""The deep autoencoder: a stack unrolled into an encoder and a decoder, fine-tuned to reconstruct the input.

::

    x_hat = d_1(... d_L(e_L(... e_1(x))))
    L = cross-entropy(x, x_hat), d_1 ending in a sigmoid; or squared error, d_1 ending in a linear layer

Reference: Hinton & Salakhutdinov, *Reducing the dimensionality of data with neural networks*, Science 313 (2006).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.layers import ACTIVATIONS, Dense, compose, uniform
from pretrain.losses import Loss, check_loss, reconstruction_loss
from pretrain.network import Unrolled
from pretrain.types import Batch, Inputs, Metrics


@struct.dataclass
class DeepAutoencoder:
    """A multi-layer autoencoder; `pretrain.tuning.unroll` turns a pretrained stack into its parameters.

    Attributes:
        n_hidden: units of the encoder's layers, from the bottom up; the decoder mirrors them.
        loss: ``cross_entropy`` (inputs in [0, 1], sigmoid output) or ``squared_error`` (linear output).
        code_activation: of the innermost layer, a key of `pretrain.layers.ACTIVATIONS`; linear in the 2006 paper.
        initial_scale: initial weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
    """

    n_hidden: tuple[int, ...] = struct.field(pytree_node=False)
    loss: Loss = struct.field(pytree_node=False, default="cross_entropy")
    code_activation: str = struct.field(pytree_node=False, default="sigmoid")
    initial_scale: float | Array = 1.0

    needs = ()

    def __post_init__(self) -> None:
        if not isinstance(self.n_hidden, tuple) or not self.n_hidden:
            raise ValueError(f"n_hidden must be a tuple of at least one layer size; got {self.n_hidden!r}")
        check_sizes(**{f"n_hidden[{i}]": n for i, n in enumerate(self.n_hidden)})
        check_loss(self.loss)
        if self.code_activation not in ACTIVATIONS:
            raise ValueError(f"code_activation must be one of {', '.join(ACTIVATIONS)}; got {self.code_activation!r}")

    @property
    def inputs(self) -> Inputs:
        return "unit" if self.loss == "cross_entropy" else "real"

    def init(self, key: Array, data: Batch) -> tuple[Unrolled, Any]:
        """Random sigmoid layers; with squared error the last one is linear."""
        sizes = (data.x.shape[-1], *self.n_hidden)
        both = (*sizes, *sizes[-2::-1])
        keys = jax.random.split(key, len(both) - 1)
        layers = [
            Dense(uniform(k, n_in, n_out, self.initial_scale), jnp.zeros((n_out,)), "sigmoid")
            for k, n_in, n_out in zip(keys, both[:-1], both[1:], strict=True)
        ]
        if self.loss == "squared_error":
            layers[-1] = Dense(layers[-1].weights, layers[-1].bias, "linear")
        depth = len(self.n_hidden)
        layers[depth - 1] = layers[depth - 1].replace(activation=self.code_activation)  # type: ignore[attr-defined]
        return Unrolled(tuple(layers[:depth]), tuple(layers[depth:])), ()

    def _check(self, params: Unrolled) -> None:
        found = tuple(layer.n_out for layer in params.encoder), getattr(params.encoder[-1], "activation", None)
        if found != (self.n_hidden, self.code_activation):
            raise ValueError(
                f"the encoder has layers of {found[0]} and a {found[1]} code, but DeepAutoencoder was given "
                f"n_hidden={self.n_hidden} and code_activation={self.code_activation!r}: they must agree"
            )

    def _loss(self, params: Unrolled, x: Array) -> Array:
        self._check(params)
        *below, last = params.decoder
        expected = "sigmoid" if self.loss == "cross_entropy" else "linear"
        if last.activation != expected:
            raise ValueError(
                f"loss {self.loss!r} needs a decoder that ends in a {expected} layer; this one ends in a "
                f"{last.activation} layer: choose the loss that its lowest layer was trained with"
            )
        preactivation = last.preactivation(compose(below, params.encode(x)))
        return reconstruction_loss(self.loss, x, preactivation).mean()

    def gradient(self, params: Unrolled, state: Any, batch: Batch, key: Array) -> tuple[Unrolled, Any, Metrics]:
        """The gradient of the mean reconstruction loss through all layers."""
        loss, grads = jax.value_and_grad(self._loss)(params, batch.x)
        return grads, state, {"loss": loss}

    def evaluate(self, params: Unrolled, batch: Batch, key: Array) -> Metrics:
        """``loss`` as trained, and ``squared_error`` summed over features (the measure of the 2006 paper)."""
        squared = jnp.square(batch.x - params.reconstruct(batch.x)).sum(axis=-1).mean()
        return {"loss": self._loss(params, batch.x), "squared_error": squared}

    def layer(self, params: Unrolled) -> Any:
        """The encoder, as one layer."""
        return params.encoder_network
