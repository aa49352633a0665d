"""Sequences (N, C, L) as images of one row, and attributes with a number for each spatial axis."""

from collections.abc import Sequence
from math import ceil

from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse
from depthwise.graph.ops import NO_PADDING, Padding, Pair

Numbers = Sequence[int] | None


def as_images(n: Operands, x: Value) -> Value:
    """Return (N, C, H, W) as it is, (N, C, L) as (N, C, 1, L)."""
    refuse(
        x.rank not in (3, 4),
        f"it reads {x.rank - 2} spatial axes, where the graph knows images (N, C, H, W) and "
        "sequences (N, C, L)",
    )
    return x if x.rank == 4 else n.reshape(x, *x.shape[:2], 1, x.shape[2])


def as_given(n: Operands, y: Value, x: Value) -> Value:
    """Return a result for `x`, computed on images, with as many axes as x has."""
    return y if x.rank == 4 else n.reshape(y, *y.shape[:2], y.shape[3])


def pair(numbers: Numbers, usual: int = 1) -> Pair:
    """Return (vertical, horizontal) of an attribute of one or two numbers, or of none."""
    numbers = list(numbers or (usual, usual))
    vertical, horizontal = numbers if len(numbers) == 2 else (usual, numbers[0])
    return vertical, horizontal


def reach(kernel: Pair, dilation: Pair) -> Pair:
    """Return how many pixels a kernel spans."""
    (vertical, horizontal), (down, right) = kernel, dilation
    return down * (vertical - 1) + 1, right * (horizontal - 1) + 1


def padding_of(x: Value, span: Pair, stride: Pair, pads: Numbers, auto_pad: str) -> Padding:
    """Return the padding as given (begins, then ends), or as SAME computes it from the sizes."""
    if auto_pad.startswith("SAME"):
        missing = [max((ceil(n / s) - 1) * s + r - n, 0)
                   for n, s, r in zip(x.shape[2:], stride, span, strict=True)]  # fmt: skip
        return halved(missing, more_at_end=auto_pad == "SAME_UPPER")
    if auto_pad == "VALID" or not pads:
        return NO_PADDING
    return sides(pads)


def sides(pads: Sequence[int]) -> Padding:
    """Return the padding of (top, left, bottom, right), or of (begin, end) of a sequence."""
    top, left, bottom, right = pads if len(pads) == 4 else (0, pads[0], 0, pads[1])
    return Padding(top, bottom, left, right)


def halved(spans: Sequence[int], more_at_end: bool) -> Padding:
    """Share each span between both ends; an odd one gives one end a pixel more."""
    halves = [sorted((span // 2, span - span // 2), reverse=not more_at_end) for span in spans]
    return Padding(*halves[0], *halves[1])
