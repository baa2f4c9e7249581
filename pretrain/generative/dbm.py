"""The deep Boltzmann machine: layers of binary units, each joined to the next, trained together on a bound.

::

    E(v, h_1 .. h_L) = - sum_l b_l . h_l - sum_l h_{l-1} W_l h_l        h_0 = v
    p(v) = sum_h exp(-E(v, h)) / Z                                      Gaussian v: |v - b_0|^2 / 2 for - b_0 . v

A layer hears both neighbours: ``P(h_l = 1 | the others) = sigmoid(b_l + h_{l-1} W_l + W_{l+1} h_{l+1})``. The posterior
of the hidden layers has no closed form (but for L = 1, a restricted machine); a factorial q stands in for it::

    log p(v) >= E_q[-E(v, h)] + H(q) - log Z,        q_l = sigmoid(b_l + q_{l-1} W_l + W_{l+1} q_{l+1})

the fixed point of mean-field sweeps over the odd layers, then the even ones, none of which lowers the bound. It is
ascended in the parameters at that q; for ``log Z`` this takes samples of the model, from persistent chains::

    dW_l = <q_{l-1} q_l>_data - <h_{l-1} h_l>_chains,        db_l = <q_l>_data - <h_l>_chains

Given the even layers (v, h_2, ..) the odd ones are independent, and the other way round: a Gibbs step draws one side,
then the other. The chains' statistics are of samples of the even side and of means of the odd one given these.

From random weights the higher layers stay idle, hence a greedy start: `DBM.from_stack`. The chains must follow the
parameters: plain `Sgd`, its rate falling to zero; 0.05 did for 20 epochs, 0.001 is usual for some hundred.

References: Salakhutdinov & Hinton, *Deep Boltzmann machines*, AISTATS 2009; *An efficient learning procedure for deep
Boltzmann machines*, Neural Computation 24 (2012).
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import struct
from pretrain.checks import check_sizes
from pretrain.generative.dbm_params import (
    DBMParams,
    bipartite,
    check_visible,
    discriminative,
    entropy,
    from_stack,
    gibbs,
    hidden_energy,
    start_chains,
    statistics,
    sweep,
    total_input,
    upward,
)
from pretrain.generative.dbn import Samples
from pretrain.layers import Dense, MeanField
from pretrain.learners.rbm import RBMParams
from pretrain.network import Network
from pretrain.sparsity import SparsityTarget
from pretrain.types import Batch, Inputs, Metrics
from pretrain.units import BernoulliUnits, Beside, Units

if TYPE_CHECKING:
    from pretrain.stack import Pretrained


class Posterior(NamedTuple):
    """Attributes: ``means`` of each hidden layer, ``[rows, units]``; ``steps``, how many sweeps; ``change``, the
    largest of a mean in the last of them.
    """

    means: tuple[Array, ...]
    steps: Array
    change: Array


class DBMState(NamedTuple):
    """Attributes: ``chains``, samples of the even layers, ``[n_chains, units]`` each; ``activity``, the running mean of
    each hidden layer ``[units]`` where there are sparsity targets, else ().
    """

    chains: tuple[Array, ...]
    activity: tuple[Array, ...]


@struct.dataclass
class DBM:
    """A deep Boltzmann machine and how it is trained: through `pretrain.fine_tune` with
    ``params=DBM.from_stack(pretrained)``, or as a learner of its own.

    Attributes:
        n_hidden: units of each hidden layer, from the bottom up.
        visible: kind of the visible units, Bernoulli or Gaussian of variance 1.
        n_chains: persistent chains.
        k: Gibbs steps an update.
        max_steps: mean-field sweeps at most.
        tolerance: sweeps end once none changes any mean by as much.
        sparsity: a `SparsityTarget` for each hidden layer, or None.
        initial_scale: standard deviation of the initial weights of a machine that is not pretrained.
    """

    n_hidden: tuple[int, ...] = struct.field(pytree_node=False)
    visible: Units = BernoulliUnits()
    n_chains: int = struct.field(pytree_node=False, default=100)
    k: int = struct.field(pytree_node=False, default=5)
    max_steps: int = struct.field(pytree_node=False, default=50)
    tolerance: float | Array = 1e-3
    sparsity: tuple[SparsityTarget, ...] | None = None
    initial_scale: float | Array = 0.01

    needs = ()

    def __post_init__(self) -> None:
        if not isinstance(self.n_hidden, tuple) or not self.n_hidden:
            raise ValueError(f"n_hidden must be a tuple of at least one layer size; got {self.n_hidden!r}")
        check_sizes(n_chains=self.n_chains, k=self.k, max_steps=self.max_steps)
        check_sizes(**{f"n_hidden[{i}]": n for i, n in enumerate(self.n_hidden)})
        check_visible(self.visible)
        if self.sparsity is not None and len(self.sparsity) != len(self.n_hidden):
            raise ValueError(
                f"sparsity must have a target for each of the {len(self.n_hidden)} hidden layers; got "
                f"{len(self.sparsity)}: a target with cost=0 has no effect"
            )

    @staticmethod
    def from_stack(pretrained: Pretrained, index: int | None = None) -> DBMParams:
        """A pretrained stack of RBMs as one machine, see `pretrain.generative.dbm_params`.

        Args:
            pretrained: from `pretrain.pretrain`: the lowest RBM doubled "up", the highest "down", those between "both";
                one alone, "neither".
            index: which member; None: all, with the member axis kept, to be trained on by `pretrain.fine_tune`.

        Raises:
            ValueError: if a stage is no such RBM.
        """
        return from_stack(pretrained, index)

    @property
    def inputs(self) -> Inputs:
        return self.visible.inputs

    def _check(self, params: DBMParams, *, one: bool = True) -> None:
        if one and params.weights[0].ndim != 2:
            raise ValueError(
                f"these are the parameters of {params.weights[0].shape[0]} machines: take one with "
                "pretrain.member(params, index), or jax.vmap over the members"
            )
        if params.n_hidden != self.n_hidden:
            raise ValueError(
                f"the machine has hidden layers of {params.n_hidden}, but DBM was given n_hidden={self.n_hidden}: they "
                "must agree"
            )

    def init(self, key: Array, data: Batch) -> tuple[DBMParams, DBMState]:
        """Weights ~ N(0, initial_scale^2), hidden biases 0, visible biases those that give each column's mean. Chains
        start at samples of the biases, running means at the sparsity targets.
        """
        sizes = (data.x.shape[-1], *self.n_hidden)
        weights = [
            self.initial_scale * jax.random.normal(jax.random.fold_in(key, layer), shape)
            for layer, shape in enumerate(itertools.pairwise(sizes))
        ]
        biases = (self.visible.initial_bias(data.x), *(jnp.zeros((n,)) for n in self.n_hidden))
        params = DBMParams(tuple(weights), biases)
        chains = start_chains(self.visible, params, jax.random.fold_in(key, len(weights)), self.n_chains)
        targets = () if self.sparsity is None else zip(self.n_hidden, self.sparsity, strict=True)
        return params, DBMState(chains, tuple(jnp.full((n,), s.target, jnp.float32) for n, s in targets))

    @jax.jit
    def mean_field(self, params: DBMParams, x: Array) -> Posterior:
        """The factorial posterior of the hidden layers given ``x`` ``[rows, visible]``, from the pass up in which every
        layer but the highest hears its input twice. With one hidden layer it is exact.
        """
        self._check(params)
        heard = x @ params.weights[0]

        def step(posterior: Posterior) -> Posterior:
            means = sweep(params, heard, posterior.means)
            changes = [jnp.abs(new - old).max() for new, old in zip(means, posterior.means, strict=True)]
            return Posterior(means, posterior.steps + 1, jnp.stack(changes).max())

        def running(posterior: Posterior) -> Array:
            return (posterior.steps < self.max_steps) & (posterior.change >= self.tolerance)

        lowest, *higher = upward(params)
        means = [jax.nn.sigmoid((2.0 * heard if higher else heard) + lowest.bias)]
        for layer in higher:
            means.append(layer(means[-1]))
        start = Posterior(tuple(means), jnp.zeros((), jnp.int32), jnp.full((), jnp.inf))
        return jax.lax.while_loop(running, step, start)

    def gradient(
        self, params: DBMParams, state: DBMState, batch: Batch, key: Array
    ) -> tuple[DBMParams, DBMState, Metrics]:
        """The descent direction of minus the bound, the next chains, and measures of this minibatch.

        These are the squared ``reconstruction_error`` of ``x`` from the posterior of h1; the ``mean_gap``, squared,
        between data and chains; the ``mean_field_steps``; with sparsity targets the ``mean_activation`` of all hidden
        units.
        """
        self._check(params)
        posterior = self.mean_field(params, batch.x)
        sampled = gibbs(self.visible, params, state.chains, key, self.k)
        means = [
            jax.nn.sigmoid(total_input(params, sampled, layer)) if layer % 2 else drawn
            for layer, drawn in enumerate(sampled)
        ]
        grads = jax.tree.map(jnp.subtract, statistics(means), statistics((batch.x, *posterior.means)))
        metrics = {
            "reconstruction_error": self._reconstruction_error(params, batch.x, posterior),
            "mean_gap": jnp.square(sampled[0].mean(axis=0) - batch.x.mean(axis=0)).sum(),
            "mean_field_steps": posterior.steps.astype(jnp.float32),
        }
        if self.sparsity is None:
            return grads, DBMState(sampled[::2], ()), metrics
        grads, activity, mean = self._sparse(self.sparsity, state.activity, grads, (batch.x, *posterior.means))
        return grads, DBMState(sampled[::2], activity), metrics | {"mean_activation": mean}

    def _sparse(
        self, targets: tuple[SparsityTarget, ...], activity: tuple[Array, ...], grads: DBMParams, data: Any
    ) -> tuple[DBMParams, tuple[Array, ...], Array]:
        """The pull of `SparsityTarget` on each hidden layer's bias and on its weights from below."""
        rows = [state.mean(axis=0) for state in data]
        pulls = [
            target.pull(old, hidden, below)
            for target, old, (below, hidden) in zip(targets, activity, itertools.pairwise(rows), strict=True)
        ]
        running, weights, biases = zip(*pulls, strict=True)
        added = DBMParams(weights, (jnp.zeros_like(grads.biases[0]), *biases))
        return jax.tree.map(jnp.add, grads, added), running, jnp.concatenate(rows[1:]).mean()

    def _reconstruction_error(self, params: DBMParams, x: Array, posterior: Posterior) -> Array:
        reconstruction = self.visible.mean(total_input(params, (x, *posterior.means), 0))
        return jnp.square(x - reconstruction).sum(axis=-1).mean()

    def variational_free_energy(self, params: DBMParams, x: Array, means: tuple[Array, ...]) -> Array:
        """``E_q[E(x, h)] - H(q)`` in nats, ``[rows]``, of the q with these means: at least ``-log p(x) - log Z``."""
        own = self.visible.energy(x, params.biases[0])
        return own + hidden_energy(params, x, means) - entropy(means)

    @jax.jit
    def log_probability_bound(self, params: DBMParams, x: Array, log_z: Array) -> Array:
        """The variational lower bound on ``log p(x)`` in nats, ``[rows]``, by the mean-field posterior.

        Args:
            params: of one machine; over a population, `jax.vmap`.
            x: ``[rows, visible]``, zeros and ones, or real values of Gaussian units.
            log_z: exact or estimated, of `as_rbm`. An error of it is one of the bound, with the opposite sign.
        """
        self._check(params)
        return -self.variational_free_energy(params, x, self.mean_field(params, x).means) - log_z

    def evaluate(self, params: DBMParams, batch: Batch, key: Array) -> Metrics:
        """``reconstruction_error`` (squared, summed over visible units) and mean ``variational_free_energy`` in nats.

        The second is minus the bound but for ``log Z``; its gap between training and validation rows tells of
        overfitting (give `pretrain.run` both as ``monitors``).
        """
        self._check(params)
        posterior = self.mean_field(params, batch.x)
        return {
            "reconstruction_error": self._reconstruction_error(params, batch.x, posterior),
            "variational_free_energy": self.variational_free_energy(params, batch.x, posterior.means).mean(),
        }

    def layer(self, params: DBMParams) -> Network:
        """The pass up from which the mean field starts: all hidden layers, those below the highest hearing their input
        twice. It needs no iteration and is differentiable in every array, as a layer must be; for the posteriors
        themselves there are `mean_field` and `discriminative_layers`.
        """
        return Network(upward(params))

    def discriminative_layers(self, params: DBMParams, steps: int | None = None) -> tuple[MeanField | Dense, ...]:
        """The layers of the network that is fine-tuned to classify, with a member axis where the parameters have one.

        The first stays fixed and puts the mean-field posterior of h2 beside x; ``Dense([W_1; W_2'], b_1)`` makes of
        both that of h1, and with two hidden layers ``Dense(W_2, b_2)`` that of h2: until it is fine-tuned, the network
        computes the mean field. With more, layers between the first and the highest hear their input twice instead.

        Args:
            params: the trained parameters.
            steps: sweeps of the first layer; None: ``max_steps``. As many as `mean_field` takes on some training rows
                do as well.

        Raises:
            ValueError: of a machine with one hidden layer.
        """
        self._check(params, one=False)
        build = functools.partial(discriminative, steps=self.max_steps if steps is None else steps)
        return build(params) if params.weights[0].ndim == 2 else jax.vmap(build)(params)

    @property
    def even_units(self) -> Units:
        """The kind of the units on the visible side of `as_rbm`: v's, beside them Bernoulli ones."""
        n_higher = sum(self.n_hidden[1::2])
        if not n_higher or isinstance(self.visible, BernoulliUnits):
            return self.visible
        return Beside(self.visible, BernoulliUnits(), n_higher)

    def as_rbm(self, params: DBMParams) -> RBMParams:
        """The same distribution as an RBM: visible side v, h2, h4, .., hidden side h1, h3, ..; with `log_partition` and
        `annealed_importance_sampling`, given ``visible=machine.even_units``, it gives ``log Z`` (base: `base_bias`).
        """
        self._check(params)
        joined = bipartite(params)
        if isinstance(self.visible, BernoulliUnits):
            return joined
        return joined._replace(log_variance=jnp.zeros_like(params.biases[0]))  # so that it is not taken for Bernoulli

    def base_bias(self, params: DBMParams, x: Array) -> Array:
        """The visible biases of a base for annealed importance sampling of `as_rbm`: those that give v and the even
        hidden layers their means over the rows ``x``, under the mean-field posterior.
        """
        return self.even_units.initial_bias(jnp.concatenate([x, *self.mean_field(params, x).means[1::2]], axis=-1))

    @functools.partial(jax.jit, static_argnames="n")
    def sample(self, params: DBMParams, key: Array, n: int, n_steps: Any) -> Samples:
        """Draws ``n`` rows from the model: the visible units of as many chains after ``n_steps`` Gibbs steps (at least
        one) from samples of the biases.
        """
        self._check(params)
        start_key, chain_key = jax.random.split(key)
        states = gibbs(self.visible, params, start_chains(self.visible, params, start_key, n), chain_key, n_steps)
        return Samples(states[0], self.visible.mean(total_input(params, states, 0)), None)
