"""Log-probabilities of machines with Gaussian visible units: against integrals over a grid and sums over all hidden
states in float64.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_dbn import assert_drawn_from, exact_log_z, log_weights, machine, single, stack
from enumeration import SIGMAS, binary
from scipy.special import logsumexp
from scipy.stats import binom, norm

from pretrain import BernoulliRBM, GaussianRBM, UpDown
from pretrain.generative import (
    DBN,
    annealed_importance_sampling,
    average_log_probability,
    gibbs_chain,
    log_partition,
    temperatures,
)
from pretrain.learners.rbm import RBMParams
from pretrain.types import Batch
from pretrain.units import GaussianUnits, RectifiedUnits, SoftmaxUnits

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = np.linspace(-14.0, 14.0, 281)
"""Of each of two visible units: sums over it are integrals to ten digits, for no density here is narrower than 0.5."""


def gaussian_log_weights(params: RBMParams, visible: np.ndarray, n_classes: int = 0) -> np.ndarray:
    """``[rows]`` the log of the sum over h of exp(-E(v, h)) in float64, the energy written out."""
    n, hidden = visible.shape[1] - n_classes, binary(params.weights.shape[1])
    log_variance = np.zeros(n) if params.log_variance is None else params.log_variance
    precision = np.concatenate([np.exp(-log_variance), np.ones(n_classes)])
    own = -0.5 * (np.square(visible - params.visible_bias) * precision)[:, :n].sum(axis=1)
    own = own + visible[:, n:] @ params.visible_bias[n:]
    joint = own[:, None] + hidden @ params.hidden_bias + (visible * precision) @ params.weights @ hidden.T
    return logsumexp(joint, axis=1)


def grid(n_classes: int = 0) -> np.ndarray:
    """Every pair of values of `GRID`, with every label."""
    values = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), axis=-1).reshape(-1, 2)
    if not n_classes:
        return values
    labels = np.tile(np.eye(n_classes), (len(values), 1))
    return np.concatenate([values.repeat(n_classes, axis=0), labels], axis=1)


def integrated(params: RBMParams, n_classes: int = 0) -> float:
    return float(logsumexp(gaussian_log_weights(params, grid(n_classes), n_classes)) + 2 * np.log(GRID[1] - GRID[0]))


def gaussian(n_classes: int = 0, learned: bool = False, seed: int = 0) -> RBMParams:
    """Two Gaussian visible units, label units and three hidden ones."""
    found = machine(2 + n_classes, 3, 0.9, seed)
    return found._replace(log_variance=np.float64([0.5, -1.0]) if learned else None)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("n_classes", [0, 2])
def test_log_partition_is_the_integral_over_the_visible_units(n_classes: int, learned: bool) -> None:
    params = gaussian(n_classes, learned)
    exact = integrated(params, n_classes)
    np.testing.assert_allclose(log_partition(single(params), n_classes, GaussianUnits()), exact, rtol=2e-6)
    assert abs(exact_log_z(params._replace(log_variance=None), n_classes) - exact) > 0.5  # which is another machine's


def test_log_partition_of_softmax_units_is_the_sum_over_their_states() -> None:
    """Two groups of three states; the hidden units are enumerated though there are fewer visible states."""
    params, groups = machine(6, 4), np.array([[*a, *b] for a in np.eye(3) for b in np.eye(3)])
    exact = logsumexp(log_weights(params, groups))
    np.testing.assert_allclose(log_partition(single(params), visible=SoftmaxUnits(3)), exact, rtol=2e-6)
    found = annealed_importance_sampling(
        single(params), jax.random.key(0), temperatures(100), n_chains=2_000, visible=SoftmaxUnits(3)
    )
    assert abs(np.expm1(float(found.log_z) - exact)) < SIGMAS * float(found.standard_error) < 0.2


@pytest.mark.parametrize(("n_classes", "learned"), [(0, False), (2, True)])
def test_ais_interval_covers_the_integral(n_classes: int, learned: bool) -> None:
    """A population of 200 estimates with few temperatures: three sigma are missed as rarely as they should be, and the
    mean of the estimates is Z.
    """
    runs, params = 200, gaussian(n_classes, learned)
    exact, base = integrated(params, n_classes), jnp.linspace(-0.5, 0.5, 2 + n_classes)
    estimates = jax.vmap(
        lambda key: annealed_importance_sampling(
            single(params), key, temperatures(20), base, 200, n_classes, GaussianUnits()
        )
    )(jax.random.split(jax.random.key(n_classes), runs))
    low, high = np.asarray(estimates.interval).T
    misses = int(((exact < low) | (exact > high)).sum())
    assert binom.sf(misses - 1, runs, 0.0027) > 1e-4, f"{misses} of {runs} intervals miss"
    relative = np.exp(np.asarray(estimates.log_z, np.float64) - exact)
    assert 0.01 < relative.std() < 0.3
    assert abs(relative.mean() - 1.0) < SIGMAS * relative.std() / np.sqrt(runs)


def test_ais_from_the_machine_itself_has_no_variance() -> None:
    params = gaussian(2, True)
    params = params._replace(weights=np.zeros_like(params.weights))
    base = single(params.visible_bias)
    found = annealed_importance_sampling(
        single(params), jax.random.key(0), temperatures(20), base, 10, 2, GaussianUnits()
    )
    np.testing.assert_allclose(found.log_z, integrated(params, 2), rtol=1e-6)
    assert float(found.standard_error) < 1e-6


@pytest.mark.parametrize("n_classes", [0, 2])
def test_average_log_probability_is_that_of_the_density(n_classes: int) -> None:
    params, rows = gaussian(n_classes, True), grid(n_classes)[::1_001]
    exact = gaussian_log_weights(params, rows, n_classes).mean() - integrated(params, n_classes)
    mean = average_log_probability(
        single(params), single(rows), integrated(params, n_classes), n_classes, GaussianUnits()
    )
    np.testing.assert_allclose(mean, exact, rtol=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_gibbs_chains_reach_the_density(learned: bool) -> None:
    """Means, variances and labels, against the integral over the grid."""
    params, values = gaussian(2, learned), grid(2)
    density = np.exp(gaussian_log_weights(params, values, 2))
    density /= density.sum()
    chains = jax.jit(gibbs_chain, static_argnames=("n_classes", "visible"))(
        single(params), jax.random.key(0), jnp.zeros((20_000, 4)), 60, 2, visible=GaussianUnits()
    )
    drawn = np.asarray(chains.visible, np.float64)
    assert set(np.unique(drawn[:, 2:])) == {0.0, 1.0}
    for moment in (lambda v: v, np.square):
        expected, found = density @ moment(values), moment(drawn)
        assert (np.abs(found.mean(axis=0) - expected) < SIGMAS * found.std(axis=0) / np.sqrt(len(found))).all()
    means = np.asarray(chains.probabilities, np.float64)
    assert (np.abs(means.mean(axis=0) - density @ values) < SIGMAS * means.std(axis=0) / np.sqrt(len(means))).all()


def test_what_cannot_be_summed_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Gaussian visible units \(log_variance is given\), not BernoulliUnits"):
        log_partition(single(gaussian(learned=True)))
    with pytest.raises(ValueError, match=r"2\*\*21 states: the hidden units, which may be at most 20"):
        log_partition(single(machine(2, 21)), visible=GaussianUnits())
    with pytest.raises(ValueError, match="rectified visible units cannot be summed out"):
        log_partition(single(machine(2, 3)), visible=RectifiedUnits())


# ---------------------------------------------------------------- deep belief networks on real values

STACK = (GaussianRBM(3), BernoulliRBM(2))


def real_valued() -> tuple[DBN, RBMParams, RBMParams]:
    """Two Gaussian features, three and two hidden units; and the two machines in float64."""
    lower, upper = machine(2, 3, 0.9), machine(3, 2, 0.9, 1)
    pretrained = stack(STACK)._replace(params=tuple(jax.tree.map(lambda a: single(a)[None], p) for p in (lower, upper)))
    return DBN.from_stack(pretrained, 0), lower, upper


def log_densities(lower: RBMParams, upper: RBMParams, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of p(x, h1) and of q(h1 | x), ``[rows, states of h1]``."""
    hidden = binary(3)
    above = log_weights(upper, hidden)
    means = hidden @ lower.weights.T + lower.visible_bias
    given = norm.logpdf(x[:, None], means).sum(axis=2)
    total = x @ lower.weights + lower.hidden_bias
    posterior = total @ hidden.T - np.logaddexp(0.0, total).sum(axis=1, keepdims=True)
    return given + (above - logsumexp(above)), posterior


