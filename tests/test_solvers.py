"""Closed-form layers are held to scikit-learn, and to what they promise about rank, memory and fine-tuning."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.decomposition import KernelPCA as SklearnKernelPCA
from sklearn.kernel_approximation import Nystroem

import pretrain as pt
from pretrain import PCA, Batch, KernelPCA, Network, Solver, Standardise, Unrolled, population, tuning
from pretrain.layers import Dense, KernelMap, Rescaling

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
ROWS = 130


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 50 rows, so that 130 rows are two blocks and a part of one."""
    monkeypatch.setattr("pretrain.moments.BLOCK", 50)
    monkeypatch.setattr("pretrain.layers.BLOCK", 50)


@pytest.fixture(scope="module")
def digits() -> tuple[jax.Array, jax.Array]:
    """Rows to solve on, and others."""
    x = jnp.asarray(load_digits().data / 16.0, jnp.float32)
    return x[:ROWS], x[ROWS : ROWS + 70]


def assert_same_up_to_sign(found: Any, expected: Any, atol: float) -> None:
    """Columns agree, each up to its sign."""
    found, expected = np.asarray(found), np.asarray(expected)
    sign = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * sign, expected, atol=atol)


@jax.jit
def solved(solver: Any, key: jax.Array, x: jax.Array) -> Any:
    """The parameters; compiled, since an eager solution compiles each of its operations by itself."""
    return solver.solve(key, Batch(x))


@jax.jit
def applied(layer: Any, x: jax.Array) -> jax.Array:
    return layer(x)


def components(solver: KernelPCA, x: jax.Array, *others: jax.Array) -> list[jax.Array]:
    layer = solver.layer(solved(solver, KEY, x))
    return [applied(layer, rows) for rows in (x, *others)]


@pytest.mark.parametrize("kernel", ["rbf", "polynomial"])
def test_with_all_rows_it_is_exact_kernel_pca(digits: tuple[jax.Array, jax.Array], kernel: str) -> None:
    x, new = digits
    options: dict[str, Any] = {"gamma": 0.05, "degree": 3, "coef0": 0.5}
    exact = SklearnKernelPCA(8, kernel={"polynomial": "poly"}.get(kernel, kernel), **options).fit(np.float64(x))
    found = components(KernelPCA(8, kernel, normalise=False, **options), x, new)
    scale = float(exact.transform(np.float64(x)).std(axis=0)[0])
    assert_same_up_to_sign(found[0] / scale, exact.transform(np.float64(x)) / scale, atol=1e-3)
    assert_same_up_to_sign(found[1] / scale, exact.transform(np.float64(new)) / scale, atol=1e-3)


def test_with_landmarks_it_is_nystroem_and_pca_over_all_rows(digits: tuple[jax.Array, jax.Array]) -> None:
    x, new = digits
    solver = KernelPCA(6, n_landmarks=20, gamma=0.1, normalise=False)
    params = solved(solver, KEY, x)
    landmarks = np.asarray(params.map.landmarks)
    assert landmarks.shape == (20, 64)
    assert all((landmarks[i] == np.asarray(x)).all(axis=1).any() for i in range(20))
    assert len(np.unique(landmarks, axis=0)) == 20
    nystroem = Nystroem(gamma=0.1, n_components=20).fit(np.float64(landmarks))  # takes them all
    pca = SklearnPCA(6).fit(nystroem.transform(np.float64(x)))
    for rows in (x, new):
        expected = pca.transform(nystroem.transform(np.float64(rows)))
        assert_same_up_to_sign(applied(params.map, rows), expected, atol=1e-4)
    np.testing.assert_allclose(params.variances, pca.explained_variance_ * (ROWS - 1) / ROWS, rtol=1e-3)


def test_gamma_is_by_default_one_over_features_times_variance(digits: tuple[jax.Array, jax.Array]) -> None:
    x, _ = digits
    solver = KernelPCA(10, n_landmarks=40)
    assert float(solved(solver, KEY, x).map.gamma) == pytest.approx(1.0 / (64 * np.asarray(x).var()), rel=1e-5)
    constant = solved(solver, KEY, jnp.ones_like(x))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(constant))
    np.testing.assert_array_equal(constant.variances, 0.0)


