"""The idx format of the MNIST files: a big-endian header, then unsigned bytes in row-major order.

The header is a magic number (two zero bytes, the type code 0x08 for unsigned bytes, the number of dimensions) and then
one 32-bit size for each dimension. Nothing else is in the file, so the shape alone fixes the header and the length, and
a file can be refused before a byte of its contents is believed.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretrain.data.errors import BadFile

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"


class IdxFile(NamedTuple):
    """What a published idx file must be.

    Attributes:
        name: the file's published name, without ``.gz``.
        shape: the sizes of its dimensions, examples first.
        sha256: hexadecimal digest of the raw (decompressed) bytes.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Length of the raw file, in bytes."""
        return len(header(self.shape)) + math.prod(self.shape)


Manifest = tuple[IdxFile, ...]
"""The files that make up one data set."""


def magic_number(n_dimensions: int) -> bytes:
    """Returns the four bytes that open an idx file of unsigned bytes."""
    return bytes((0, 0, UNSIGNED_BYTE, n_dimensions))


def header(shape: tuple[int, ...]) -> bytes:
    """Returns the bytes before the data: ``4 + 4 * len(shape)`` of them."""
    return magic_number(len(shape)) + struct.pack(f">{len(shape)}I", *shape)


def encode(values: NDArray[np.uint8]) -> bytes:
    """Returns the idx file that holds ``values``, an array of any shape."""
    return header(values.shape) + values.tobytes()


def decode(raw: bytes, where: str = "idx data") -> NDArray[np.uint8]:
    """Returns the array in an idx file, a read-only view of ``raw`` in the shape that its header gives.

    Raises:
        BadFile: the magic number is not that of unsigned bytes, or the length is not what the header says.
    """
    if raw[:3] != magic_number(0)[:3] or len(raw) < 4:
        raise BadFile(f"{where}: magic number {raw[:4].hex() or 'absent'}, but 000008xx opens an idx file of bytes")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise BadFile(f"{where}: truncated: {len(raw):,} bytes, but its header alone is {start:,}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    if len(raw) != start + math.prod(shape):
        raise BadFile(f"{where}: {len(raw):,} bytes, but its header says {shape}: {start + math.prod(shape):,} bytes")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def verify(raw: bytes, expected: IdxFile, where: str) -> None:
    """Checks a file against its published form: the magic number, then the length, then the checksum.

    Args:
        raw: the decompressed bytes; of an over-long file, any number of bytes beyond ``expected.size`` will do.
        expected: what the file must be.
        where: the file's name in the message.

    Raises:
        BadFile: at the first of the three that differs.
    """
    magic = magic_number(len(expected.shape))
    if raw[:4] != magic[: len(raw)]:
        hint = "it is gzip-compressed: add .gz to its name" if raw.startswith(GZIP_MAGIC) else "fetch it again"
        raise BadFile(f"{where}: wrong magic number {raw[:4].hex()}, expected {magic.hex()}: {hint}")
    if len(raw) < expected.size:
        raise BadFile(f"{where}: truncated: {len(raw):,} bytes, expected {expected.size:,}: fetch it again")
    if len(raw) > expected.size:
        raise BadFile(f"{where}: over-long: more than the expected {expected.size:,} bytes: fetch it again")
    found = hashlib.sha256(raw).hexdigest()
    if found != expected.sha256:
        raise BadFile(f"{where}: wrong checksum: sha256 {found}, expected {expected.sha256}: fetch it again")
