"""Volumes (N, C, D, H, W) as images: what works on planes and along depth one after the other.

`emit` appends an operator to the graph that a front end builds.
"""

from collections.abc import Callable

from depthwise.graph import ops
from depthwise.graph.builder import Value

Emit = Callable[..., Value]
OfImages = Callable[[Value], Value]


def by_planes(emit: Emit, x: Value, function: OfImages) -> Value:
    """Apply a function of images, each channel alone, to every plane of a volume."""
    n, c, depth, height, width = x.shape
    y = function(emit(ops.Reshape((n, c * depth, height, width)), x))
    return emit(ops.Reshape((n, c, depth, *y.shape[2:])), y)


def along_depth(emit: Emit, x: Value, function: OfImages) -> Value:
    """Apply a function of images (N, C, D, H · W) to a volume; it keeps the last axis."""
    n, c, depth, height, width = x.shape
    y = function(emit(ops.Reshape((n, c, depth, height * width)), x))
    return emit(ops.Reshape((n, c, y.shape[2], height, width)), y)


def each_plane(emit: Emit, x: Value, function: OfImages) -> Value:
    """Apply a function of images (N, C, H, W), channels together, to every plane of a volume."""
    n, c, depth, height, width = x.shape
    swap = ops.Permute((0, 2, 1, 3, 4))
    beside = emit(swap, x) if depth > 1 else x
    y = function(emit(ops.Reshape((n * depth, c, height, width)), beside))
    if depth == 1:
        return emit(ops.Reshape((n, y.shape[1], 1, *y.shape[2:])), y)
    return emit(swap, emit(ops.Reshape((n, depth, *y.shape[1:])), y))


def every(emit: Emit, x: Value, step: int) -> Value:
    """Return every so-many-th plane of a volume."""
    return x if step == 1 else emit(ops.Slice(2, 0, x.shape[2], step), x)
