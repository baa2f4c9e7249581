"""Saved networks: what is loaded is what was saved, and nothing is believed unchecked."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pretrain as pt
from pretrain import struct

W = [np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), np.ones((3, 2), np.float32)]


def network() -> pt.Network:
    layers = (pt.Dense(jnp.asarray(W[0]), jnp.arange(3.0)), pt.Dense(jnp.asarray(W[1]), jnp.zeros(2), "linear"))
    return pt.Network(layers, head=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.npz"
    pt.save(network(), path)
    return path


def rewritten(path: Path, header: dict | None = None, **arrays: np.ndarray | None) -> Path:
    """The file with some entries replaced or (None) removed."""
    with np.load(path, allow_pickle=False) as file:
        entries = {name: file[name] for name in file.files}
    if header is not None:
        entries["header"] = np.array(json.dumps(json.loads(str(entries["header"])) | header))
    entries = {name: value for name, value in (entries | arrays).items() if value is not None}
    np.savez(path, **entries)
    return path


def test_round_trip(saved: Path) -> None:
    x = np.random.default_rng(0).random((7, 4), np.float32)
    again = pt.load(saved)
    np.testing.assert_array_equal(again(x), network()(x))
    assert [layer.activation for layer in again.layers] == ["sigmoid", "linear"]
    assert again.head is True
    assert list(saved.parent.iterdir()) == [saved]


def test_a_truncated_file_is_refused_by_name(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"net\.npz is not a saved model, or is damaged"):
        pt.load(saved)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="is not a saved model, or is damaged"):
        pt.load(tmp_path / "evil.npz")


DENSE = {"kind": "Dense", "activation": "sigmoid"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"version": 9}}, "version 9; expected 'pretrain-network' 1"),
        ({"header": {"layers": [DENSE, {"kind": "Dense", "activation": "sine"}]}}, "unknown activation 'sine'"),
        ({"header": {"layers": [DENSE, {"kind": "Lambda", "activation": "linear"}]}}, "unknown kind 'Lambda'"),
        ({"header": {"layers": [DENSE]}}, "unexpected arrays"),
        ({"layers.1.bias": None}, r"missing arrays \['layers\.1\.bias'\]"),
        ({"layers.1.weights": np.ones((5, 2), np.float32)}, "layer 0 has 3 units but layer 1 takes 5 inputs"),
        ({"layers.1.bias": np.zeros(3, np.float32)}, r"weights \(3, 2\) and bias \(3,\)"),
        ({"layers.0.weights": W[0].astype(np.float64)}, "is float64, expected float32"),
        ({"layers.0.weights": np.full((4, 3), np.nan, np.float32)}, "holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(saved: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pt.load(rewritten(saved, **change))


@pytest.mark.parametrize("contents", [b"plain text", b"[1, 2]", b""])
def test_another_kind_of_file_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "other.npz").write_bytes(contents)
    with pytest.raises(ValueError, match=r"other\.npz is not a saved model, or is damaged"):
        pt.load(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npy is not a saved model"):
        pt.load(tmp_path / "array.npy")


def test_a_header_that_is_no_object_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "list.npz", header=np.array("[1, 2]"))
    with pytest.raises(ValueError, match="its header is not an object"):
        pt.load(tmp_path / "list.npz")


def test_only_a_head_is_left_out_of_the_codes() -> None:
    x = np.zeros((2, 4), np.float32)
    assert pt.encode(network(), x).shape == (2, 3)
    coder = pt.Network(network().layers)  # a linear code layer is a code
    assert pt.encode(coder, x).shape == (2, 2)
    with pytest.raises(ValueError, match="no output layer of classes"):
        pt.predict(coder, x)
    with pytest.raises(ValueError, match="a Network does not reconstruct"):
        pt.reconstruct(coder, x)


def test_what_cannot_be_loaded_cannot_be_saved(tmp_path: Path) -> None:
    bad = pt.Network((pt.Dense(jnp.full((2, 2), jnp.inf), jnp.zeros(2)),))
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        pt.save(bad, tmp_path / "bad.npz")
    many = pt.Network((pt.Dense(jnp.zeros((5, 2, 2)), jnp.zeros((5, 2))),))
    with pytest.raises(ValueError, match="take one member of the population first"):
        pt.save(many, tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="the parameters of an RBM or a DBM; got tuple: give"):
        pt.save(network().layers, tmp_path / "bad.npz")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="there is no folder"):
        pt.save(network(), tmp_path / "absent" / "net.npz")


def test_predicting_checks_its_input() -> None:
    with pytest.raises(ValueError, match="takes 4 features; x has 5"):
        pt.predict(network(), np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="population of 5 networks"):
        pt.predict(
            pt.Network((pt.Dense(jnp.zeros((5, 2, 2)), jnp.zeros((5, 2))),), head=True), np.zeros((2, 2), np.float32)
        )
    with pytest.raises(ValueError, match=r"depth must lie in 1\.\.2; got 3"):
        pt.encode(network(), np.zeros((2, 4), np.float32), depth=3)
    with pytest.raises(ValueError, match=r"y must lie in 0\.\.1; got 2"):
        pt.evaluate(network(), pt.Batch(jnp.zeros((2, 4)), jnp.array([0, 2])))


def test_a_diverged_network_predicts_nothing() -> None:
    batch = pt.Batch(jnp.ones((2, 2)), jnp.array([0, 1]))
    diverged = pt.Network((pt.Dense(jnp.full((2, 2), jnp.nan), jnp.zeros(2), "linear"),), head=True)
    assert np.isnan(pt.evaluate(diverged, batch))
    with pytest.raises(ValueError, match="NaN or infinite, it has diverged"):
        pt.predict(diverged, batch.x)


@struct.dataclass
class Halved:
    """A layer of nobody's kind."""

    n_in: int = struct.field(pytree_node=False, default=4)

    def __call__(self, x: jax.Array) -> jax.Array:
        return 0.5 * x


