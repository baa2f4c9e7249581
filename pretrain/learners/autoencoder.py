"""The autoencoder: an encoder and a decoder trained to reconstruct the input, clean or corrupted.

::

    code           h = s(x~ W + b)                  x~ = corruption(x); x~ = x without one; s: sigmoid, or another
    reconstruction z = h V + c                      tied: V = W^T
    cross-entropy  L = - sum_i [x_i log sigmoid(z_i) + (1 - x_i) log(1 - sigmoid(z_i))]
    squared error  L = sum_i (x_i - z_i)^2
    objective      mean of L over rows, plus penalty(h)

With a corruption it is a denoising autoencoder; with a penalty (`pretrain.penalties`) a sparse or a contractive one.
References: Bengio, Lamblin, Popovici & Larochelle, NIPS 2006 (autoassociators); Vincent et al., JMLR 11:3371-3408
(2010).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.corruption import Corruption, NoCorruption
from pretrain.layers import ACTIVATIONS, Dense, logit_mean, uniform
from pretrain.losses import Loss, check_loss, reconstruction_loss
from pretrain.penalties import KLSparsity, NoPenalty, Penalty
from pretrain.types import Batch, Inputs, Metrics


class AutoencoderParams(NamedTuple):
    """Attributes: ``weights`` [visible, hidden], ``bias`` [hidden], ``decoder_bias`` [visible], and
    ``decoder_weights`` [hidden, visible], or None where they are tied to the encoder's.
    """

    weights: Array
    bias: Array
    decoder_weights: Array | None
    decoder_bias: Array


@struct.dataclass
class Autoencoder:
    """A one-layer autoencoder and how it is trained.

    Attributes:
        n_hidden: code units.
        tied: whether the decoder's weights are the encoder's, transposed.
        loss: ``cross_entropy`` (inputs in [0, 1], sigmoid output) or ``squared_error`` (real inputs, linear output).
        activation: of the code, a key of `pretrain.layers.ACTIVATIONS`.
        corruption: of the input, while training.
        initial_scale: initial weights are U(-initial_scale/sqrt(n_in), initial_scale/sqrt(n_in)).
        penalty: on the code of what the encoder saw: the corrupted input while training.
    """

    n_hidden: int = struct.field(pytree_node=False)
    tied: bool = struct.field(pytree_node=False, default=True)
    loss: Loss = struct.field(pytree_node=False, default="cross_entropy")
    activation: str = struct.field(pytree_node=False, default="sigmoid")
    corruption: Corruption = NoCorruption()
    initial_scale: float | Array = 1.0
    penalty: Penalty = NoPenalty()

    needs = ()

    def __post_init__(self) -> None:
        check_sizes(n_hidden=self.n_hidden)
        check_loss(self.loss)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        if isinstance(self.penalty, KLSparsity) and self.activation != "sigmoid":
            raise ValueError(
                f"KLSparsity takes codes for probabilities, in (0, 1); got activation {self.activation!r}: "
                "use activation='sigmoid', or L1 on this code"
            )

    @property
    def inputs(self) -> Inputs:
        return "unit" if self.loss == "cross_entropy" else "real"

    def init(self, key: Array, data: Batch) -> tuple[AutoencoderParams, Any]:
        """Uniform weights and zero biases; the decoder's biases reproduce each feature's mean."""
        n_visible = data.x.shape[-1]
        encoder_key, decoder_key = jax.random.split(key)
        decoder = None if self.tied else uniform(decoder_key, self.n_hidden, n_visible, self.initial_scale)
        weights = uniform(encoder_key, n_visible, self.n_hidden, self.initial_scale)
        decoder_bias = logit_mean(data.x) if self.loss == "cross_entropy" else data.x.mean(axis=0)
        return AutoencoderParams(weights, jnp.zeros((self.n_hidden,)), decoder, decoder_bias), ()

    def _objective(self, params: AutoencoderParams, x: Array, seen: Array) -> tuple[Array, Metrics]:
        """What is descended, and what it is made of."""
        layer = self.layer(params)
        code = layer(seen)
        loss = reconstruction_loss(self.loss, x, self.decoder(params).preactivation(code)).mean()
        if isinstance(self.penalty, NoPenalty):
            return loss, {"loss": loss}
        penalty = self.penalty(layer, seen, code)
        return loss + penalty, {"loss": loss, "penalty": penalty}

    def gradient(self, params: AutoencoderParams, state: Any, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        """The gradient of the mean reconstruction loss of the corrupted minibatch, and of the penalty.

        Reports ``loss``, of the reconstruction alone, and beside it the ``penalty`` where there is one.
        """
        seen = self.corruption(batch.x, key)
        grads, measures = jax.grad(self._objective, has_aux=True)(params, batch.x, seen)
        return grads, state, measures

    def evaluate(self, params: AutoencoderParams, batch: Batch, key: Array) -> Metrics:
        """``loss``: the mean reconstruction loss of the *clean* input, summed over features; and the ``penalty`` of its
        code, where there is one.
        """
        return self._objective(params, batch.x, batch.x)[1]

    def layer(self, params: AutoencoderParams) -> Dense:
        """The encoder."""
        return Dense(params.weights, params.bias, self.activation)

    def decoder(self, params: AutoencoderParams) -> Dense:
        """The decoder."""
        weights = params.weights.T if params.decoder_weights is None else params.decoder_weights
        return Dense(weights, params.decoder_bias, "sigmoid" if self.loss == "cross_entropy" else "linear")
