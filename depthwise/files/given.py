"""Paths as callers give them."""

from os import PathLike, fspath
from pathlib import Path

from depthwise.escaping import kind_of


def as_path(path: str | PathLike[str], what: str) -> Path:
    """Return the path of a file or a directory; raise ValueError for what is no path."""
    if not (isinstance(path, str | PathLike) and isinstance(fspath(path), str)):
        raise ValueError(f"{what} is given as {kind_of(path)}: give its path, a text or a Path")
    return Path(path)
