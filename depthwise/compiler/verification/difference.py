"""How far numbers are from those that they should be, without copies of large arrays."""

from collections.abc import Iterator, Sequence

import numpy as np

BLOCK = 1 << 16  # elements that are looked at together: they stay in the cache

Arrays = Sequence[np.ndarray]


class Difference:
    """The largest difference from an array of which parts come one after another.

    Whole numbers and booleans are decisions, of which rounding may turn one where two are equally
    good: how many differ is what counts, not by how much.
    """

    def __init__(self, whole: np.ndarray):
        self._decided = whole.dtype.kind in "biu"
        self._scale = (
            float(whole.size) if self._decided
            else max((_largest(x) for (x,) in _blocks(whole)), default=0.0)
        )  # fmt: skip
        self._difference = 0.0

    def add(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Compare a part with what it should be."""
        if self._decided:
            self._difference += float(np.count_nonzero(found != expected))
            return
        for pair in _blocks(found, expected):
            self._difference = max(self._difference, _difference(*pair))

    @property
    def error(self) -> float:
        """The largest difference so far, over the largest finite element of the whole array.

        Of whole numbers and booleans the share that differs.
        """
        if self._difference == 0:
            return 0.0
        return self._difference / self._scale if self._scale else float("inf")


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |found - expected| over the largest finite |expected|.

    Infinities of one sign are equal, as NaN is to NaN; anything else that is not finite differs
    by infinity. Of whole numbers and booleans it is the share that differs.
    """
    difference = Difference(expected)
    difference.add(found, expected)
    return difference.error


def largest_error(found: Arrays, expected: Arrays) -> float:
    """Return the largest relative error of several arrays."""
    pairs = zip(found, expected, strict=True)
    return max((relative_error(one, other) for one, other in pairs), default=0.0)


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut arrays of one shape into parts of at most BLOCK elements; none of empty ones."""
    first = arrays[0]
    if first.size > BLOCK:
        axis = int(np.argmax(first.shape))
        half = first.shape[axis] // 2
        for part in (slice(None, half), slice(half, None)):
            yield from _blocks(*(array[(slice(None),) * axis + (part,)] for array in arrays))
    elif first.size:
        yield arrays


def _largest(x: np.ndarray) -> float:
    sizes = np.abs(x.astype(np.float64, copy=False) if x.dtype.kind != "f" else x)
    largest = sizes.max()
    if not np.isfinite(largest):
        largest = sizes[np.isfinite(sizes)].max(initial=0.0)
    return float(largest)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.dtype.kind != "f" or expected.dtype.kind != "f":
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.abs(found - expected)
    largest = differences.max()
    if not np.isfinite(largest):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        largest = differences[~same].max(initial=0.0)
    return float(largest) if np.isfinite(largest) else float("inf")
