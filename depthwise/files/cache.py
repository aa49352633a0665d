"""The cache: what was built and measured, each built file under a name that tells its content."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from depthwise.errors import BuildError
from depthwise.files.atomic import replace_text, workspace

KEEP_FAILED = 24 * 3600  # seconds that the C of a failed build stays to be looked at


def cache_directory() -> Path:
    """Return the directory of what is kept: XDG's, or ~/.cache/depthwise.

    Raises BuildError where there is neither.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification has relative ones ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            base = Path()
    if not base.is_absolute():
        raise BuildError(
            "there is no home directory for the cache of built libraries: set XDG_CACHE_HOME to "
            "the absolute path of a directory that you may write to"
        )
    return base / "depthwise"


def units_directory() -> Path:
    """Return the directory of compiled units, that libraries share."""
    return cache_directory() / "units"


def keep_text(path: Path, text: str) -> None:
    """Write a file of the cache, whole or not at all. Raises BuildError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise unwritable("the cache", error) from error


def unwritable(what: str, error: OSError) -> BuildError:
    """Return the error of a cache that cannot be written, with what to do about it."""
    return BuildError(
        f"cannot write to {what}: {error}; make room there, or set XDG_CACHE_HOME to a directory "
        "that you may write to"
    )


def find_built(directory: Path, key: str, suffix: str) -> Path | None:
    """Return the file that was kept under `key`; None where there is none that is still whole."""
    for path in sorted(directory.glob(f"{key}-*{suffix}")):
        try:
            if path.name == _name(key, path, suffix):
                return path
        except OSError:  # it cannot be read
            continue
    return None


def keep_built(directory: Path, key: str, suffix: str, built: Path) -> Path:
    """Move a built file to where `find_built` finds it, in place of any that was damaged."""
    kept = directory / _name(key, built, suffix)
    built.replace(kept)
    for path in directory.glob(f"{key}-*{suffix}"):
        with suppress(OSError):
            if path.name != _name(key, path, suffix):
                path.unlink()
    return kept


def in_workspace(work: Callable[[Path], Path]) -> Path:
    """Return what `work` returns, given a new folder of the cache, removed at the end.

    Removes what killed processes left. Raises BuildError where the cache cannot be written.
    """
    cache = cache_directory()
    try:
        units_directory().mkdir(parents=True, exist_ok=True)
        _forget_failed(cache)
        with workspace(cache, ".building-") as folder:
            return work(folder)
    except OSError as error:
        raise unwritable("the cache of built libraries", error) from error


def hash_bytes(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(key: str, path: Path, suffix: str) -> str:
    """Return the name of a file in the cache: the key, a hash of what is in it, the suffix."""
    return f"{key}-{hash_file(path)}{suffix}"


def _forget_failed(cache: Path) -> None:
    for path in cache.glob("failed-*.c"):
        with suppress(OSError):  # another process forgets them as well
            if path.stat().st_mtime < time.time() - KEEP_FAILED:
                path.unlink()
