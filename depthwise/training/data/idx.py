"""IDX files, in which MNIST and its like come: https://yann.lecun.org/exdb/mnist/index.html."""

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

_UNSIGNED_BYTES = 0x08  # IDX's type of uint8, the only one that images and labels have
_GZIP = b"\x1f\x8b"
_TIGHTEST = 1032  # bytes that one byte of a gzip file can stand for at most


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Return the uint8 array of an IDX file, compressed by gzip or not.

    Args:
        path: The file.
        axes: How many axes its array must have: 3 for images (N, H, W), 1 for labels (N,).

    Raises:
        ValueError: The file cannot be read, is damaged, cut short, or holds something else.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
        most = path.stat().st_size * (_TIGHTEST if compressed else 1)
        with gzip.open(path) if compressed else path.open("rb") as file:
            return _read(file, path, axes, most)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; replace it by a whole one") from None


def _read(file: BufferedIOBase, path: Path, axes: int, most: int) -> np.ndarray:
    expected = bytes((0, 0, _UNSIGNED_BYTES, axes))
    start = file.read(4)
    if start != expected:
        raise ValueError(
            f"{path} is no IDX file of bytes with {axes} axes: it starts with "
            f"{start.hex(' ') or 'nothing'}, not with {expected.hex(' ')}"
        )
    header = file.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError(f"{path} ends within its header: replace it by a whole one")
    shape = struct.unpack(f">{axes}I", header)
    size = math.prod(shape)
    content = file.read(size + 1) if size <= most else b""  # one more: there must be no more
    if len(content) != size:
        found = "more" if len(content) > size else "fewer"
        raise ValueError(
            f"{path} has {found} bytes than the {' x '.join(map(str, shape))} that its header "
            "says: replace it by a whole one"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
