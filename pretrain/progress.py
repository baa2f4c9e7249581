"""What a run is: the whole resumable state of its members, and a population's progress with its history."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pretrain.early_stopping import Best

INIT, ORDER, STEP, MONITOR, PAIR, AUGMENT = range(6)
"""The purposes for which a key is derived."""


class Fit(NamedTuple):
    """Everything one member's run is.

    Attributes:
        params: what is learned.
        state: what the learner carries besides (persistent chains), or ().
        opt_state: the optimiser's state.
        key: the member's key for this run; never consumed, only folded.
        step: updates made, int32.
    """

    params: Any
    state: Any
    opt_state: Any
    key: Array
    step: Array


class Progress(NamedTuple):
    """A population after a chunk; all a run needs to go on from here.

    Attributes:
        epoch: epochs done.
        fits: `Fit` with a leading member axis.
        best: `Best` with a leading member axis, or None where there is no early stopping.
        history: measure name to ``[epoch, members]``. Of one device of many whose members have all stopped, what was
            measured last stands.
        seconds: time spent so far, compilation included.
    """

    epoch: int
    fits: Fit
    best: Best | None
    history: dict[str, np.ndarray]
    seconds: float

    @property
    def params(self) -> Any:
        """What the run delivers, ``[members, ...]``: the best parameters under early stopping, else the last."""
        return self.fits.params if self.best is None else self.best.params

    @property
    def finite(self) -> np.ndarray:
        """``[members]`` whether every delivered parameter, and under early stopping its measure, is finite."""
        finite = np.asarray(_finite(self.params))
        return finite if self.best is None else finite & np.isfinite(np.asarray(self.best.score))


@jax.jit
def _finite(params: Any) -> Array:
    leaves = [jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(axis=0)
