"""NORB's binary matrix format: a little-endian header, then the array in row-major order.

The header is a magic number, which tells the type of the elements, the number of dimensions, and one 32-bit size for
each dimension; where there are fewer than three, sizes of 1 fill the places up to three. Nothing else is in the file,
so shape and type fix the header and the length, and a file can be refused before a byte of its contents is believed.

Reference: the format's description beside the data, https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.files import gunzip_bounded
from pretrain.data.idx import GZIP_MAGIC

MAGIC = {np.dtype("<i4"): 0x1E3D4C54, np.dtype("uint8"): 0x1E3D4C55}
"""The magic number of each type of element that NORB's files hold."""


def header(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """Returns the bytes before the data: ``8 + 4 * max(3, len(shape))`` of them."""
    sizes = (*shape, *(1,) * (3 - len(shape)))
    return struct.pack(f"<{2 + len(sizes)}I", MAGIC[np.dtype(dtype)], len(shape), *sizes)


def find_matrix(folder: Path, name: str, subfolder: str) -> Path:
    """Returns where a file is, plain or with .gz, in the folder or in its ``subfolder``.

    Raises:
        DataUnavailable: it is not there.
    """
    for candidate in (parent / each for parent in (folder, folder / subfolder) for each in (name, f"{name}.gz")):
        if candidate.exists():
            return candidate
    raise DataUnavailable(f"neither {folder} nor its {subfolder}/ holds {name} or {name}.gz")


def read_matrix(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Returns the array in a file that must hold this shape and type.

    A plain file is mapped into memory, read-only: its pages are read when they are looked at, and the system may drop
    them again. A ``.gz`` is decompressed into memory, to one byte more than expected at most.

    Args:
        path: the file; its name ends in ``.gz`` where it is compressed.
        shape: the sizes that its header must state.
        dtype: ``uint8`` or little-endian ``int32``.

    Raises:
        BadFile: the file cannot be read, or is not such a matrix.
    """
    opening = header(shape, dtype)
    size = len(opening) + math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with path.open("rb") as stream:
            compressed = path.suffix == ".gz"
            raw = gunzip_bounded(stream, size, str(path)) if compressed else stream.read(len(opening))
        length = len(raw) if compressed else path.stat().st_size
        check_header(raw[: len(opening)], opening, str(path))
        if length < size:
            raise BadFile(f"{path}: truncated: {length:,} bytes, expected {size:,}: fetch it again")
        if length > size:
            raise BadFile(f"{path}: over-long: more than the expected {size:,} bytes: fetch it again")
        if compressed:
            return np.frombuffer(raw, dtype, offset=len(opening)).reshape(shape)
        return np.memmap(path, dtype, "r", len(opening), shape)
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error}") from error


def check_header(found: bytes, expected: bytes, where: str) -> None:
    """Checks the first bytes of a file against the header it must have: the magic number, then the sizes.

    Raises:
        BadFile: they differ, or end early.
    """
    if found[:4] != expected[:4][: len(found)]:
        hint = "fetch it again"
        if found.startswith(GZIP_MAGIC):
            hint = "it is gzip-compressed: add .gz to its name"
        elif kind := next((kind for kind, magic in MAGIC.items() if found[:4] == struct.pack("<I", magic)), None):
            hint = f"it is a matrix of {kind}, another one of the files: give it its own name"
        raise BadFile(f"{where}: wrong magic number {found[:4].hex()}, expected {expected[:4].hex()}: {hint}")
    if len(found) < len(expected):
        raise BadFile(f"{where}: truncated: {len(found)} bytes, its header alone is {len(expected)}: fetch it again")
    if found != expected:
        raise BadFile(
            f"{where}: wrong shape: its header says {sizes(found)}, expected {sizes(expected)}: is it a file of "
            "another data set, or of the other part?"
        )


def sizes(opening: bytes) -> str:
    """Returns in words what the first bytes of a file, as many as the expected header has, say of its dimensions."""
    n_dimensions, *found = struct.unpack(f"<{len(opening) // 4 - 1}I", opening[4:])
    return f"{n_dimensions} dimensions, {' x '.join(map(str, found[: max(1, n_dimensions)]))}"
