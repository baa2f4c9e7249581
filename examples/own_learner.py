"""Write your own learner and run it through the stack: independent components with a reconstruction cost.

|x W W' - x|^2 + sparsity * sum log cosh(x W)        Le, Karpenko, Ngiam & Ng, NIPS 2011

python examples/own_learner.py
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pretrain as pt
from pretrain import struct


class Params(NamedTuple):
    weights: jax.Array


@struct.dataclass
class ReconstructionICA:
    n_hidden: int = struct.field(pytree_node=False)  # a size: static
    sparsity: float | jax.Array = 0.1  # a number: a leaf, so that a population may have one value a member
    inputs = "real"  # what it takes: any numbers
    needs = ()  # what it reads besides x: no labels, no pairs

    def init(self, key: jax.Array, data: pt.Batch) -> tuple[Params, Any]:
        n_visible = data.x.shape[-1]
        return Params(jax.random.normal(key, (n_visible, self.n_hidden)) / n_visible**0.5), ()  # (): no state

    def loss(self, params: Params, x: jax.Array) -> jax.Array:
        codes = x @ params.weights
        reconstruction = jnp.square(codes @ params.weights.T - x).sum(axis=-1)
        return (reconstruction + self.sparsity * jnp.log(jnp.cosh(codes)).sum(axis=-1)).mean()

    def gradient(self, params: Params, state: Any, batch: pt.Batch, key: jax.Array) -> tuple[Params, Any, Any]:
        loss, grads = jax.value_and_grad(self.loss)(params, batch.x)
        return grads, state, {"loss": loss}

    def evaluate(self, params: Params, batch: pt.Batch, key: jax.Array) -> dict[str, jax.Array]:
        return {"loss": self.loss(params, batch.x)}

    def layer(self, params: Params) -> pt.Dense:  # what is passed up, fine-tuned, saved
        return pt.Dense(params.weights, jnp.zeros(self.n_hidden), "tanh")


# It stacks, mixes with any other layer and trains as a population like those of the package.
data = pt.data.digits()
sparsities = jnp.array([0.01, 0.1, 1.0])
stages = [
    pt.Stage(ReconstructionICA(64, sparsities), pt.Momentum(0.005), epochs=30, batch_size=20),
    pt.Stage(pt.Autoencoder(64, loss="squared_error"), pt.Momentum(0.01), epochs=30, batch_size=20),
]
pretrained = pt.pretrain(stages, data.train, valid=data.valid, seeds=[0, 0, 0])
tuning = pt.Stage(pt.Classifier(10), pt.Sgd(0.5, pt.Linear(end=30)), epochs=30, batch_size=20, patience=30)
tuned = pt.fine_tune(pretrained.layers, tuning, data.train, valid=data.valid, seeds=[0, 0, 0])

for index, sparsity in enumerate(sparsities):
    loss = pretrained.progress[0].history["valid/loss"][-1, index]
    error = pt.evaluate(pt.member(tuned.params, index), data.valid)
    print(f"sparsity {sparsity:g}: loss {loss:.3f}, validation error {error:.2f}%")
