"""Random RBMs small enough to be enumerated: in float64, and as parameters."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from pretrain.learners.rbm import RBMParams


def arrays(n_visible: int, n_hidden: int, scale: float = 0.6, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    shapes = (n_visible, n_hidden), n_visible, n_hidden
    return tuple(scale * random.standard_normal(shape) for shape in shapes)


def as_params(*values: np.ndarray | None) -> RBMParams:
    return RBMParams(*(None if a is None else jnp.asarray(a, jnp.float32) for a in values))  # type: ignore[arg-type]