def test_bound_of_a_network_on_real_values_is_below_the_density_by_the_divergence() -> None:
    dbn, lower, upper = real_valued()
    x = np.random.default_rng(0).standard_normal((16, 2))
    joint, posterior = log_densities(lower, upper, x)
    exact, elbo = logsumexp(joint, axis=1), (np.exp(posterior) * (joint - posterior)).sum(axis=1)
    bound = dbn.bound(single(x), log_partition(dbn.top), jax.random.key(1), n_samples=2_000)
    assert (np.abs(bound.rows - elbo) < SIGMAS * bound.standard_errors).all()
    assert np.abs(bound.importance - exact).mean() < 0.2 * (exact - elbo).mean()


def test_samples_of_a_network_on_real_values_follow_its_density() -> None:
    """Counts in bins of the first feature, whose density is a mixture of Gaussians."""
    dbn, lower, upper = real_valued()
    samples = dbn.sample(jax.random.key(2), 20_000, 60)
    hidden = binary(3)
    weights = log_weights(upper, hidden)
    shares, means = np.exp(weights - logsumexp(weights)), hidden @ lower.weights[0] + lower.visible_bias[0]
    edges = np.quantile(np.asarray(samples.x[:, 0]), np.linspace(0.0, 1.0, 9)[1:-1])
    edges = np.concatenate([[-np.inf], np.round(edges, 1), [np.inf]])
    probabilities = np.diff(shares @ norm.cdf(edges, means[:, None]))
    assert_drawn_from(np.histogram(np.asarray(samples.x[:, 0]), edges)[0], probabilities)
    spread = samples.probabilities[:, 0].std() / np.sqrt(20_000)
    assert abs(samples.probabilities[:, 0].mean() - shares @ means) < SIGMAS * spread


def test_networks_that_real_values_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="has another RBM above it"):
        DBN.from_stack(stack((GaussianRBM(3),)))
    with pytest.raises(ValueError, match="GaussianRBM of stage 2 goes up by sigmoid and down by linear"):
        DBN.from_stack(stack((BernoulliRBM(3), GaussianRBM(2))))
    learned = stack((GaussianRBM(3, visible=GaussianUnits(learn_variance=True)), BernoulliRBM(2)))
    lower = learned.params[0]._replace(log_variance=jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="with variances that were learned"):
        DBN.from_stack(learned._replace(params=(lower, *learned.params[1:])))
    with pytest.raises(ValueError, match="UpDown is for binary features"):
        UpDown((3, 2)).gradient(real_valued()[0], (), Batch(jnp.zeros((4, 2))), jax.random.key(0))
