"""Volumes (N, C, D, H, W) as images: what works on planes and along depth one after the other.

`emit` appends an operator to the graph that a front end builds.
"""

from collections.abc import Callable

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.ops import Pair

ADVICE = (
    "libraries convolve images; kernels (1, k, k) are accepted, and those with one place along "
    "depth: build the module from such, or keep it outside of the network"
)

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


def convolved(
    emit: Emit, x: Value, weight: Value, step: int, padding: Pair, dilation: int,
    convolve: Callable[[Value, Value], Value],
) -> Value | None:  # fmt: skip
    """Convolve a volume, by a function of images and a kernel (K, C, R, S).

    `step`, `padding` and `dilation` are those along depth. The kernel (K, C, D, R, S) has a depth
    of 1, or one place along the depth of x. Returns None for one that has several.
    """
    if weight.shape[2] > 1:
        found = meeting(emit, x, weight, step, padding, dilation)
        if found is None:
            return None
        x, weight = found
    elif any(padding):
        return None
    else:
        x = every(emit, x, step)
    kernel = emit(ops.Reshape((*weight.shape[:2], *weight.shape[3:])), weight)
    return each_plane(emit, x, lambda y: convolve(y, kernel))


def meeting(
    emit: Emit, x: Value, weight: Value, step: int, padding: Pair, dilation: int
) -> tuple[Value, Value] | None:
    """Return the planes of x and of a kernel that meet, as channels; None if it slides along x."""
    (n, c, depth, *plane), (k, group, kernel, *taps) = x.shape, weight.shape
    before, after = padding
    first, last = -(-before // dilation), min((before + depth - 1) // dilation, kernel - 1)
    if depth + before + after - dilation * (kernel - 1) - 1 >= step or first > last:
        return None
    start, count = first * dilation - before, last - first + 1
    x = emit(ops.Slice(2, start, start + dilation * (count - 1) + 1, dilation), x)
    weight = emit(ops.Slice(2, first, last + 1, 1), weight)
    x = emit(ops.Reshape((n, c * count, 1, *plane)), x)
    return x, emit(ops.Reshape((k, group * count, 1, *taps)), weight)
