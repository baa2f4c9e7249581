"""Raw data files on disk: bounded reading, a user's folder, and a cache that never holds half a file."""

from __future__ import annotations

import gzip
import io
import os
import sys
import uuid
import zlib
from pathlib import Path
from typing import IO, Protocol

from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.idx import Manifest, verify

Files = dict[str, bytes]
"""Raw (decompressed) file contents by published name."""


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


def read_bounded(stream: Readable, limit: int) -> bytes:
    """Returns the rest of a stream, or its first ``limit + 1`` bytes where it is longer: enough to know that it is."""
    parts, missing = [], limit + 1
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def gunzip_bounded(stream: IO[bytes], limit: int, where: str) -> bytes:
    """Decompresses a gzip stream, stopping at ``limit + 1`` bytes, so that a small file cannot fill the memory.

    Raises:
        BadFile: the stream is not gzip, is damaged, or ends early.
    """
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as decompressed:
            return read_bounded(decompressed, limit)
    except EOFError as error:
        raise BadFile(f"{where}: truncated: its gzip stream ends early: fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{where}: not a sound gzip file ({error}): fetch it again, or drop .gz if it is raw") from error


def gunzip_bytes(compressed: bytes, limit: int, where: str) -> bytes:
    """As `gunzip_bounded`, of bytes in memory."""
    return gunzip_bounded(io.BytesIO(compressed), limit, where)


def read_folder(folder: Path, manifest: Manifest, subfolder: str) -> Files:
    """Reads and verifies every file of the manifest, raw or with ``.gz``, from the folder or from its ``subfolder``.

    Raises:
        DataUnavailable: the folder or a file is not there.
        BadFile: a file is there but cannot be read or is not the published one.
    """
    if not folder.is_dir():
        raise DataUnavailable(f"{folder} is not a folder")
    files: Files = {}
    for expected in manifest:
        names = (expected.name, f"{expected.name}.gz")
        candidates = [parent / name for parent in (folder, folder / subfolder) for name in names]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            raise DataUnavailable(f"neither {folder} nor its {subfolder}/ holds {names[0]} or {names[1]}")
        try:
            with path.open("rb") as stream:
                if path.suffix == ".gz":
                    raw = gunzip_bounded(stream, expected.size, str(path))
                else:
                    raw = read_bounded(stream, expected.size)
        except OSError as error:
            raise BadFile(f"{path}: cannot be read: {error}") from error
        verify(raw, expected, str(path))
        files[expected.name] = raw
    return files


def cache_folder() -> Path:
    """Returns the package's cache: ``PRETRAIN_CACHE`` if set, else ``pretrain`` in the platform's user cache folder."""
    if chosen := os.environ.get("PRETRAIN_CACHE"):
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = home / "Library" / "Caches"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return parent / "pretrain"


def write_atomically(path: Path, contents: bytes) -> None:
    """Writes a whole file or none: to a temporary name beside it, through to the disk, then renamed into place.

    Raises:
        OSError: the file could not be written; what stood at ``path`` before still does.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder(folder: Path, files: Files) -> None:
    """Writes every file atomically; makes the folder where it is absent.

    Raises:
        OSError: a file could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        write_atomically(folder / name, contents)
