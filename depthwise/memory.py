"""How much memory this process may still take, and how what it freed is given back."""

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def return_free_memory() -> None:
    """Let the C library return to the system what it keeps for later, where it can (glibc)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def available_bytes() -> int:
    """Return how many bytes this process may still take, as far as the system says."""
    return min(_limits())


def _limits() -> Iterator[int]:
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft
    for path in map(Path, CONTROL_GROUPS):
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():
            yield int(text)
    yield from _free_by_the_kernel(Path("/proc/meminfo"))


def _free_by_the_kernel(path: Path) -> Iterator[int]:
    """Return what Linux holds to be available without swapping, and what may be swapped."""
    if path.is_file():
        rows = (line.split() for line in path.read_text().splitlines())
        kilobytes = {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1}
        yield 1024 * (kilobytes.get("MemAvailable", 0) + kilobytes.get("SwapFree", 0))
