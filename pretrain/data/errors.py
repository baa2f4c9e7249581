"""What can go wrong with a data set's files."""

from __future__ import annotations


class DataUnavailable(RuntimeError):
    """A data set could not be had from a source, or from any source; the message says why and what to do."""


class BadFile(DataUnavailable):
    """A file is there but is not the published one; the message names it and says what is wrong with it."""
