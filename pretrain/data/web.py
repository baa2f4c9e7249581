"""Files over HTTP, with a bound on every wait and on every size."""

from __future__ import annotations

import queue
import threading
import urllib.request
from http.client import HTTPException

from pretrain.data.errors import DataUnavailable
from pretrain.data.files import Files, gunzip_bytes
from pretrain.data.idx import Manifest

CHUNK = 65_536
"""Bytes asked for at a time."""

PATIENCE = 8.0
"""Seconds to wait for the first chunk, name look-up and connection included, and for each chunk after it."""


def download(url: str, limit: int, patience: float = PATIENCE) -> bytes:
    """Returns what a URL holds.

    The socket's own timeout bounds neither the name look-up nor a server that dribbles, so the transfer runs in a
    thread of its own and is given up, unread, when no chunk has come for ``patience`` seconds.

    Args:
        url: the address.
        limit: the most bytes that it may hold.
        patience: seconds, see above. A transfer slower than one chunk in that time counts as stalled.

    Raises:
        DataUnavailable: no answer, a stalled transfer, an error status, or more than ``limit`` bytes.
    """
    arrived: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def transfer() -> None:
        try:
            received = 0
            with urllib.request.urlopen(url, timeout=patience) as response:
                while chunk := response.read(CHUNK):
                    arrived.put(chunk)
                    received += len(chunk)
                    if received > limit:
                        raise DataUnavailable(f"over-long: more than {limit:,} bytes")
            arrived.put(b"")
        except (OSError, HTTPException, ValueError, DataUnavailable) as error:  # for the waiting thread to raise
            arrived.put(error)

    threading.Thread(target=transfer, name=f"download {url}", daemon=True).start()
    chunks: list[bytes] = []
    while True:
        try:
            chunk = arrived.get(timeout=patience)
        except queue.Empty:
            raise DataUnavailable(f"{url}: no answer for {patience:g} seconds") from None
        if isinstance(chunk, Exception):
            raise DataUnavailable(f"{url}: {chunk or type(chunk).__name__}") from chunk
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def download_gzipped(base_url: str, manifest: Manifest, patience: float = PATIENCE) -> Files:
    """Returns every file of the manifest from ``base_url/<name>.gz``; the first that fails ends it.

    Raises:
        DataUnavailable: a download failed.
        BadFile: what came is not a sound gzip file.
    """
    files: Files = {}
    for expected in manifest:
        url = f"{base_url.rstrip('/')}/{expected.name}.gz"
        compressed = download(url, expected.size + CHUNK, patience)  # gzip adds a few bytes at most
        files[expected.name] = gunzip_bytes(compressed, expected.size, url)
    return files