def test_normalised_components_are_uncorrelated_of_variance_one(digits: tuple[jax.Array, jax.Array]) -> None:
    codes = np.asarray(components(KernelPCA(10, n_landmarks=40), digits[0])[0])
    np.testing.assert_allclose(codes.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(codes.T @ codes / ROWS, np.eye(10), atol=1e-3)


def test_components_beyond_the_rank_are_zero(digits: tuple[jax.Array, jax.Array]) -> None:
    """A quadratic kernel of two features spans five directions besides the constant."""
    x, new = digits[0][:, 20:22], digits[1][:, 20:22]
    solver = KernelPCA(12, "polynomial", degree=2, gamma=1.0)
    codes, seen = (np.asarray(codes) for codes in components(solver, x, new))
    assert (codes[:, :5].std(axis=0) > 1e-3).all()
    np.testing.assert_array_equal(codes[:, 5:], 0.0)
    np.testing.assert_array_equal(seen[:, 5:], 0.0)
    np.testing.assert_array_equal(solved(solver, KEY, x).variances[5:], 0.0)


def test_a_far_origin_costs_no_digits_of_a_distance(digits: tuple[jax.Array, jax.Array]) -> None:
    x = jnp.round(digits[0] * 16)  # whole numbers stay exact when 1000 is added
    solver = KernelPCA(6, n_landmarks=20, gamma=0.0005, normalise=False)
    near, far = components(solver, x)[0], components(solver, x + 1000.0)[0]
    np.testing.assert_allclose(near, far, atol=1e-3)


GAMMA = jnp.float32(0.1)
SOLVERS = {
    "kernel-pca": KernelPCA(5, n_landmarks=30, gamma=GAMMA),
    "kernel-pca-polynomial": KernelPCA(5, "polynomial", n_landmarks=30, gamma=GAMMA),
    "pca": PCA(5),
    "pca-whitened": PCA(5, whiten=True),
    "standardise": Standardise(),
}


@pytest.fixture(params=SOLVERS.values(), ids=SOLVERS.keys())
def solver(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_every_solver_keeps_the_protocol(solver: Any, digits: tuple[jax.Array, jax.Array]) -> None:
    """Same bits twice, and the members of a population (of data, keys, gammas) as each alone; the layer knows its
    sizes.
    """
    x, new = digits
    assert isinstance(solver, Solver)
    first, again = solved(solver, KEY, x), solved(solver, KEY, x)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)

    keys, members = jax.random.split(KEY), jnp.stack([x, 1.5 * x])
    solvers = solver.replace(gamma=np.float32([0.02, 0.2])) if isinstance(solver, KernelPCA) else solver
    solvers = population.broadcast(solvers, 2)
    many = jax.jit(jax.vmap(lambda *one: one[0].layer(solved(*one))))(solvers, keys, members)
    codes = jax.vmap(lambda layer: layer(new))(many)
    assert np.abs(codes[0] - codes[1]).max() > 0.1
    for index in range(2):
        alone = population.member(solvers, index)
        layer = alone.layer(solved(alone, keys[index], members[index]))
        np.testing.assert_allclose(codes[index], applied(layer, new), rtol=1e-3, atol=2e-3)
        assert (layer.n_in, layer.n_out) == (many.n_in, many.n_out) == (64, codes.shape[-1])


@pytest.mark.slow
def test_a_solution_is_the_same_compiled_or_not(digits: tuple[jax.Array, jax.Array]) -> None:
    x, new = digits
    solver = SOLVERS["kernel-pca"]
    eager = solver.layer(solver.solve(KEY, Batch(x)))(new)
    np.testing.assert_allclose(components(solver, x, new)[1], eager, atol=2e-3)


@pytest.mark.parametrize("name", ["kernel-pca", "kernel-pca-polynomial", "standardise"])
def test_fixed_layers_pass_gradients_down_and_take_none(name: str, digits: tuple[jax.Array, jax.Array]) -> None:
    x, new = digits
    layer = SOLVERS[name].layer(solved(SOLVERS[name], KEY, x))
    below = Dense(jnp.eye(64), jnp.zeros(64), "linear")
    loss = jax.jit(lambda layers, x: jnp.square(layers[1](layers[0](x))).sum())
    grads, slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))((below, layer), new[:3])
    assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(grads[1]))
    assert (jnp.abs(grads[0].weights) > 0.0).any()
    step = 1e-2 * jnp.asarray(np.random.default_rng(0).normal(size=(3, 64)), jnp.float32)
    difference = loss((below, layer), new[:3] + step) - loss((below, layer), new[:3] - step)
    assert float(jnp.vdot(slopes, 2.0 * step)) == pytest.approx(float(difference), rel=2e-2)


