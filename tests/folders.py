"""Folders of files, as a user would have placed them."""

from __future__ import annotations

import gzip
from pathlib import Path


def lay_out(folder: Path, files: dict[str, bytes], compressed: bool = False) -> Path:
    """Writes files into a folder, with .gz where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        path = folder / (name + ".gz" * compressed)
        path.write_bytes(gzip.compress(contents) if compressed else contents)
    return folder
