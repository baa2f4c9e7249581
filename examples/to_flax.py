"""Load a saved network into flax.nnx, and go on there: here, with optax, a few more epochs and a new last layer.

python examples/to_flax.py
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import pretrain as pt

data = pt.data.digits()

# Somebody pretrained a stack and saved it.
layer = pt.Stage(pt.BernoulliRBM(64), pt.Momentum(0.05), epochs=20, batch_size=20)
stack = pt.pretrain([layer, layer], data.train).network()
path = Path(tempfile.mkdtemp()) / "stack.npz"
pt.save(stack, path)

# In flax it is a Sequential of linear layers and activations, which gives the same codes.
encoder = pt.to_nnx(pt.load(path))
difference = jnp.abs(encoder(data.test.x) - pt.encode(stack, data.test.x)).max()
print(f"largest difference between the codes: {difference:.1e}")

# On top of it, a head of one's own; all of it is trained as any flax model is.
model = nnx.Sequential(encoder, nnx.Linear(64, 10, rngs=nnx.Rngs(0)))
optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


@nnx.jit
def step(model: nnx.Sequential, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    def loss(model: nnx.Sequential) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


key = jax.random.key(0)
for epoch in range(30):
    order = jax.random.permutation(jax.random.fold_in(key, epoch), len(data.train.x))
    for rows in order[: len(order) // 20 * 20].reshape(-1, 20):
        step(model, optimizer, data.train.x[rows], data.train.y[rows])
wrong = model(data.test.x).argmax(axis=-1) != data.test.y
print(f"test error {100 * wrong.mean():.2f}%")
