"""NORB's files and their refusals, its splits, and each preprocessing against a plain computation of the same."""

from __future__ import annotations

import gzip
import importlib
import io
import struct
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrain import Batch
from pretrain.data import (
    BadFile,
    DataUnavailable,
    Shifts,
    Splits,
    contrast_normalised,
    foveated,
    norb,
    norb_pairs,
    shrunk,
    standardised_pairs,
    unfoveated,
    whitened,
)
from pretrain.data.matrix import header, read_matrix
from pretrain.data.prepared import shuffled_rows

norb_module = importlib.import_module("pretrain.data.norb")  # the attribute of that name is the function

pytestmark = pytest.mark.usefixtures("quick_compilation")

POSES, SIDE = 4, 6
PARTS = (
    norb_module.Published("tiny-training", (4, 6, 7), POSES, SIDE),
    norb_module.Published("tiny-testing", (0, 1), POSES, SIDE),
)
TRAIN, TEST = PARTS


def tiny_arrays() -> dict[str, np.ndarray]:
    """The six arrays in miniature: the category goes round, and the training part is shuffled."""
    random, arrays = np.random.RandomState(0), {}
    for part in PARTS:
        instance, pose, category = (
            index.ravel() for index in np.meshgrid(part.instances, np.arange(POSES), np.arange(5), indexing="ij")
        )
        info = np.stack([instance, pose, 2 * pose, pose % 6], axis=1).astype("<i4")
        order = random.permutation(part.n_rows) if part is TRAIN else np.arange(part.n_rows)
        arrays |= {
            part.file("dat"): random.randint(0, 256, (part.n_rows, 2, SIDE, SIDE)).astype(np.uint8),
            part.file("cat"): category[order].astype("<i4"),
            part.file("info"): info[order],
        }
    return arrays