def shapes_in(jaxpr: Any) -> set[tuple[int, ...]]:
    """The shapes of everything a program computes, its inner programs included."""
    found = set()
    for equation in jaxpr.eqns:
        found |= {tuple(out.aval.shape) for out in equation.outvars}
        for inner in jaxprs_in_params(equation.params):
            found |= shapes_in(inner)
    return found


def test_kernels_of_all_rows_with_all_landmarks_are_never_held() -> None:
    rows, landmarks = 3_000, 40
    x = jnp.asarray(np.random.default_rng(0).normal(size=(rows, 5)), jnp.float32)
    solver = KernelPCA(4, n_landmarks=landmarks)

    def codes(x: jax.Array) -> jax.Array:
        return solver.layer(solver.solve(KEY, Batch(x)))(x)

    shapes = shapes_in(jax.make_jaxpr(codes)(x).jaxpr)
    assert (50, landmarks) in shapes
    assert not {shape for shape in shapes if landmarks in shape and np.prod(shape) >= rows * landmarks}
    temporary = jax.jit(codes).lower(x).compile().memory_analysis().temp_size_in_bytes
    assert temporary < rows * landmarks * 4


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_agrees_with_scikit_learn(digits: tuple[jax.Array, jax.Array], whiten: bool) -> None:
    x, new = digits
    solver = PCA(7, whiten=whiten)
    params = solved(solver, KEY, x)
    expected = SklearnPCA(7, whiten=whiten).fit(np.float64(x))
    correction = np.sqrt(ROWS / (ROWS - 1)) if whiten else 1.0  # it divides by rows - 1
    for rows in (x, new):
        assert_same_up_to_sign(solver.layer(params)(rows), expected.transform(np.float64(rows)) * correction, atol=1e-4)
    unrolled = Unrolled((solver.layer(params),), (solver.decoder(params),))
    np.testing.assert_allclose(
        unrolled.reconstruct(new), expected.inverse_transform(expected.transform(np.float64(new))), atol=1e-4
    )


