"""Decoded images in the cache: a file a set, written whole or not at all, the old ones removed.

A file is the pixels, then what is known of them as JSON, then the length of that in eight bytes.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from depthwise.files.atomic import flush, workspace
from depthwise.files.cache import cache_directory, unwritable

MOST = 2**33  # bytes that all files may take: those that were used least recently go first
LENGTH = 8  # bytes of the length at the end
SUFFIX = ".squares"


@dataclass(frozen=True, eq=False)
class Decoded:
    """What became of images.

    Attributes:
        pixels: The squares of those that are whole, uint8 (N, 3, side, side); None where they were
            only looked at.
        left_out: A sentence for each index of an image that is broken.
    """

    pixels: np.ndarray | None
    left_out: dict[int, str]


def squares_directory() -> Path:
    """Return the directory of decoded images. Raises BuildError where there is no cache."""
    return cache_directory() / "squares"


def find_or_keep(key: str, side: int, decode: Callable[[BinaryIO], dict[int, str]]) -> Decoded:
    """Return what was kept under a key, or have it decoded and keep it.

    Args:
        key: A text that stands for the images and all that their pixels depend on.
        side: Of the squares.
        decode: Writes the pixels to the file that it is given, if it does, and returns the
            sentences on broken images.

    Raises BuildError where the cache cannot be written.
    """
    path = squares_directory() / f"{key}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            found = _find(path, side)
            if found is None:
                _write(path, decode, side)
                _forget(path)
                found = _find(path, side)
    except OSError as error:
        raise unwritable("the cache of decoded images", error) from error
    assert found is not None
    return found


def _find(path: Path, side: int) -> Decoded | None:
    """Return what a file holds; None where there is none that is whole."""
    try:
        with path.open("rb") as file:
            size = file.seek(-LENGTH, os.SEEK_END) + LENGTH
            length = int.from_bytes(file.read(LENGTH), "little")
            file.seek(size - LENGTH - length)
            known = json.loads(file.read(length))
            shape = (int(known["rows"]), 3, side, side)
            if int(np.prod(shape)) + length + LENGTH != size:
                return None
            pixels = np.memmap(file, np.uint8, "r", 0, shape) if shape[0] else None
        os.utime(path)
        return Decoded(pixels, {int(index): str(said) for index, said in known["left_out"]})
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _write(path: Path, decode: Callable[[BinaryIO], dict[int, str]], side: int) -> None:
    with workspace(path.parent, ".decoding-") as folder:
        new = folder / "new"
        with new.open("wb") as file:
            left_out = decode(file)
            rows = file.tell() // (3 * side * side)
            text = json.dumps({"rows": rows, "left_out": list(left_out.items())}).encode()
            file.write(text + len(text).to_bytes(LENGTH, "little"))
        flush(new)
        new.replace(path)


def _forget(newest: Path) -> None:
    """Remove the files that were used least recently, until all of them take MOST bytes."""
    found = []
    for path in newest.parent.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another process forgets them as well
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > MOST and path != newest:
            with suppress(OSError):
                path.unlink()
                path.with_suffix(".lock").unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let other processes wait that want the same file: only one decodes."""
    with path.with_suffix(".lock").open("w") as lock:
        with suppress(OSError):  # some network file systems have no locks: both decode
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