def test_layers_of_other_kinds_are_used() -> None:
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(pt.encode(pt.Network((Halved(), *network().layers)), x, 1), 0.5 * x)
    np.testing.assert_array_equal(
        pt.predict(pt.Network((Halved(), *network().layers), head=True), x), pt.predict(network(), 0.5 * x)
    )


def every_kind() -> pt.Network:
    """A network with a layer of every kind."""
    draw = np.random.default_rng(1)
    arrays = {"landmarks": (5, 4), "projection": (5, 3), "bias": (3,), "gamma": (), "coef0": ()}
    arrays = {name: jnp.asarray(draw.random(shape), jnp.float32) for name, shape in arrays.items()}
    scale = pt.Rescaling(jnp.arange(4.0), jnp.full(4, 2.0))
    top = (pt.Dense(jnp.asarray(W[1]), jnp.zeros(2), "linear"),)
    return pt.Network((scale, pt.KernelMap(**arrays, kernel="polynomial", degree=3), *top), head=True)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.npz"
    pt.save(every_kind(), path)
    return path


def test_every_kind_of_layer_is_saved_and_used(mixed: Path) -> None:
    x = np.random.default_rng(0).random((7, 4), np.float32)
    again, before = pt.load(mixed), every_kind()
    assert isinstance(again, pt.Network)
    assert jax.tree.structure(again) == jax.tree.structure(before)  # kinds and choices
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(pt.encode(again, x), before.layers[1](before.layers[0](x)), rtol=1e-5)
    np.testing.assert_array_equal(pt.predict(again, x), np.argmax(before(x), axis=1))
    assert pt.encode(again, x, depth=1).shape == (7, 4)
    with pytest.raises(ValueError, match="takes 4 features; x has 5"):
        pt.encode(again, np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="population of 3 networks"):
        pt.encode(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), before), x)


KERNEL: dict[str, Any] = {"kind": "KernelMap", "kernel": "polynomial", "degree": 3}
SCALE = {"kind": "Rescaling"}
TOP = DENSE | {"activation": "linear"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"layers": [SCALE, KERNEL | {"kernel": "sine"}, TOP]}}, "unknown kernel 'sine'; known: rbf"),
        ({"header": {"layers": [SCALE, KERNEL | {"degree": 0}, TOP]}}, "degree 0, expected a whole number"),
        ({"header": {"layers": [SCALE, KERNEL | {"degree": 2.0}, TOP]}}, r"degree 2\.0, expected a whole number"),
        ({"header": {"layers": [SCALE, KERNEL | {"power": 2}, TOP]}}, r"unexpected fields \['power'\]"),
        ({"header": {"layers": [SCALE, {"kind": "KernelMap", "kernel": "rbf"}, TOP]}}, "'degree'"),
        ({"header": {"layers": [DENSE, KERNEL, TOP]}}, r"missing arrays \['layers\.0\.weights'"),
        ({"layers.1.gamma": None}, r"missing arrays \['layers\.1\.gamma'\]"),
        ({"layers.1.gamma": np.float32(np.inf)}, r"layers\.1\.gamma holds NaN or infinity"),
        ({"layers.1.gamma": np.ones(2, np.float32)}, r"gamma \(2,\) and coef0 \(\)$"),
        ({"layers.1.coef0": np.float64(1)}, r"layers\.1\.coef0 is float64, expected float32"),
        ({"layers.1.projection": np.ones((6, 3), np.float32)}, r"landmarks \(5, 4\), projection \(6, 3\), bias \(3,\)"),
        ({"layers.0.mean": np.ones(3, np.float32)}, r"layers\.0 has mean \(3,\) and deviation \(4,\)$"),
        (
            {"layers.0.mean": np.ones(3, np.float32), "layers.0.deviation": np.ones(3, np.float32)},
            "layer 0 has 3 units but layer 1 takes 4 inputs",
        ),
    ],
)
def test_what_does_not_fit_a_kind_is_refused(mixed: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pt.load(rewritten(mixed, **change))


def test_a_population_with_every_kind_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mean \(3, 4\) and deviation \(3, 4\): take one member"):
        pt.save(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), every_kind()), tmp_path / "net.npz")


def test_fixed_layers_are_no_parameters_in_flax() -> None:
    x = np.random.default_rng(0).random((7, 4), np.float32)
    module = pt.to_nnx(every_kind())
    np.testing.assert_allclose(module(x), every_kind()(x), rtol=1e-5)
    shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))]
    assert sorted(shapes) == [(2,), (3, 2)]  # the Dense layer's alone
    slopes = nnx.grad(lambda module: module(x).sum())(module)
    assert len(jax.tree.leaves(slopes)) == 2
