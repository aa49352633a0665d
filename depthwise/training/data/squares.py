"""Images as squares of pixels: decoded once and kept, or decoded whenever they are read."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
import PIL
import torch
from torch import Tensor

from depthwise.cores import usable_cores
from depthwise.files.cache import hash_bytes
from depthwise.memory import available_bytes
from depthwise.progress import report_progress
from depthwise.training.data.dataset import ImageSource, ImageSplit, StoredImages
from depthwise.training.data.decode import decode_square
from depthwise.training.data.kept_squares import Decoded, find_or_keep, squares_directory

VERSION = 1  # of what is computed: another one makes what was kept useless
MOST_BROKEN = 0.1  # of a split's images
NAMED = 3  # broken images that an error names
SHARE = 0.5  # of what is left of memory and disk, for the squares of a split
CHUNK = 32  # images that a thread decodes at a time
AHEAD = 3  # batches that are read before they are asked for

Item = TypeVar("Item")
Result = TypeVar("Result")


class Squares(Protocol):
    """Images whose shorter side was resized to `side` pixels, and of which the middle was kept."""

    @property
    def side(self) -> int:
        """Pixels of a side."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def take(self, indices: np.ndarray) -> Tensor:
        """Return some of them, uint8 (B, 3, side, side). By several threads at once."""
        ...


class HeldSquares:
    """Squares that lie in memory, or in a file that is mapped there."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.side = pixels.shape[-1]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pixels)

    def take(self, indices: np.ndarray) -> Tensor:
        """Return some of them, uint8 (B, 3, side, side)."""
        return torch.from_numpy(np.take(self._pixels, indices, axis=0))


class ReadSquares:
    """Squares that are decoded whenever they are read, by as many threads as there are cores."""

    def __init__(self, images: ImageSource, chosen: np.ndarray, side: int) -> None:
        self._images = images
        self._chosen = chosen
        self.side = side
        self._pool = ThreadPoolExecutor(usable_cores(), "decoding")

    def __len__(self) -> int:
        """How many there are."""
        return len(self._chosen)

    def take(self, indices: np.ndarray) -> Tensor:
        """Return some of them, uint8 (B, 3, side, side).

        Raises ValueError for an image that has become unreadable since it was looked at.
        """
        return torch.from_numpy(np.stack(list(self._pool.map(self._one, self._chosen[indices]))))

    def _one(self, index: int) -> np.ndarray:
        found = _decode(self._images, self.side, int(index))
        if isinstance(found, str):
            raise ValueError(f"{found} (it was whole when training began)")
        return found


@dataclass(frozen=True, eq=False)
class Prepared:
    """The images of a split that are whole, as squares.

    Attributes:
        squares: Their pixels.
        labels: The index of each one's class, (N,) of int64.
        names: What messages call each.
        left_out: A sentence for each image that is broken.
    """

    squares: Squares
    labels: np.ndarray
    names: Sequence[str]
    left_out: tuple[str, ...]


def prepare(split: ImageSplit, side: int) -> Prepared:
    """Return the images of a split as squares with `side` pixels a side.

    They are decoded once and kept in the cache; in memory where they come from no disk; and where
    there is room in neither, looked at once and decoded whenever they are read.

    Raises ValueError where too many are broken, or all of a class; BuildError where the cache
    cannot be written.
    """
    images = split.images
    decoded = _decoded(images, side)
    chosen = np.setdiff1d(np.arange(len(images)), np.array(list(decoded.left_out), np.int64))
    labels = split.labels[chosen]
    lost = np.setdiff1d(split.labels, labels)
    if len(lost):
        first = int(np.flatnonzero(split.labels == lost[0])[0])
        raise ValueError(f"no image of a class can be read: {decoded.left_out[first]}")
    if decoded.pixels is None:
        squares: Squares = ReadSquares(images, chosen, side)
    else:
        squares = HeldSquares(decoded.pixels)
    names = [images.name(int(index)) for index in chosen]
    return Prepared(squares, labels, names, tuple(decoded.left_out.values()))


def fetch(squares: Squares, batches: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Yield the squares of each batch of indices, in order, and read those to come meanwhile."""
    with ThreadPoolExecutor(AHEAD, "fetching") as pool:
        yield from in_order(pool, squares.take, batches, AHEAD)


