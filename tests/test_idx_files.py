"""Files of images and labels: every way in which one can be wrong, in a folder, compressed, and in the cache."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import lay_out
from mnist_files import ARRAYS, FILES, IMAGES, MANIFEST, N_TRAIN, SIDE, WHOLE

from pretrain.data import BadFile
from pretrain.data.files import cache_folder, read_folder, write_atomically
from pretrain.data.idx import decode, verify

pytestmark = pytest.mark.usefixtures("no_surroundings")


# The idx format


def test_idx_round_trip():
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(decode(FILES[name]), values)
    assert FILES[IMAGES.name][:8] == bytes((0, 0, 8, 3, 0, 0, 0, N_TRAIN))
    assert IMAGES.size == len(FILES[IMAGES.name]) == 16 + N_TRAIN * SIDE * SIDE


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0", b"\0\0\x0d\x01" + bytes(8), FILES[IMAGES.name][:10], FILES[IMAGES.name][:-1]]
)
def test_idx_of_the_wrong_form_is_refused(raw: bytes):
    with pytest.raises(BadFile, match="some file: "):
        decode(raw, "some file")


BAD_FILES = {
    "empty": (b"", "truncated: 0 bytes, expected 124"),
    "truncated": (WHOLE[:-1], "truncated: 123 bytes, expected 124"),
    "over-long": (WHOLE + b"\0", "over-long: more than the expected 124 bytes"),
    "wrong magic": (b"\0\0\x08\x01" + WHOLE[4:], "wrong magic number 00000801, expected 00000803"),
    "wrong magic and truncated": (b"\0\0\x0d\x03", "wrong magic number 00000d03, expected 00000803"),
    "truncated and altered": (WHOLE[:20] + b"\xff" * 20, "truncated"),
    "wrong checksum": (WHOLE[:-1] + bytes((WHOLE[-1] ^ 1,)), f"wrong checksum: sha256 .*, expected {IMAGES.sha256}"),
    "wrong dimensions": (WHOLE[:4] + WHOLE[8:12] + WHOLE[4:8] + WHOLE[12:], "wrong checksum"),
    "gzip without its name": (gzip.compress(WHOLE), "wrong magic number 1f8b0800, .* it is gzip-compressed: add .gz"),
}


@pytest.mark.parametrize(("raw", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file_is_refused_by_name(raw: bytes, message: str, tmp_path: Path):
    with pytest.raises(BadFile, match=f"the file: {message}"):
        verify(raw, IMAGES, "the file")
    path = lay_out(tmp_path / "data", FILES | {IMAGES.name: raw}) / IMAGES.name
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        read_folder(tmp_path / "data", MANIFEST, "mnist")


# A folder


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("subfolder", [".", "mnist"])
def test_folder_raw_or_compressed(tmp_path: Path, subfolder: str, compressed: bool):
    lay_out(tmp_path / subfolder, FILES, compressed=compressed)
    assert read_folder(tmp_path, MANIFEST, "mnist") == FILES


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (gzip.compress(WHOLE)[:-20], "truncated"),
        (WHOLE, "not a sound gzip file"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "not a sound gzip file"),
        (gzip.compress(WHOLE) * 2, "over-long"),
        (gzip.compress(WHOLE[:-5]), "truncated"),
    ],
    ids=["cut", "plain", "sum", "twice", "short"],  # not the bytes, which hold the time
)
def test_bad_gzip_is_refused_by_name(tmp_path: Path, contents: bytes, message: str):
    path = lay_out(tmp_path, FILES, compressed=True) / f"{IMAGES.name}.gz"
    path.write_bytes(contents)
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        read_folder(tmp_path, MANIFEST, "mnist")


def test_gzip_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as stream:
        stream.write(WHOLE)
        for _ in range(64):
            stream.write(bytes(2**20))
    path = lay_out(tmp_path, FILES, compressed=True) / f"{IMAGES.name}.gz"
    path.write_bytes(bomb.getvalue())
    asked: list[int] = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or original(self, size))
    with pytest.raises(BadFile, match=f"{path}: over-long"):
        read_folder(tmp_path, MANIFEST, "mnist")
    assert asked == [IMAGES.size + 1]


# The cache


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_cache_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="the disk is full"):
            write_atomically(path, b"after")
    assert [child.name for child in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"
    write_atomically(path, b"after")
    assert path.read_bytes() == b"after"


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert cache_folder() == tmp_path / "default-cache"
    monkeypatch.delenv("PRETRAIN_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    places = {"linux": tmp_path / "xdg", "darwin": tmp_path / "Library" / "Caches", "win32": tmp_path / "local"}
    for platform, place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == place / "pretrain"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "pretrain"