def matrix(values: np.ndarray) -> bytes:
    """A file in NORB's format, written without the package: magic, dimensions, sizes, filled up with ones to three."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(values.dtype)]
    sizes = list(values.shape) + [1] * (3 - values.ndim)
    return struct.pack("<II", magic, values.ndim) + struct.pack(f"<{len(sizes)}I", *sizes) + values.tobytes()


ARRAYS = tiny_arrays()
FILES = {name: matrix(values) for name, values in ARRAYS.items()}
DAT, CAT, INFO = (TRAIN.file(kind) for kind in ("dat", "cat", "info"))


def lay_out(folder: Path, files: dict[str, bytes] = FILES, compressed: bool = False) -> Path:
    """Writes files into a folder, with .gz where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        path = folder / (name + ".gz" * compressed)
        path.write_bytes(gzip.compress(contents) if compressed else contents)
    return folder


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own is read."""
    monkeypatch.delenv("PRETRAIN_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no-prepared"))


def load(data_dir: Path | None, said: list[str] | None = None) -> Any:
    return norb_module.load(data_dir, PARTS, (said if said is not None else []).append)


def assert_is_tiny(pairs: Any) -> None:
    for part, expected in zip(pairs, PARTS, strict=True):
        np.testing.assert_array_equal(part.images, ARRAYS[expected.file("dat")])
        np.testing.assert_array_equal(part.category, ARRAYS[expected.file("cat")])
        np.testing.assert_array_equal(np.stack(part[2:], axis=1), ARRAYS[expected.file("info")])
        assert all(field.dtype == np.int32 for field in part[1:])


# ---------------------------------------------------------------- the format


def test_matrices_of_every_rank_are_mapped_not_read(tmp_path: Path) -> None:
    random = np.random.RandomState(1)
    for shape in ((5,), (5, 4), (5, 4, 3), (5, 4, 3, 2)):
        for dtype in ("uint8", "<i4"):
            values = random.randint(0, 256, shape).astype(dtype)
            path = tmp_path / "a.mat"
            path.write_bytes(matrix(values))
            found = read_matrix(path, shape, dtype)
            assert isinstance(found, np.memmap)
            assert not found.flags.writeable
            np.testing.assert_array_equal(found, values)
            assert len(header(shape, dtype)) == 8 + 4 * max(3, len(shape)) == len(matrix(values)) - values.nbytes


WHOLE = FILES[DAT]
SIZE = f"{len(WHOLE):,}"
BAD = {
    "empty": (b"", "truncated: 0 bytes, its header alone is 24"),
    "half a header": (WHOLE[:10], "truncated: 10 bytes, its header alone is 24"),
    "truncated": (WHOLE[:-1], f"truncated: {len(WHOLE) - 1:,} bytes, expected {SIZE}"),
    "over-long": (WHOLE + b"\0", f"over-long: more than the expected {SIZE} bytes"),
    "wrong magic": (b"\0\0\x08\x03" + WHOLE[4:], "wrong magic number 00000803, expected 554c3d1e: fetch it again"),
    "another kind": (FILES[CAT], "wrong magic number 544c3d1e, expected 554c3d1e: it is a matrix of int32"),
    "gzip without its name": (gzip.compress(WHOLE), "wrong magic number 1f8b0800, .*: add .gz to its name"),
    "wrong shape": (
        FILES[TEST.file("dat")],
        "wrong shape: .* 4 dimensions, 40 x 2 x 6 x 6, expected .* 60 x 2 x 6 x 6",
    ),
    "wrong rank": (
        matrix(ARRAYS[DAT].reshape(60, 12, 6)) + bytes(4),
        "wrong shape: its header says 3 dimensions, 60 x 12 x 6, expected 4",
    ),
}


@pytest.mark.parametrize(("raw", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_by_name(raw: bytes, message: str, tmp_path: Path) -> None:
    path = lay_out(tmp_path, FILES | {DAT: raw}) / DAT
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (gzip.compress(WHOLE)[:-20], "truncated"),
        (WHOLE, "not a sound gzip file"),
        (gzip.compress(WHOLE) * 2, "over-long"),
        (gzip.compress(WHOLE[:-5]), "truncated"),
        (gzip.compress(FILES[CAT]), "wrong magic number"),
    ],
    ids=["cut", "plain", "twice", "short", "another"],  # not the bytes, which hold the time
)
def test_a_bad_gzip_is_refused_by_name(tmp_path: Path, contents: bytes, message: str) -> None:
    path = lay_out(tmp_path, compressed=True) / f"{DAT}.gz"
    path.write_bytes(contents)
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        load(tmp_path)


def test_a_gzip_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as stream:
        stream.write(WHOLE + bytes(2**24))
    (lay_out(tmp_path, compressed=True) / f"{DAT}.gz").write_bytes(bomb.getvalue())
    asked: list[int] = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or original(self, size))
    with pytest.raises(BadFile, match="over-long"):
        load(tmp_path)
    assert asked == [len(WHOLE) + 1]


# ---------------------------------------------------------------- what must hold between the files


def altered(name: str, change: Any) -> dict[str, bytes]:
    values = ARRAYS[name].copy()
    change(values)
    return {name: matrix(values)}


def swap_instances(info: np.ndarray) -> None:
    """Two rows of one category change objects: each file stays right by itself."""
    of_category = np.flatnonzero(ARRAYS[CAT] == 3)
    info[of_category[info[of_category, 0] == 4][0], 0] = 6


DISAGREEING = {
    "category": (altered(CAT, lambda a: a.__setitem__(7, 5)), rf"{CAT}: category 5 in row 7, expected 0\.\.4"),
    "negative": (altered(CAT, lambda a: a.__setitem__(7, -1)), f"{CAT}: category -1 in row 7"),
    "balance": (altered(CAT, lambda a: a.__setitem__(a == 1, 0)), f"{CAT}: 24 rows of category 0, expected 12 of each"),
    "other objects": (
        altered(INFO, lambda a: a.__setitem__((9, 0), 5)),
        rf"{INFO}: instance 5 in row 9, expected one of \(4, 6, 7\): is it the other part's",
    ),
    "together": (
        altered(INFO, swap_instances),
        f"{INFO}: 3 rows of instance 4 in category 3, expected 4: it and .*{CAT} do not belong together",
    ),
    "shuffled": (
        altered(CAT, lambda a: a.__setitem__(slice(None), a[::-1].copy())),
        f"{INFO}: .* do not belong together",
    ),
    "lengths": ({CAT: FILES[TEST.file("cat")]}, f"{CAT}: wrong shape: .* 1 dimensions, 40, expected 1 dimensions, 60"),
    "pose": (
        altered(INFO, lambda a: a.__setitem__((2, 2), 36)),
        rf"{INFO}: azimuth 36 in row 2, expected 0\.\.35, or -1",
    ),
}


@pytest.mark.parametrize(("files", "message"), DISAGREEING.values(), ids=DISAGREEING.keys())
def test_files_that_disagree_are_refused_by_name(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(BadFile, match=message):
        load(lay_out(tmp_path, FILES | files))


# ---------------------------------------------------------------- where it comes from


@pytest.mark.parametrize(("subfolder", "compressed"), [(".", False), ("norb", True)])
def test_a_folder_plain_or_compressed(tmp_path: Path, subfolder: str, compressed: bool) -> None:
    lay_out(tmp_path / subfolder, compressed=compressed)
    said: list[str] = []
    pairs = load(tmp_path, said)
    assert_is_tiny(pairs)
    assert isinstance(pairs.train.images, np.memmap) is not compressed
    assert said == [f"norb: loaded from the folder {tmp_path} (data_dir), categories and objects verified"]


def test_a_copy_without_poses_is_called_one(tmp_path: Path) -> None:
    def forget(info: np.ndarray) -> None:
        info[:, 1:] = -1

    said: list[str] = []
    pairs = load(lay_out(tmp_path, FILES | altered(INFO, forget) | altered(TEST.file("info"), forget)), said)
    assert said[0].endswith("; a copy without poses")
    assert (np.stack(pairs.train[3:]) == -1).all()


def test_a_named_folder_must_hold_the_files(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="is not a folder"):
        load(tmp_path / "absent")
    with pytest.raises(
        DataUnavailable, match=f"nor its norb/ holds {DAT} or {DAT}.gz. NORB is published, for research"
    ):
        load(tmp_path)


def test_without_a_source_the_error_says_where_norb_is_and_what_to_place(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRETRAIN_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable) as caught:
        norb_pairs(say=lambda line: None)
    for text in ("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/", "CVPR 2004", "PRETRAIN_DATA", "no-prepared"):
        assert text in str(caught.value)
    for part in ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing"):
        assert all(f"smallnorb-{part}-{kind}.mat" in str(caught.value) for kind in ("dat", "cat", "info"))
    lay_out(tmp_path, FILES | {DAT: WHOLE[:-1]})
    with pytest.raises(BadFile, match="truncated"):  # a bad file in the environment's folder ends the search
        load(None)


def test_a_prepared_directory_is_put_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields are those of tensorflow-datasets' own builder, which halves azimuths."""

    def data_source(name: str, *, split: str, data_dir: str, download: bool) -> list[dict[str, Any]]:
        assert (name, data_dir, download) == ("smallnorb", str(tmp_path), False)
        images, category, info = (ARRAYS[(TRAIN if split == "train" else TEST).file(k)] for k in ("dat", "cat", "info"))
        return [
            {
                "image": images[row, 0, :, :, None],
                "image2": images[row, 1, :, :, None],
                "label_category": np.int64(category[row]),
                "instance": np.int64(info[row, 0]),
                "label_elevation": np.int64(info[row, 1]),
                "label_azimuth": np.int64(info[row, 2] // 2),
                "label_lighting": np.int64(info[row, 3]),
            }
            for row in shuffled_rows(split, len(images))
        ]

    module = types.ModuleType("tensorflow_datasets")
    vars(module)["data_source"] = data_source
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "smallnorb" / "2.0.0").mkdir(parents=True)
    (tmp_path / "smallnorb" / "2.0.0" / "smallnorb-train.array_record-00000-of-00001").write_bytes(b"")
    said: list[str] = []
    assert_is_tiny(load(None, said))
    assert "none was named" in said[0]
    assert "prepared" in said[1]
    with pytest.raises(DataUnavailable, match="60 examples in 'train', expected 24,300"):
        norb_pairs(say=lambda line: None)
    wide = norb_module.Published("wide", TRAIN.instances, POSES, SIDE + 1)
    with pytest.raises(BadFile, match=r"'image' of shape \(6, 6, 1\) in 'train', expected \(7, 7\)"):
        norb_module.from_prepared((wide, wide))


