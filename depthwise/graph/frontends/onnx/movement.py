"""Parts of tensors: cut, gathered, joined and padded."""

from itertools import accumulate, pairwise
from math import ceil
from typing import cast

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.inference import UNBOUNDED
from depthwise.graph.frontends.onnx.known import Known
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.places import taken


@rule("Concat")
def _(n: Operands, *, axis):
    full = [i for i in range(len(n)) if np.prod(n.shape(i))]  # of empty ones nothing stays
    values = [n[i] for i in full]
    return values[0] if len(values) == 1 else n.emit(ops.Concat(n.axis(values[0], axis)), *values)


@rule("Slice")
def _(n: Operands, *, starts=None, ends=(), axes=None):
    """Bounds are attributes before opset 10, operands since."""
    x = n[0]
    if starts is None:
        starts, ends = n.ints(1), n.ints(2)
        axes = n.ints(3) if n.has(3) else None
    steps = n.ints(4) if n.has(4) else [1] * len(starts)
    for axis, start, stop, step in zip(
        axes or range(len(starts)), starts, ends, steps, strict=True
    ):
        places = places_of(x.shape[n.axis(x, axis)], start, stop, step)
        if not places:
            return empty(x, n.axis(x, axis))
        x = taken(n.source.builder, x, n.axis(x, axis), np.array(places))
    return x


def places_of(size: int, start: int, stop: int, step: int) -> range:
    """Return the places of a slice; ONNX begins one backwards within the axis, unlike Python.

    The largest integer for a stop is the end of the axis, backwards its start, as in ONNX Runtime.
    """
    if step < 0 and stop in UNBOUNDED:
        stop = -size - 1
    start, stop = (bound + size if bound < 0 else bound for bound in (start, stop))
    if step > 0:
        return range(min(max(start, 0), size), min(max(stop, 0), size), step)
    return range(min(max(start, 0), size - 1), min(max(stop, -1), size - 1), step)


def empty(x: Value, axis: int) -> Known:
    """Return what has no elements along an axis."""
    return Known(np.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]), x.type.dtype))


@rule("Split")
def _(n: Operands, *, axis=0, split=None, num_outputs=None):
    x, axis, count = n[0], n.axis(n[0], axis), len(n.node.output)
    if num_outputs not in (None, count):
        raise ValueError(f"num_outputs is {num_outputs}, where it has {count}")
    part = ceil(x.shape[axis] / count)
    sizes = (n.ints(1) if n.has(1) else split) or [part] * count
    bounds = pairwise(min(end, x.shape[axis]) for end in accumulate(sizes, initial=0))
    b = n.source.builder
    return [taken(b, x, axis, np.arange(start, stop)) if start < stop else empty(x, axis)
            for start, stop in bounds]  # fmt: skip


PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@rule("Pad")
def _(n: Operands, *, mode="constant", pads=None, value=0.0):
    """The sizes are attributes before opset 11, operands since."""
    x, number = n[0], n.number(2) if n.has(2) else value
    refuse(number is None, "what it pads with is computed when the network runs")
    sizes = pads if pads is not None else n.ints(1)
    axes = [n.axis(x, axis) for axis in (n.ints(3) if n.has(3) else range(x.rank))]
    if len(sizes) != 2 * len(axes):
        raise ValueError(f"its pads {list(sizes)} are not two for each of {len(axes)} axes")
    around = [(0, 0)] * x.rank
    for axis, before, after in zip(axes, sizes[: len(axes)], sizes[len(axes) :], strict=True):
        around[axis] = (before, after)
    op = ops.Pad(tuple(around), cast(ops.PadMode, PAD_MODES[mode]), float(cast(float, number)))
    return x if not any(map(any, around)) else n.emit(op, x)


@rule("Trilu")
def _(n: Operands, *, upper=1):
    """Zeros below the diagonal, or above it."""
    x, k = n[0], int((n.number(1) or 0) if n.has(1) else 0)
    zero = n.constant(0.0, x)
    rows, columns = x.shape[-2:]
    low = n.source.builder.literal(np.tri(rows, columns, k - 1 if upper else k), "bool")
    return n.emit(ops.Where(), low, *((zero, x) if upper else (x, zero)))
