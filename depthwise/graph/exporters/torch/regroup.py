"""How a Reshape deals out the axes of what it reads."""

from dataclasses import replace
from math import gcd

from depthwise.graph.exporters.torch.axes import (
    Axes,
    Axis,
    AxisPart,
    OpenSize,
    TracedNode,
    fixed,
    is_batch,
)
from depthwise.graph.graph import Shape


def regroup(place: TracedNode, x: Axes, shape: Shape) -> Axes:
    """Return what the axes of a Reshape consist of, each part of its input in one of them.

    An open size that is divided (windows of an image) is the outer part of the division: there are
    more windows where there are more pixels. Sizes are those of the graph where the parts of the
    input do not fit into axes. Raises MixedImages where images are torn apart.
    """
    left = merged(x)
    found: list[Axis] = []
    for size in shape:
        axis = take(place, left, size)
        if axis is None:
            if any(map(is_batch, x)):
                raise place.mixed("puts parts of several images of the batch into one row")
            return fixed(shape)
        found.append(axis)
    if left:  # sizes of 1
        found = [*found[:-1], (*found[-1], *left)] if found else found
    return tuple(tuple(axis) or (1,) for axis in found)


def merged(x: Axes) -> list[AxisPart]:
    """Return the parts of all axes, without those that always are 1, fixed neighbours as one."""
    parts: list[AxisPart] = []
    for part in (part for axis in x for part in axis if part != 1):
        if parts and isinstance(part, int) and isinstance(parts[-1], int):
            parts[-1] *= part
        else:
            parts.append(part)
    return parts


def take(place: TracedNode, left: list[AxisPart], size: int) -> Axis | None:
    """Take from the parts that are left those of an axis; None where they do not fit."""
    taken: list[AxisPart] = []
    if size == 1:
        return (left.pop(0),) if left and size_of(left[0]) == 1 else (1,)
    while size > 1:
        if not left:
            return None
        part = left.pop(0)
        own = size_of(part)
        if size % own == 0:
            taken.append(part)
            size //= own
        elif isinstance(part, int):
            common = gcd(size, own)
            if common != size:
                return None
            taken.append(size)
            left.insert(0, own // size)
            size = 1
        else:
            if part.is_batch:
                raise place.mixed("tears the images of the batch apart")
            if own % size:
                return None
            inner = own // size
            taken.append(replace(part, captured=size, divisor=part.divisor * inner))
            left.insert(0, inner)
            size = 1
    return tuple(taken)


def size_of(part: AxisPart) -> int:
    """Return the size of a part in the graph."""
    return part.captured if isinstance(part, OpenSize) else part
