"""NORB's files: every way in which one can be wrong or disagree with another, and where they come from."""

from __future__ import annotations

import gzip
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import lay_out
from norb_files import ARRAYS, CAT, DAT, FILES, INFO, PARTS, POSES, SIDE, TEST, TRAIN, load, matrix, norb_module

from pretrain.data import BadFile, DataUnavailable, norb_pairs
from pretrain.data.matrix import header, read_matrix
from pretrain.data.prepared import shuffled_rows

pytestmark = pytest.mark.usefixtures("quick_compilation", "no_surroundings")


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
    path = lay_out(tmp_path, FILES, compressed=True) / f"{DAT}.gz"
    path.write_bytes(contents)
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        load(tmp_path)


def test_a_gzip_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as stream:
        stream.write(WHOLE + bytes(2**24))
    (lay_out(tmp_path, FILES, compressed=True) / f"{DAT}.gz").write_bytes(bomb.getvalue())
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
    lay_out(tmp_path / subfolder, FILES, compressed=compressed)
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