# ---------------------------------------------------------------- the split


def row_numbers(images: np.ndarray) -> np.ndarray:
    """Stands in for a preparation: a pair's first pixels, by which it is known again."""
    return images[:, 0, 0, :4].astype(np.float32)


def split(tmp_path: Path, **options: Any) -> tuple[Splits, list[np.ndarray]]:
    """The tiny set in three parts, and the row numbers in each."""
    pairs = load(lay_out(tmp_path))
    settings = {"hold_out": "random", "seed": 0, "n_train": None, "n_valid": None, "n_test": None, "held_out": 15}
    parts = norb_module.splits(pairs, row_numbers, **(settings | options))
    rows = []
    for part, of in zip(parts, (pairs.train, pairs.train, pairs.test), strict=True):
        known = {tuple(row): number for number, row in enumerate(row_numbers(of.images))}
        rows.append(np.array([known[tuple(row)] for row in np.asarray(part.x)]))
        np.testing.assert_array_equal(part.y, of.category[rows[-1]])
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int32
    return parts, rows


def count(of: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of each object: ``[categories, instances]``, those that occur."""
    kinds = ARRAYS[of.file("cat")][rows] * 10 + ARRAYS[of.file("info")][rows, 0]
    return np.array([[np.sum(kinds == 10 * c + i) for i in of.instances] for c in range(5)])


def test_a_random_split_is_disjoint_and_stratified(tmp_path: Path) -> None:
    _, (train, valid, test) = split(tmp_path)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(60))
    np.testing.assert_array_equal(count(TRAIN, valid), np.ones((5, 3)))
    np.testing.assert_array_equal(test, np.arange(40))
    assert all((np.diff(rows) > 0).all() for rows in (train, valid))
    assert not np.array_equal(split(tmp_path, seed=1)[1][1], valid)
    np.testing.assert_array_equal(split(tmp_path)[1][1], valid)


def test_an_object_that_validates_is_not_trained_on(tmp_path: Path) -> None:
    held = set()
    for seed in range(4):
        _, (train, valid, _) = split(tmp_path, hold_out="instance", seed=seed)
        trained, validated = count(TRAIN, train), count(TRAIN, valid)
        assert ((trained > 0) != (validated > 0)).all()
        np.testing.assert_array_equal((validated > 0).sum(axis=1), np.ones(5))  # one object a category
        np.testing.assert_array_equal(validated.sum(axis=1), np.full(5, 3))  # 15 of its 20 rows, stratified
        np.testing.assert_array_equal(trained.sum(axis=1), np.full(5, 8))  # all of the others
        held.add(tuple(validated.argmax(axis=1)))
    assert len(held) > 1


def test_subsets_have_equal_shares_of_objects(tmp_path: Path) -> None:
    options = {"hold_out": "instance", "n_train": 20, "n_valid": 10, "n_test": 20}
    _, (train, valid, test) = split(tmp_path, **options)
    trained = count(TRAIN, train)
    np.testing.assert_array_equal(np.sort(trained, axis=1), np.tile([0, 2, 2], (5, 1)))
    np.testing.assert_array_equal(count(TRAIN, valid).sum(axis=1), np.full(5, 2))
    np.testing.assert_array_equal(count(TEST, test), np.full((5, 2), 2))
    assert not np.array_equal(split(tmp_path, **options, seed=3)[1][2], test)
    with pytest.raises(ValueError, match=r"n_train must lie in 1\.\.40, the pairs there are; got 41"):
        split(tmp_path, hold_out="instance", n_train=41)
    with pytest.raises(ValueError, match=r"hold_out must be one of \('random', 'instance'\); got 'object'"):
        norb(hold_out="object")  # type: ignore[arg-type]


def test_rows_are_prepared_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norb_module, "BLOCK", 7)
    seen: list[int] = []

    def prepare(images: np.ndarray) -> np.ndarray:
        assert type(images) is np.ndarray
        seen.append(len(images))
        return shrunk(images)

    part = load(lay_out(tmp_path)).test
    batch = norb_module.batch(part, np.arange(1, 40, 2), prepare)
    assert seen == [7, 7, 6]
    np.testing.assert_array_equal(batch.x, shrunk(part.images[1::2]))
    np.testing.assert_array_equal(
        norb_module.batch(part, np.arange(9), lambda images: images).x[8], part.images[8].ravel()
    )


# ---------------------------------------------------------------- preprocessing


def images(side: int = 12, rows: int = 3) -> np.ndarray:
    return np.random.RandomState(2).randint(0, 256, (rows, 2, side, side)).astype(np.uint8)


def test_shrunk_is_the_mean_of_each_block() -> None:
    x = images()
    expected = np.zeros((3, 2, 4, 4))
    for down in range(4):
        for right in range(4):
            block = x[:, :, 3 * down : 3 * down + 3, 3 * right : 3 * right + 3].astype(np.float64)
            expected[:, :, down, right] = block.mean(axis=(2, 3)) / 255
    found = shrunk(x)
    assert (found.shape, found.dtype) == ((3, 32), np.float32)
    np.testing.assert_allclose(found, expected.reshape(3, -1), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(shrunk)(jnp.asarray(x)), found, rtol=1e-6)
    np.testing.assert_allclose(shrunk(x / 255), found, rtol=1e-6)  # floating point: as it is
    assert shrunk(np.full((1, 2, 96, 96), 255, np.uint8)).shape == (1, 2048)
    with pytest.raises(ValueError, match="factor must divide the images' 12 x 12 pixels; got 5"):
        shrunk(x, 5)
    with pytest.raises(ValueError, match=r"\[rows, eyes, height, width\]; got \(3, 288\)"):
        shrunk(x.reshape(3, -1))


def plain_foveation(image: np.ndarray, rings: tuple[int, ...]) -> list[float]:
    """Block by block, over the whole image again for each ring: one whose distance to the edge is the ring's."""
    values, start, side = [], 0, len(image)
    for ring in rings:
        for down in range(start, side - start, ring):
            for right in range(start, side - start, ring):
                if start in (down, right) or side - start - ring in (down, right):
                    values.append(image[down : down + ring, right : right + ring].mean())
        start += ring
    return values + [image[down, right] for down in range(start, side - start) for right in range(start, side - start)]


@pytest.mark.parametrize(("side", "rings", "n_values"), [(12, (2, 2, 1), 20 + 12 + 12 + 4), (96, (8, 4, 2, 2), 4488)])
def test_foveated_keeps_the_centre_and_pools_rings(side: int, rings: tuple[int, ...], n_values: int) -> None:
    x = images(side, 2)
    expected = [[plain_foveation(eye / 255, rings) for eye in row] for row in x]
    found = foveated(x, rings)
    assert found.dtype == np.float32
    assert found.shape == (2, 2 * n_values)
    np.testing.assert_allclose(found, np.reshape(expected, (2, -1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(foveated, static_argnums=1)(jnp.asarray(x), rings), found, rtol=1e-6)
    pictures = unfoveated(found, 2, side, rings)
    assert pictures.shape == x.shape
    np.testing.assert_allclose(foveated(pictures, rings), found, rtol=1e-6)  # a block of its mean has that mean
    edge = sum(rings)
    np.testing.assert_array_equal(
        pictures[:, :, edge:-edge, edge:-edge], (x / np.float32(255))[:, :, edge:-edge, edge:-edge]
    )
    np.testing.assert_allclose(pictures[:, :, : rings[0], : rings[0]].std(axis=(2, 3)), 0, atol=1e-6)


def test_foveation_that_does_not_fit_is_refused() -> None:
    assert foveated(images(96, 1)).shape == (1, 8976)
    with pytest.raises(ValueError, match=r"rings \(5,\) do not fit"):
        foveated(images(), (5,))
    with pytest.raises(ValueError, match=r"rings \(6,\) do not fit"):
        foveated(images(), (6,))
    with pytest.raises(ValueError, match="must be square; got 12 x 9"):
        foveated(images()[:, :, :, :9])
    with pytest.raises(ValueError, match=r"x must have shape \[rows, 8976\]"):
        unfoveated(np.zeros((1, 4488), np.float32))


def test_contrast_is_normalised_within_the_window() -> None:
    """Pixel by pixel, with the window's weights written out and cut at the border."""
    x, width, sigma = images(7, 2) / 255, 5, 1.5
    x[1] *= 0.01  # less contrast; the result must not tell

    def means(eye: np.ndarray) -> np.ndarray:
        place = np.arange(7)
        near = np.abs(place[:, None] - place) <= width // 2
        weights = near * np.exp(-np.square(place[:, None] - place) / (2 * sigma**2))
        window = np.einsum("id,jr->ijdr", weights, weights)
        return np.einsum("ijdr,dr->ij", window / window.sum(axis=(2, 3), keepdims=True), eye)

    found = contrast_normalised(x, width, sigma)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    for eye, got in zip(x.reshape(-1, 7, 7), found.reshape(-1, 7, 7), strict=True):
        centred = eye - means(eye)
        deviation = np.sqrt(means(np.square(centred)))
        np.testing.assert_allclose(got, centred / np.maximum(deviation, deviation.mean()), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(contrast_normalised(np.full((1, 2, 9, 9), 77, np.uint8)), 0, atol=1e-2)
    grey = images(7, 1)
    np.testing.assert_array_equal(contrast_normalised(grey), contrast_normalised(grey / np.float32(255)))
    with pytest.raises(ValueError, match="odd width and a positive sigma; got width 4"):
        contrast_normalised(x, 4)


def correlated(rows: int, features: int = 6) -> Splits:
    """Three parts with means, scales and correlations; the two eyes differ in scale."""
    random = np.random.RandomState(3)
    mixing = random.normal(size=(features, features)) * np.repeat([1.0, 5.0], features // 2)
    draw = lambda n: jnp.asarray(random.normal(size=(n, features)) @ mixing + 10 * np.arange(features), jnp.float32)  # noqa: E731
    return Splits(*(Batch(draw(n), jnp.arange(n)) for n in (rows, 20, 30)))


def test_pairs_are_standardised_by_feature_and_eye() -> None:
    splits = correlated(200)
    found, layer = standardised_pairs(splits)
    x = np.asarray(splits.train.x, np.float64)
    mean = x.mean(axis=0)
    deviation = np.sqrt([((x - mean)[:, eye] ** 2).mean() for eye in (slice(0, 3), slice(3, 6))]).repeat(3)
    assert deviation[5] > 2 * deviation[0]
    for batch, before in zip(found, splits, strict=True):
        np.testing.assert_allclose(batch.x, (before.x - mean) / deviation, atol=1e-5)
        np.testing.assert_array_equal(batch.x, jax.jit(lambda layer, x: layer(x))(layer, before.x))
        np.testing.assert_allclose(batch.x * layer.deviation + layer.mean, before.x, atol=1e-4)
        assert batch.y is before.y
    one_eye = np.sqrt(((x - mean) ** 2).mean())
    np.testing.assert_allclose(standardised_pairs(splits, eyes=1)[1].deviation, np.full(6, one_eye), rtol=1e-5)
    with pytest.raises(ValueError, match="6 features do not divide among 4 eyes"):
        standardised_pairs(splits, eyes=4)


def test_whitened_training_rows_have_the_identity_for_covariance() -> None:
    splits = correlated(400)
    found, layer = whitened(splits, epsilon=0.0)
    np.testing.assert_allclose(np.cov(np.asarray(found.train.x).T, bias=True), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(np.asarray(found.train.x).mean(axis=0), 0, atol=1e-4)
    assert np.abs(np.cov(np.asarray(found.test.x).T) - np.eye(6)).max() > 0.05  # by the training rows alone
    np.testing.assert_allclose(layer.weights, layer.weights.T, atol=1e-6)  # no turning
    x = np.asarray(splits.train.x, np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    matrix = vectors / np.sqrt(values + 0.7) @ vectors.T
    found, layer = whitened(splits, epsilon=0.7)
    for batch, before in zip(found, splits, strict=True):
        np.testing.assert_allclose(batch.x, (before.x - x.mean(axis=0)) @ matrix, atol=1e-3)
        np.testing.assert_allclose(layer(before.x), batch.x, atol=1e-3)
        assert batch.y is before.y
    flat = splits._replace(train=splits.train._replace(x=splits.train.x.at[:, 2].set(1.0)))
    assert np.isfinite(np.asarray(whitened(flat, epsilon=0.0)[0].train.x)).all()
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        whitened(splits, epsilon=-1)


# ---------------------------------------------------------------- shifts

SHAPE = (2, 5, 7)


def moved_by(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Both eyes rolled, then what came in from the other side replaced by the edge."""
    image = np.roll(image, (down, right), axis=(1, 2))
    if down > 0:
        image[:, :down] = image[:, down : down + 1]
    if down < 0:
        image[:, down:] = image[:, down - 1 : down]
    if right > 0:
        image[:, :, :right] = image[:, :, right : right + 1]
    if right < 0:
        image[:, :, right:] = image[:, :, right - 1 : right]
    return image


def test_shifts_roll_both_eyes_alike_and_repeat_the_edge() -> None:
    x = np.random.RandomState(4).permutation(600 * 70).reshape(600, *SHAPE).astype(np.float32)
    found = np.asarray(jax.jit(Shifts(SHAPE, pixels=2))(jnp.asarray(x.reshape(600, -1)), jax.random.key(0)))
    counts = np.zeros((5, 5), int)
    for before, after in zip(x, found.reshape(x.shape), strict=True):
        matching = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(moved_by(before.copy(), down, right), after)
        ]
        assert len(matching) == 1
        counts[matching[0][0] + 2, matching[0][1] + 2] += 1
    assert counts.min() > 0
    assert ((counts - 24) ** 2 / 24).sum() < 60  # chi-squared, 24 degrees of freedom: exceeded once in 17,000


def test_shifts_are_a_static_pytree_and_vmap_over_members() -> None:
    shifts = Shifts(SHAPE, pixels=2)
    assert jax.tree.leaves(shifts) == []
    assert hash(shifts) == hash(Shifts(SHAPE, pixels=2))
    x = jnp.arange(2 * 4 * 70, dtype=jnp.float32).reshape(2, 4, 70)
    keys = jax.random.split(jax.random.key(1), 2)
    together = jax.vmap(shifts)(x, keys)
    for member in range(2):
        np.testing.assert_array_equal(together[member], shifts(x[member], keys[member]))
    np.testing.assert_array_equal(Shifts(SHAPE, pixels=0)(x[0], keys[0]), x[0])
    assert shifts(x[0].astype(jnp.uint8), keys[0]).dtype == jnp.uint8


def test_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[rows, 70\] for 2 images of 5 x 7 pixels a row; got \(4, 71\)"):
        Shifts(SHAPE)(jnp.zeros((4, 71)), jax.random.key(0))
    with pytest.raises(ValueError, match="pixels must be a whole number of at least 0; got -1"):
        Shifts(SHAPE, pixels=-1)
    with pytest.raises(ValueError, match="height must be a whole number of at least 1; got 0"):
        Shifts((2, 0, 7))
