"""Kernels over planes of pixels: pooling, pooling of regions, local response normalisation."""

import numpy as np

from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.compiler.verification.oracle.memory import Array


def _plane(a: CallArguments) -> Array:
    """Return the input; a window is cut at its edges."""
    return a.in_.read((a.images, a.height, a.width, a.channels), a.strides("in"))


def _result(a: CallArguments) -> Array:
    return a.out.write((a.images, a.out_height, a.out_width, a.channels), a.strides("out"))


def _inside(outs: int, stride: int, first: int, length: int) -> tuple[slice, slice]:
    """Return the outputs whose tap lies inside, and what they read; the first reads at `first`."""
    start = max(0, -(first // stride))
    stop = max(start, min(outs, (length - 1 - first) // stride + 1))
    read = first + start * stride
    return slice(start, stop), slice(read, read + (stop - start - 1) * stride + 1, stride)


def _windows(a: CallArguments, dilation: tuple[int, int]) -> list[tuple[tuple, tuple]]:
    """Return for each tap the outputs that have it inside, and the pixels that they read."""
    found = []
    for r in range(a.kernel_y):
        rows = _inside(a.out_height, a.stride_y, r * dilation[0] - a.top, a.height)
        for s in range(a.kernel_x):
            columns = _inside(a.out_width, a.stride_x, s * dilation[1] - a.left, a.width)
            if all(part.stop > part.start for part in (rows[0], columns[0])):
                found.append(((rows[0], columns[0]), (rows[1], columns[1])))
    return found


@means("f32_max_pool")
def max_pool(a: CallArguments) -> None:
    """The largest under a window."""
    x, out = _plane(a), _result(a)
    out[...] = -np.inf
    for to, at in _windows(a, (a.dilation_y, a.dilation_x)):
        out[:, *to] = np.maximum(out[:, *to], x[:, *at])


@means("f32_avg_pool")
def avg_pool(a: CallArguments) -> None:
    """The sum under a window over a number, or over how many pixels there are."""
    x, out = _plane(a), _result(a)
    if (a.out_height, a.out_width) == (1, 1) and (a.top, a.left) == (0, 0) and a.divisor:
        window = x[:, : a.kernel_y, : a.kernel_x]
        out[...] = window.sum((1, 2), keepdims=True) / np.float32(a.divisor)
        return
    total = np.zeros(out.shape, np.float32)
    for to, at in _windows(a, (1, 1)):
        total[:, *to] += x[:, *at]
    rows, columns = (
        _counts(*axis, bool(a.count_padding))
        for axis in (
            (a.out_height, a.stride_y, a.kernel_y, a.height, a.top, a.bottom),
            (a.out_width, a.stride_x, a.kernel_x, a.width, a.left, a.right),
        )
    )
    out[...] = total / (a.divisor or np.outer(rows, columns)[..., None].astype(np.float32))


def _counts(
    outs: int, stride: int, kernel: int, length: int, before: int, after: int, padded: bool
) -> Array:
    """Return how many pixels of each window there are along an axis."""
    at = np.arange(outs)[:, None] * stride - before + np.arange(kernel)
    low, high = (-before, length + after) if padded else (0, length)
    return ((at >= low) & (at < high)).sum(1)


@means("f32_adaptive_pool")
def adaptive_pool(a: CallArguments) -> None:
    """The mean or the largest of each of as many bins as there are outputs."""
    x, out = _plane(a), _result(a)
    function = np.max if a.function else np.mean

    def bins(n: int, m: int) -> list[slice]:
        return [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]

    for y, rows in enumerate(bins(a.height, a.out_height)):
        for z, columns in enumerate(bins(a.width, a.out_width)):
            out[:, y, z] = function(x[:, rows, columns], axis=(1, 2))


@means("f32_local_response_norm")
def response_norm(a: CallArguments) -> None:
    """Over a power of the squares of neighbouring channels."""
    shape = (a.images, a.rows, a.width, a.channels)
    x = a.in_.read(shape, a.strides("in"), in_place=True)
    padded = -(-a.channels // a.lanes) * a.lanes
    a.squares.write((a.strip * (padded + a.size - 1),), (1,))
    before = a.size // 2
    squares = np.pad(x * x, ((0, 0),) * 3 + ((before, a.size - 1 - before),))
    total = sum(squares[..., i : i + a.channels] for i in range(a.size))
    scale = np.float32(a.bias) + np.float32(a.alpha / a.size) * total
    result = x / scale ** np.float32(a.power)
    a.out.write(shape, a.strides("out"))[...] = result


@means("f32_deform_roi_pool")
def deform_roi_pool(a: CallArguments) -> None:
    """The mean of points in each of the bins of a box."""
    x = a.in_.read((a.images, a.in_rows, a.in_width, a.channels), a.strides("in"))
    boxes = a.boxes.read((a.boxes_count, 5), (5, 1))
    offsets = a.offsets.read((a.boxes_count, a.bins, a.bins, 2), a.strides("offset"))
    out = a.out.write((a.boxes_count, a.bins, a.bins, a.channels), a.strides("out"))
    points = (np.arange(a.bins * a.samples) + np.float32(0.5)) / (a.bins * a.samples)
    for i, (image, *corners) in enumerate(boxes):
        if not 0 <= image < a.images:
            out[i] = np.nan
            continue
        left, top, right, bottom = np.asarray(corners) * np.float32(a.scale)
        axes = ((top, bottom - top, a.in_rows), (left, right - left, a.in_width))
        for p in range(a.bins):
            for q in range(a.bins):
                moves = offsets[i, p, q] * np.float32(a.gamma)
                (rows, low, high, down), (columns, before, behind, across) = (
                    _points(first + length * points[b * a.samples : (b + 1) * a.samples]
                            - 0.5 + move * length, size)
                    for b, move, (first, length, size) in zip((p, q), moves, axes, strict=True)
                )  # fmt: skip
                plane, d, r = x[int(image)], down[:, None, None], across[:, None]
                sides = [plane[low][:, side] * (1 - d) + plane[high][:, side] * d
                         for side in (before, behind)]  # fmt: skip
                value = sides[0] * (1 - r) + sides[1] * r
                inside = rows[:, None, None] & columns[:, None]
                out[i, p, q] = np.where(inside, value, 0).sum((0, 1)) / a.samples**2


def _points(at: Array, pixels: int) -> tuple[Array, Array, Array, Array]:
    """Return which points are inside, the pixels before and after each, and how far between."""
    inside = (at >= -1) & (at <= pixels)
    held = np.where(inside, at, 0).clip(0, pixels - 1)
    before = held.astype(int)
    return inside, before, np.minimum(before + 1, pixels - 1), (held - before).astype(np.float32)
