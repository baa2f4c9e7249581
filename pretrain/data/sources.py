"""Where a data set may come from: sources tried in order, each telling in one line how it went."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.files import Files, write_folder
from pretrain.data.idx import Manifest, verify

Say = Callable[[str], None]
"""Takes one line of text for the user."""


def say_on_stderr(line: str) -> None:
    """Prints a line on the standard error stream."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Source:
    """One place to try.

    Attributes:
        name: what it is called in messages.
        fetch: returns the raw files, or raises; what it raises is the reason given to the user.
        remedy: what the user can do to make it work.
        keep: whether what it returned is copied into the cache.
        fatal: the errors after which no other source is tried, for a place that the user named.
    """

    name: str
    fetch: Callable[[], Files]
    remedy: str
    keep: bool = True
    fatal: tuple[type[Exception], ...] = ()


def load(data_set: str, manifest: Manifest, sources: Sequence[Source], cache: Path, say: Say = say_on_stderr) -> Files:
    """Returns the verified raw files from the first source that has them.

    Any exception of a source is that source's reason and never the end of the search, unless the source calls it fatal:
    the clients and libraries behind the sources are other people's, and raise what they like.

    Args:
        data_set: the data set's name, in messages.
        manifest: the files, with their shapes and checksums.
        sources: the places to try, in order.
        cache: the folder into which the files are written when ``keep`` says so.
        say: takes the messages, one line for each source tried.

    Raises:
        DataUnavailable: no source has the files; the message names each, why it failed and what to do.
        BadFile: a folder that the user named holds a file that is not the published one.
    """
    failures: list[str] = []
    for position, source in enumerate(sources):
        try:
            files = source.fetch()
            verify_all(files, manifest, source.name)
        except Exception as error:
            if isinstance(error, source.fatal):
                raise type(error)(f"{data_set}: {source.name}: {error}. {source.remedy}") from error
            reason = one_line(error)
            following = f"next: {sources[position + 1].name}" if position + 1 < len(sources) else "no source is left"
            say(f"{data_set}: {source.name}: {reason}; {following}")
            failures.append(f"  {position + 1}. {source.name}: {reason}. {source.remedy}")
            continue
        kept = keep_in_cache(files, cache) if source.keep else ""
        say(f"{data_set}: loaded from {source.name}, checksums verified{kept}")
        return files
    summary = "\n".join(failures)
    raise DataUnavailable(f"{data_set} could not be loaded; each source failed, for its own reason:\n{summary}")


def verify_all(files: Files, manifest: Manifest, where: str) -> None:
    """Checks that every file of the manifest is there and is the published one.

    Raises:
        BadFile: one is absent, or differs.
    """
    for expected in manifest:
        if expected.name not in files:
            raise BadFile(f"{where}: {expected.name} is absent: fetch it again")
        verify(files[expected.name], expected, expected.name)


def keep_in_cache(files: Files, cache: Path) -> str:
    """Writes the files into the cache; a cache that cannot be written costs time later, and is no error now."""
    try:
        write_folder(cache, files)
    except OSError as error:
        return f", but not kept in {cache} ({one_line(error)}): set PRETRAIN_CACHE to a folder that can be written"
    return f", kept in {cache}"


def one_line(error: Exception, limit: int = 400) -> str:
    """Returns an error's text on one line of at most ``limit`` characters, or its type's name if it has no text."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if not isinstance(error, (DataUnavailable, OSError)):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= limit else text[: limit - 3] + "..."
