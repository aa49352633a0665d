"""Whether there is memory for what is to be done, asked before any of it is taken."""

from collections.abc import Sequence
from math import prod

from depthwise.compiler.plan import Plan
from depthwise.errors import Unsupported
from depthwise.graph import Shape
from depthwise.graph.dtypes import FLOAT32
from depthwise.memory import available_bytes

GIGABYTE = 1e9
MOST_ELEMENTS = 2**31 - 1  # that kernels count: they do so with int


def check_inputs(shapes: Sequence[Shape]) -> None:
    """Raise ValueError where inputs of these shapes, all sizes positive, do not fit in memory."""
    needed = FLOAT32.bytes * sum(prod(shape) for shape in shapes)
    _check(needed, "inputs of " + ", ".join(str(tuple(shape)) for shape in shapes) + " take")


def check_run(shapes: Sequence[Shape], peak: int, title: str) -> None:
    """Raise ValueError where a reference, with inputs and `peak` bytes of values, does not fit."""
    needed = FLOAT32.bytes * sum(prod(shape) for shape in shapes) + peak
    _check(needed, f"running this network, to verify its library against {title}, takes")


def check_arena(plan: Plan) -> None:
    """Raise Unsupported where a buffer has more elements than kernels count.

    ValueError where the library, to be verified on this machine, does not fit in memory.
    """
    largest = max((buffer.elements for buffer in plan.buffers), default=0)
    if largest > MOST_ELEMENTS:
        raise Unsupported(
            f"a value or the weights of this network have {largest:,} elements, and kernels count "
            f"up to {MOST_ELEMENTS:,}: take smaller inputs, or fewer at once"
        )
    outer = sum(b.bytes for b in plan.buffers if b.space in ("input", "output"))
    _check(plan.arena.bytes + outer, "the library's arena, inputs and outputs take")


def _check(needed: int, what: str) -> None:
    available = available_bytes()
    if needed > available:
        raise ValueError(
            f"{what} {needed / GIGABYTE:,.1f} GB, and {available / GIGABYTE:,.1f} GB of memory are "
            "available: take smaller inputs, or fewer at once"
        )