def test_whitened_components_without_variance_are_zero() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    x = jnp.asarray(np.concatenate([x, x @ np.float32([[1.0, 2.0], [3.0, 4.0]])], axis=1))
    solver = PCA(4, whiten=True)
    params = solved(solver, KEY, x)
    codes = solver.layer(params)(x)
    np.testing.assert_allclose(codes.std(axis=0), [1.0, 1.0, 0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(solver.decoder(params)(codes), x, atol=1e-4)


def test_standardised_features_have_mean_0_and_variance_1() -> None:
    rows = np.random.default_rng(0).normal(1e3, [1.0, 10.0, 0.0], (40_001, 3)).astype(np.float32)
    rows[:, 2] = 0.1  # its mean is not 0.1 in float32
    solver = Standardise()
    params = solved(solver, KEY, jnp.asarray(rows))
    codes = solver.layer(params)(jnp.asarray(rows))
    np.testing.assert_allclose(params.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(params.deviation[:2], rows.std(axis=0, dtype=np.float64)[:2], rtol=1e-4)
    np.testing.assert_allclose(codes[:, :2].std(axis=0), 1.0, rtol=1e-3)
    np.testing.assert_array_equal(codes[:, 2], 0.0)
    np.testing.assert_allclose(solver.decoder(params)(codes), rows, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KernelPCA(5, "sine"), "kernel must be one of rbf, polynomial; got 'sine'"),
        (lambda: KernelPCA(5, gamma=-0.5), r"gamma must be a positive number; got -0\.5: give None"),
        (lambda: KernelPCA(5, coef0=-1), "coef0 must be 0 or more; got -1"),
        (lambda: KernelPCA(5, degree=0), "degree must be a whole number of at least 1; got 0"),
        (lambda: KernelPCA(30, n_landmarks=20), "n_components 30 is larger than the 20 landmarks: choose at most 20"),
        (lambda: PCA(0), "n_components must be a whole number of at least 1; got 0"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (KernelPCA(11), "n_components 11 is larger than the 10 training rows: choose at most 10"),
        (KernelPCA(5, n_landmarks=20), "n_landmarks 20 is larger than the 10 training rows"),
        (PCA(5), "n_components 5 is larger than the 10 training rows or the 4 features: choose at most 4"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(solver: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solver.solve(KEY, Batch(jnp.ones((10, 4))))


def test_solved_layers_stack(digits: tuple[jax.Array, jax.Array]) -> None:
    """Each is solved on the codes of those below; normalised codes keep variance one."""
    x, _ = digits
    layers: tuple[Any, ...] = ()
    for solver in (Standardise(), KernelPCA(20), KernelPCA(10)):
        layers += (solver.layer(solved(solver, KEY, applied(Network(layers), x))),)
    assert [type(layer) for layer in layers] == [Rescaling, KernelMap, KernelMap]
    codes = applied(Network(layers), x)
    np.testing.assert_allclose(codes.std(axis=0), 1.0, atol=1e-3)


@pytest.mark.slow
def test_weight_decay_leaves_fixed_layers_alone() -> None:
    """A kernel layer and a rescaling keep every bit under any recipe with decay; the output layer above them moves."""
    x = jax.random.uniform(jax.random.key(0), (40, 5))
    batch = pt.Batch(x, jnp.arange(40) % 2)
    layers = pt.pretrain([pt.Stage(pt.Standardise()), pt.Stage(pt.KernelPCA(3))], batch).layers
    for recipe in (pt.Sgd(0.1, weight_decay=0.1), pt.Adam(0.1, weight_decay=0.1)):
        stage = pt.Stage(pt.Classifier(2), recipe, epochs=1, batch_size=10)
        *below, top = pt.fine_tune(layers, stage, batch, valid=batch).params.layers
        jax.tree.map(np.testing.assert_array_equal, tuple(below), tuple(layers))
        assert np.any(np.asarray(top.weights) != 0.0)


@pytest.mark.slow
def test_fixed_layers_are_passed_through_once_to_the_same_result() -> None:
    """What fine-tuning makes of codes computed beforehand is what it makes of the whole network at every step."""
    batch = pt.Batch(jax.random.uniform(jax.random.key(0), (40, 5)), jnp.arange(40) % 2)
    stages = [pt.Stage(pt.KernelPCA(4)), pt.Stage(pt.Autoencoder(3, loss="squared_error"), pt.Sgd(0.01), 1, 10)]
    layers = pt.pretrain(stages, batch, seeds=[0, 1]).layers
    stage = pt.Stage(pt.Classifier(2), pt.Sgd(0.5), epochs=3, batch_size=10, patience=3)
    short = pt.fine_tune(layers, stage, batch, valid=batch, seeds=[0, 1])
    keys = jax.vmap(lambda key: jax.random.fold_in(key, tuning.FINE_TUNE))(population.member_keys([0, 1]))
    whole = tuning.classifier(layers, stage.learner, keys)
    options = {"epochs": 3, "batch_size": 10, "keys": keys, "patience": 3, "monitors": {"valid": batch}}
    long = pt.run(stage.learner, stage.optimizer, batch, params=whole, **options)
    assert jax.tree.structure(short.params) == jax.tree.structure(long.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), short.params, long.params)
    np.testing.assert_allclose(short.history["valid/loss"], long.history["valid/loss"], atol=1e-5)
