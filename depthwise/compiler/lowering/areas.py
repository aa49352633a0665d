"""Areas of a dilated convolution's output, each with the taps that reach its input there.

A tap far from the centre reaches the input from some rows and columns of the output alone; from
all others it reads zeros. Of 3x3 taps 24 pixels apart on a map of 33x33, the corner ones multiply
81 pixels of 1089. Done area by area the convolution needs no border of zeros, either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from depthwise.graph import Shape, ops
from depthwise.graph.ops import Padding

# Multiply-adds in the time that a weight takes to come, which each area reads once more: 6 from a
# fast third cache, some 50 from memory.
WEIGHT = 32
WORTHWHILE = 0.85  # of the whole convolution's cost


@dataclass(frozen=True)
class Stretch:
    """Outputs from `start` to `stop` along one axis, and their taps from `first` to `end`.

    These read inputs from `read` on, `span` of them; `read` is negative in padding.
    """

    start: int
    stop: int
    first: int
    end: int
    read: int
    span: int

    @property
    def outputs(self) -> int:
        """How many there are."""
        return self.stop - self.start

    @property
    def taps(self) -> int:
        """How many each output has."""
        return self.end - self.first


Area = tuple[Stretch, Stretch]  # its rows and columns


def find_areas(op: ops.Conv2d, x: Shape, weight: Shape, y: Shape) -> tuple[Area, ...]:
    """Return the areas in which a convolution is done: one, where more are not worth their weights.

    An axis that is not divided is one band with all taps. Where it is divided, no tap of a band
    reads padding.
    """
    befores = (op.padding.top, op.padding.left)
    whole, divided = [], []
    for axis in (0, 1):
        sizes = (x[2 + axis], weight[2 + axis], y[2 + axis])
        places = (op.stride[axis], op.dilation[axis], befores[axis])
        whole.append((_band(0, sizes[2], range(sizes[1]), *places),))
        divided.append(tuple(_bands(*sizes, *places)) if op.dilation[axis] > 1 else whole[-1])
    one = tuple(product(*whole))
    if op.groups == weight[0] == x[1]:  # depthwise: taps are a loop of the kernel
        return one
    pairs = product(*zip(whole, divided, strict=True))
    ways = [tuple(product(rows, columns)) for rows, columns in pairs if rows and columns]
    best = min(ways, key=lambda way: _cost(way, y[0]))
    return best if _cost(best, y[0]) < WORTHWHILE * _cost(one, y[0]) else one


def border_of_areas(op: ops.Conv2d, x: Shape, weight: Shape, y: Shape) -> Padding:
    """Return the zeros around its input that a convolution reads, none along a divided axis."""
    areas = find_areas(op, x, weight, y)
    top, bottom, left, right = op.padding
    rows, columns = (
        any(
            area[axis].read < 0 or area[axis].read + area[axis].span > x[2 + axis] for area in areas
        )
        for axis in (0, 1)
    )
    return Padding(top * rows, bottom * rows, left * columns, right * columns)


def _bands(
    length: int, taps: int, outputs: int, stride: int, dilation: int, before: int
) -> Iterator[Stretch]:
    """Yield the bands of an axis: none, where an output has no tap that reaches the input."""
    reached = []
    for tap in range(taps):
        place = tap * dilation - before  # that the first output reads
        start, stop = -(place // stride), (length - 1 - place) // stride + 1
        reached.append((max(0, start), min(outputs, stop)))
    edges = sorted(
        {0, outputs, *(edge for low, high in reached if low < high for edge in (low, high))}
    )
    found = []
    for start, stop in pairwise(edges):
        own = [tap for tap, (low, high) in enumerate(reached) if low <= start and stop <= high]
        if not own or own != list(range(own[0], own[-1] + 1)):
            return
        found.append(_band(start, stop, range(own[0], own[-1] + 1), stride, dilation, before))
    yield from found


def _band(start: int, stop: int, taps: range, stride: int, dilation: int, before: int) -> Stretch:
    read = start * stride + taps[0] * dilation - before
    span = (stop - start - 1) * stride + (len(taps) - 1) * dilation + 1
    return Stretch(start, stop, taps[0], taps[-1] + 1, read, span)


def _cost(areas: tuple[Area, ...], images: int) -> int:
    """Return the multiply-adds of an input and output channel, and the price of their weights."""
    return sum(
        rows.taps * columns.taps * (images * rows.outputs * columns.outputs + WEIGHT)
        for rows, columns in areas
    )
