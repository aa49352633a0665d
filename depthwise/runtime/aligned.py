"""Memory for weights and arenas: aligned, and in large pages where there is much of it."""

import mmap
from contextlib import suppress

import numpy as np

ALIGNMENT = 64  # bytes, of the arena and of the weights
LARGE_PAGE = 2 * 2**20  # bytes, of x86 and of most ARM
MANY = 512 * 1024  # bytes that are worth a large page


def aligned_bytes(size: int) -> np.ndarray:
    """Return `size` bytes, not set to anything, that start where a vector may.

    Many lie in large pages, where the system has them: fewer addresses to translate, and no two
    pages that meet in the same sets of the second cache.
    """
    large = size >= MANY and hasattr(mmap, "MADV_HUGEPAGE")
    alignment = LARGE_PAGE if large else ALIGNMENT
    memory = _large_pages(size) if large else np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


def _large_pages(size: int) -> np.ndarray:
    """Return memory of the system's for `size` bytes from a multiple of a large page on."""
    whole = (-(-size // LARGE_PAGE) + 1) * LARGE_PAGE
    memory = mmap.mmap(-1, whole, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # the system has them, but not for us
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