def _decoded(images: ImageSource, side: int) -> Decoded:
    size = 3 * side * side * len(images)
    in_memory = size <= SHARE * available_bytes()
    if isinstance(images, StoredImages):
        on_disk = in_memory and size <= SHARE * _free_on_disk()
        if on_disk or not in_memory:
            key = hash_bytes(
                f"{VERSION} {PIL.__version__} {side} {on_disk} {images.fingerprint()}".encode()
            )
            return find_or_keep(key, side, partial(_write_all, images, side, on_disk))
    if not in_memory:
        return Decoded(None, _decode_all(images, side, lambda _: None))
    pixels = np.empty((len(images), 3, side, side), np.uint8)
    rows = iter(pixels)

    def hold(square: np.ndarray) -> None:
        next(rows)[:] = square

    left_out = _decode_all(images, side, hold)
    return Decoded(pixels[: len(images) - len(left_out)], left_out)


def _write_all(images: ImageSource, side: int, pixels: bool, file: BinaryIO) -> dict[int, str]:
    def write(square: np.ndarray) -> None:
        if pixels:
            file.write(square.data)

    return _decode_all(images, side, write)


def _decode_all(
    images: ImageSource, side: int, use: Callable[[np.ndarray], object]
) -> dict[int, str]:
    """Give each image's square to `use`, in order; return a sentence for each broken one.

    Raises ValueError as soon as too many are broken.
    """
    left_out: dict[int, str] = {}
    total, threads = len(images), usable_cores()
    chunks = [range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
    with (
        report_progress(f"decoding {total} images", total, pace="decoding") as advance,
        ThreadPoolExecutor(threads, "decoding") as pool,
    ):
        found = in_order(pool, partial(_decode_chunk, images, side), chunks, 2 * threads)
        for chunk, squares in zip(chunks, found, strict=True):
            for index, square in zip(chunk, squares, strict=True):
                if isinstance(square, str):
                    left_out[index] = square
                    _refuse_too_many(left_out, total)
                else:
                    use(square)
            advance(len(chunk))
    return left_out


def _refuse_too_many(left_out: dict[int, str], total: int) -> None:
    if len(left_out) > MOST_BROKEN * total:
        first = list(left_out.values())[:NAMED]
        more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        raise ValueError(
            f"{len(left_out)} or more of {total} images cannot be read, and over {MOST_BROKEN:.0%} "
            f"are not left out: {'; '.join(first)}{more}"
        )


def _decode_chunk(images: ImageSource, side: int, chunk: range) -> list[np.ndarray | str]:
    return [_decode(images, side, index) for index in chunk]


def _decode(images: ImageSource, side: int, index: int) -> np.ndarray | str:
    """Return an image's square, or a sentence on what is wrong with it."""
    return or_why_not(images, index, lambda content, name: decode_square(content, name, side))


def or_why_not(
    images: ImageSource, index: int, decode: Callable[[bytes | np.ndarray, str], Result]
) -> Result | str:
    """Return what `decode` makes of an image, or a sentence on what is wrong with it."""
    name = images.name(index)
    try:
        return decode(images.read(index), name)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"


def in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield the result for each item, in order, with `ahead` of them under way or waiting."""
    items = iter(items)
    futures = deque(pool.submit(function, item) for item in islice(items, ahead))
    try:
        while futures:
            result = futures.popleft().result()
            futures.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        for future in futures:
            future.cancel()


def _free_on_disk() -> int:
    """Return how many bytes the disk of the cache has left."""
    folder = squares_directory()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
