"""A target for the mean activation of hidden units of energy-based models, and its pull on the parameters.

The penalty is the cross-entropy of the target ``p`` and a unit's running mean activation ``q``, whose slope in a
Bernoulli unit's total input is ``q - p``; the same slope goes to the bias and, times the mean of what the unit hears
from below (of Gaussian units over their variance), to the weights::

    q <- decay q + (1 - decay) <h>,   dc_j += cost (q_j - p),   dW_ij += cost (q_j - p) <v_i> / s_i^2

References: Hinton, *A practical guide to training restricted Boltzmann machines*, UTML TR 2010-003, section 11; after
Lee, Ekanadham & Ng, *Sparse deep belief net model for visual area V2*, NIPS 2007, whose penalty is the squared
deviation of the minibatch's mean.
"""

from __future__ import annotations

from jax import Array

from pretrain import struct


@struct.dataclass
class SparsityTarget:
    """Pulls each hidden unit's running mean activation ``q`` to a target ``p``.

    Attributes:
        target: ``p``, 0.01 to 0.1 (Hinton); 0.2 and 0.1 in the two layers of the published deep Boltzmann machine.
        cost: its weight beside the likelihood.
        decay: of the running mean, at every update.
    """

    target: float | Array = 0.1
    cost: float | Array = 0.1
    decay: float | Array = 0.9

    def pull(self, running: Array, hidden: Array, heard: Array) -> tuple[Array, Array, Array]:
        """The next running mean ``[units]``, and what is added to the descent directions of the weights
        ``[below, units]`` and of the bias ``[units]``.

        Args:
            running: ``q`` before this minibatch, ``[units]``.
            hidden: mean activation over the minibatch, ``[units]``.
            heard: mean over the minibatch of what the units hear from below, ``[below]``.
        """
        running = self.decay * running + (1.0 - self.decay) * hidden
        pull = self.cost * (running - self.target)
        return running, heard[:, None] * pull, pull
