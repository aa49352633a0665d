"""Files that verbs write: refused before the work where they cannot be, reported in one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthwise.files.atomic import WRITING, workspace


def check_place(option: str, path: Path) -> None:
    """Raise ValueError where no file can lie at `path`: before the work that is to go into it."""
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{option} {path}: {os.strerror(errno.EISDIR)}")


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Raise ValueError, with the system's reason, for what cannot be written inside."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{_place(option, path, error)}: {error.strerror}") from None


def _place(option: str, path: Path, error: OSError) -> str:
    """Return what could not be written; where an error is of another file than those, that one."""
    if not isinstance(error.filename, str):
        return f"{option} {path}"
    own, other = path.resolve(), Path(error.filename).resolve()
    is_own = other.is_relative_to(own) or own.is_relative_to(other)
    return f"{option} {path}" if is_own else error.filename


@contextmanager
def writing_file(option: str, path: Path) -> Iterator[Path]:
    """Give a path to write to; what was written stands at `path` at the end, whole, or not at all.

    Raises ValueError as `writing` does.
    """
    with writing(option, path):
        if path.exists() and not path.is_file():  # a terminal, a pipe: nothing may take its place
            yield path
            return
        target = path.resolve()
        with workspace(target.parent, WRITING) as folder:
            yield folder / target.name
            (folder / target.name).replace(target)
