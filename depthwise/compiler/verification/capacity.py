"""Whether there is memory for what is to be done, asked before any of it is taken."""

import ctypes
import os
import resource
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from depthwise.compiler.lowering.views import FLOAT
from depthwise.compiler.plan import Plan
from depthwise.errors import Unsupported
from depthwise.graph import Shape

GIGABYTE = 1e9
MOST_ELEMENTS = 2**31 - 1  # that kernels count: they do so with int
CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_inputs(shapes: Sequence[Shape]) -> None:
    """Raise ValueError where inputs of these shapes, all sizes positive, do not fit in memory."""
    needed = FLOAT * sum(prod(shape) for shape in shapes)
    _check(needed, "inputs of " + ", ".join(str(tuple(shape)) for shape in shapes) + " take")


def check_run(shapes: Sequence[Shape], peak: int, title: str) -> None:
    """Raise ValueError where a reference, with inputs and `peak` bytes of values, does not fit."""
    needed = FLOAT * sum(prod(shape) for shape in shapes) + peak
    _check(needed, f"running this network, to verify its library against {title}, takes")


def check_arena(plan: Plan) -> None:
    """Raise Unsupported where a buffer has more elements than kernels count.

    ValueError where the library, to be verified on this machine, does not fit in memory.
    """
    largest = max((buffer.floats for buffer in plan.buffers), default=0)
    if largest > MOST_ELEMENTS:
        raise Unsupported(
            f"a value or the weights of this network have {largest:,} elements, and kernels count "
            f"up to {MOST_ELEMENTS:,}: take smaller inputs, or fewer at once"
        )
    outer = sum(b.floats * FLOAT for b in plan.buffers if b.space in ("input", "output"))
    _check(plan.arena.bytes + outer, "the library's arena, inputs and outputs take")


def _check(needed: int, what: str) -> None:
    available = available_bytes()
    if needed > available:
        raise ValueError(
            f"{what} {needed / GIGABYTE:,.1f} GB, and {available / GIGABYTE:,.1f} GB of memory are "
            "available: take smaller inputs, or fewer at once"
        )


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
