"""How a restricted Boltzmann machine draws the samples of its negative phase: where chains start, and how they move.

A Gibbs step is ``v -> h ~ P(h | v) -> v' ~ P(v | h)``; chains that start at the data pass the means of the visible
units in place of v' unless ``sample_visible`` is set (or variances are learned), persistent ones always samples. After
it the gradient estimate is the contrast of data and chains, ``<dF/dtheta>_data - <dF/dtheta>_chains``:

- `CD`: k steps from the data (Hinton, *Training products of experts*, Neural Computation 14, 2002);
- `PCD`: k steps from where the last update left the chains (Tieleman, ICML 2008);
- `FastPCD`: the same chains under ``theta + fast``, where ``fast = decay * fast - learning_rate * gradient`` drives
  them away from where they have been (Tieleman & Hinton, *Using fast weights to improve persistent contrastive
  divergence*, ICML 2009);
- `ParallelTempering`: chains of ``P_beta(v, h) ~ exp(-beta E(v, h))`` at inverse temperatures from 1 to 0, neighbours
  of which exchange their states (Desjardins, Courville, Bengio, Vincent & Delalleau, AISTATS 2010).

Each is a pytree with static counts, and keeps its chains in the learner's state.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.types import Metrics
from pretrain.units import sample


class Machine(Protocol):
    """What a sampler asks of a machine (`pretrain.learners.rbm.RBM`)."""

    @property
    def sampled(self) -> bool:
        """Whether chains that start at the data pass visible samples, or means."""
        ...

    def hidden_input(self, params: Any, visible: Array, /) -> Array: ...

    def visible_input(self, params: Any, hidden: Array, /) -> Array: ...

    def visible_sample(self, params: Any, total: Array, key: Array, /) -> Array: ...

    def gibbs(self, params: Any, total: Array, key: Array, /, *, sampled: bool) -> tuple[Array, Array]: ...

    def contrast(self, params: Any, data: Phase, chains: Phase, /) -> Any: ...


class Phase(NamedTuple):
    """Attributes: ``visible`` values [rows, visible] and the ``total`` inputs to the hidden units [rows, hidden]."""

    visible: Array
    total: Array


class Sampler(Protocol):
    """A way to estimate the gradient of the negative log-likelihood."""

    def init(self, machine: Any, params: Any, key: Array, /) -> Any:
        """The state before the first update: chains, or ()."""
        ...

    def gradient(self, machine: Any, params: Any, state: Any, data: Phase, key: Array, /) -> tuple[Any, Any, Metrics]:
        """(the gradient estimate, the next state, the metrics of this minibatch)."""
        ...


def gibbs_chain(machine: Machine, params: Any, total: Array, key: Array, k: int, *, sampled: bool) -> tuple[Any, Array]:
    """``k`` Gibbs steps on from total inputs to the hidden units: (the last `Phase`, the first step's visible)."""

    def step(index: Any, phase: Phase) -> Phase:
        return Phase(*machine.gibbs(params, phase.total, jax.random.fold_in(key, index), sampled=sampled))

    first = step(0, Phase(total, total))
    last = first if k == 1 else jax.lax.fori_loop(1, k, step, first)
    return last, first.visible


def start_chains(machine: Machine, params: Any, key: Array, *shape: int) -> Array:
    """Samples of the visible biases, ``[*shape, visible]``."""
    return machine.visible_sample(
        params, jnp.broadcast_to(params.visible_bias, (*shape, *params.visible_bias.shape)), key
    )


def mean_gap(data: Phase, chains: Phase) -> Metrics:
    """Persistent chains reconstruct nothing; how far their mean is from the data's, squared, tells of them instead."""
    return {"mean_gap": jnp.square(chains.visible.mean(axis=0) - data.visible.mean(axis=0)).sum()}


@struct.dataclass
class CD:
    """Contrastive divergence. Reports the squared ``reconstruction_error`` of the first step.

    Attributes:
        k: Gibbs steps an update.
    """

    k: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        check_sizes(k=self.k)

    def init(self, machine: Machine, params: Any, key: Array) -> tuple[()]:
        return ()

    def gradient(self, machine: Machine, params: Any, state: Any, data: Phase, key: Array) -> tuple[Any, Any, Metrics]:
        chains, first = gibbs_chain(machine, params, data.total, key, self.k, sampled=machine.sampled)
        error = jnp.square(data.visible - first).sum(axis=-1).mean()
        return machine.contrast(params, data, chains), state, {"reconstruction_error": error}


@struct.dataclass
class PCD:
    """Persistent contrastive divergence. The state is the chains' visible samples, ``[n_chains, visible]``.

    Attributes:
        k: Gibbs steps an update.
        n_chains: chains; as many as rows in a minibatch is usual.
    """

    k: int = struct.field(pytree_node=False, default=1)
    n_chains: int = struct.field(pytree_node=False, default=100)

    def __post_init__(self) -> None:
        check_sizes(k=self.k, n_chains=self.n_chains)

    def init(self, machine: Machine, params: Any, key: Array) -> Array:
        return start_chains(machine, params, key, self.n_chains)

    def gradient(
        self, machine: Machine, params: Any, state: Array, data: Phase, key: Array
    ) -> tuple[Any, Array, Metrics]:
        total = machine.hidden_input(params, state)
        chains, _ = gibbs_chain(machine, params, total, key, self.k, sampled=True)
        return machine.contrast(params, data, chains), chains.visible, mean_gap(data, chains)


class FastChains(NamedTuple):
    """Attributes: ``visible`` samples [n_chains, visible]; ``fast``, weights and biases shaped like the parameters."""

    visible: Array
    fast: Any


@struct.dataclass
class FastPCD:
    """Persistent contrastive divergence whose chains also feel fast weights, so that they mix at small learning rates.

    The gradient is that of the parameters alone: the fast weights move the chains and enter nothing else.

    Attributes:
        k: Gibbs steps an update.
        n_chains: chains.
        learning_rate: of the fast weights; constant, and larger than that of the parameters late in training.
        decay: factor on the fast weights at every update.
    """

    k: int = struct.field(pytree_node=False, default=1)
    n_chains: int = struct.field(pytree_node=False, default=100)
    learning_rate: float | Array = 0.05
    decay: float | Array = 0.95

    def __post_init__(self) -> None:
        check_sizes(k=self.k, n_chains=self.n_chains)

    def init(self, machine: Machine, params: Any, key: Array) -> FastChains:
        return FastChains(start_chains(machine, params, key, self.n_chains), jax.tree.map(jnp.zeros_like, params))

    def gradient(
        self, machine: Machine, params: Any, state: FastChains, data: Phase, key: Array
    ) -> tuple[Any, FastChains, Metrics]:
        moved = jax.tree.map(jnp.add, params, state.fast)
        total = machine.hidden_input(moved, state.visible)
        visible = gibbs_chain(machine, moved, total, key, self.k, sampled=True)[0].visible
        chains = Phase(visible, machine.hidden_input(params, visible))
        grads = machine.contrast(params, data, chains)
        fast = jax.tree.map(lambda fast, grad: self.decay * fast - self.learning_rate * grad, state.fast, grads)
        return grads, FastChains(visible, fast), mean_gap(data, chains)


def log_swap_ratio(beta: Array, visible_bias: Array, chains: Phase) -> Array:
    """The log of the Metropolis ratio of exchanging neighbours, ``[temperatures - 1, n_chains]``.

    With ``F_i(v) = - beta_i v.b - sum_j softplus(beta_i a_j(v))`` it is
    ``F_i(v_i) + F_{i+1}(v_{i+1}) - F_i(v_{i+1}) - F_{i+1}(v_i)``: hidden states are summed out. Bernoulli units.

    Args:
        beta: inverse temperatures, ``[temperatures, 1, 1]``.
        visible_bias: ``[visible]``.
        chains: visible ``[temperatures, n_chains, visible]``, total inputs ``[temperatures, n_chains, hidden]``.
    """
    bias = chains.visible @ visible_bias

    def free_energy(beta: Array, at: slice) -> Array:
        return -beta[..., 0] * bias[at] - jax.nn.softplus(beta * chains.total[at]).sum(axis=-1)

    colder, warmer = slice(None, -1), slice(1, None)
    own = free_energy(beta[colder], colder) + free_energy(beta[warmer], warmer)
    return own - free_energy(beta[colder], warmer) - free_energy(beta[warmer], colder)


def swap(beta: Array, visible_bias: Array, chains: Phase, key: Array) -> Phase:
    """Exchanges the states of neighbouring temperatures: first those of pairs (0, 1), (2, 3), ..., then of (1, 2), ...

    The arguments are those of `log_swap_ratio`.
    """
    levels = jnp.arange(beta.shape[0])[:, None]
    for parity in (0, 1):
        ratio = log_swap_ratio(beta, visible_bias, chains)
        uniform = jax.random.uniform(jax.random.fold_in(key, parity), ratio.shape)
        accepted = (uniform < jnp.exp(jnp.minimum(ratio, 0.0))) & (levels[:-1] % 2 == parity)
        shift = jnp.pad(accepted, ((0, 1), (0, 0))).astype(int) - jnp.pad(accepted, ((1, 0), (0, 0))).astype(int)
        source = (levels + shift)[..., None]
        chains = Phase(*(jnp.take_along_axis(values, source, axis=0) for values in chains))
    return chains


@struct.dataclass
class ParallelTempering:
    """Tempered chains; the coldest, at inverse temperature 1, give the statistics. Bernoulli units only.

    An update is k times: swaps, then a Gibbs step at every temperature. It costs ``(2 k n_temperatures n_chains + 2
    n_chains + 2 rows) / (5 rows)`` updates of CD-1. The state is ``[n_temperatures, n_chains, visible]``.

    Attributes:
        k: swaps and Gibbs steps an update.
        n_chains: chains at each temperature.
        n_temperatures: inverse temperatures, evenly spaced from 1 to 0.
    """

    k: int = struct.field(pytree_node=False, default=1)
    n_chains: int = struct.field(pytree_node=False, default=100)
    n_temperatures: int = struct.field(pytree_node=False, default=10)

    def __post_init__(self) -> None:
        check_sizes(k=self.k, n_chains=self.n_chains, n_temperatures=self.n_temperatures)
        if self.n_temperatures < 2:
            raise ValueError(f"tempering needs n_temperatures of at least 2; got {self.n_temperatures}: or use PCD")

    def init(self, machine: Machine, params: Any, key: Array) -> Array:
        return start_chains(machine, params, key, self.n_temperatures, self.n_chains)

    def gradient(
        self, machine: Machine, params: Any, state: Array, data: Phase, key: Array
    ) -> tuple[Any, Array, Metrics]:
        beta = jnp.linspace(1.0, 0.0, self.n_temperatures)[:, None, None]

        def step(index: Any, visible: Array) -> Array:
            swap_key, hidden_key, visible_key = jax.random.split(jax.random.fold_in(key, index), 3)
            tempered = Phase(visible, machine.hidden_input(params, visible))
            total = swap(beta, params.visible_bias, tempered, swap_key).total
            hidden = sample(hidden_key, jax.nn.sigmoid(beta * total))
            return sample(visible_key, jax.nn.sigmoid(beta * machine.visible_input(params, hidden)))

        visible = step(0, state) if self.k == 1 else jax.lax.fori_loop(0, self.k, step, state)
        chains = Phase(visible[0], machine.hidden_input(params, visible[0]))
        return machine.contrast(params, data, chains), visible, mean_gap(data, chains)
