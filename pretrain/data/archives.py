"""Named members of a package archive, read in memory: nothing is ever extracted to disk.

A member's path is only ever compared with the one asked for, so a path that climbs out of the archive or a link goes
nowhere.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pretrain.data.errors import BadFile
from pretrain.data.files import Files, gunzip_bounded, read_bounded

TAR_OVERHEAD = 16 * 2**20
"""Bytes that a tar archive may hold besides the members asked for."""


def read_tar(path: Path, members: Mapping[str, int]) -> Files:
    """Reads members of a gzip-compressed tar archive.

    The archive is decompressed in memory up to a limit before it is looked into, so no header can ask for more.

    Args:
        path: the archive.
        members: member path to the size in bytes beyond which reading stops (one byte more is returned).

    Returns:
        Contents by member path.

    Raises:
        BadFile: the archive is too large or unsound, or a member is absent or not a plain file.
    """
    limit = sum(members.values()) + TAR_OVERHEAD
    with path.open("rb") as stream:
        contents = gunzip_bounded(stream, limit, path.name)
    if len(contents) > limit:
        raise BadFile(f"{path.name}: over-long: decompresses to more than {limit:,} bytes")
    found: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(contents), mode="r:") as archive:
            for member in archive:
                if member.name not in members:
                    continue
                if not member.isreg():
                    raise BadFile(f"{path.name}: {member.name} is a link or a special file, not a plain one")
                stream = archive.extractfile(member)
                assert stream is not None  # a plain file always has one
                found[member.name] = read_bounded(stream, members[member.name])
    except tarfile.TarError as error:
        raise BadFile(f"{path.name}: not a sound tar archive ({error})") from error
    if absent := sorted(members.keys() - found.keys()):
        raise BadFile(f"{path.name}: holds no {', '.join(absent)}")
    return found


@contextmanager
def open_zip_member(path: Path, member: str) -> Iterator[IO[bytes]]:
    """Opens one member of a zip archive (a wheel is one) as a stream; the reader sets the bound.

    Raises:
        BadFile: the archive is unsound or the member absent.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if member not in archive.namelist():
                raise BadFile(f"{path.name}: holds no {member}")
            with archive.open(member) as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(f"{path.name}: not a sound zip archive ({error})") from error


def read_rows(stream: IO[bytes], n_rows: int, n_columns: int, where: str) -> NDArray[np.uint8]:
    """Reads comma-separated integers in 0..255 below one line of column names.

    Lines are taken one at a time, each at most as long as such a row can be, so a stream of any length costs no more
    memory than the table.

    Returns:
        ``[n_rows, n_columns]``

    Raises:
        BadFile: the rows, the columns or a value are not as expected, or more follows.
    """
    longest = 4 * n_columns + 2  # three digits and a comma each, and a line end
    stream.readline(16 * n_columns)
    lines = (stream.readline(longest) for _ in range(n_rows))
    try:
        rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",", comments=None, ndmin=2)
    except (ValueError, OverflowError) as error:
        raise BadFile(f"{where}: not rows of {n_columns} integers in 0..255 ({error})") from error
    if rows.shape != (n_rows, n_columns):
        raise BadFile(f"{where}: {rows.shape[0]:,} rows of {rows.shape[1]:,}, expected {n_rows:,} of {n_columns:,}")
    if stream.read(longest).strip():
        raise BadFile(f"{where}: over-long: more than {n_rows:,} rows")
    return rows
