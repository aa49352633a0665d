"""Windows of a tensor as axes of their own, and the sum of such windows where they lie: im2col."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.places import gathered_up, joined_axes, shaped, taken
from depthwise.graph.ops import Pair

MOST_SLICES = 16  # that are put side by side; what needs more is gathered


def window_starts(size: int, window: int, stride: int, dilation: int = 1) -> np.ndarray:
    """Return where windows start along an axis. Raises ValueError where none fits."""
    reach = dilation * (window - 1) + 1
    if size < reach:
        raise ValueError(f"a window over {reach} of {size} elements")
    return np.arange(0, size - reach + 1, stride)


def windows(b: Builder, x: Value, axis: int, window: int, stride: int, dilation: int = 1) -> Value:
    """Return x with two axes, windows and places in them, in the place of one."""
    starts = window_starts(x.shape[axis], window, stride, dilation)
    count = len(starts)
    if (window == stride and dilation == 1) or count == 1 == dilation:  # nothing is read twice
        whole = taken(b, x, axis, np.arange(count * window))
        return shaped(b, whole, (*x.shape[:axis], count, window, *x.shape[axis + 1 :]))
    places = starts[:, None] + dilation * np.arange(window)
    if window > MOST_SLICES:
        return taken(b, x, axis, places)
    parts = [taken(b, x, axis, column) for column in places.T]
    apart = [shaped(b, p, (*p.shape[: axis + 1], 1, *p.shape[axis + 1 :])) for p in parts]
    return apart[0] if window == 1 else b.emit(ops.Concat(axis + 1), *apart)


def columns(
    b: Builder, x: Value, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Value:
    """Return the windows of images (N, C, H, W) as columns (N, C · R · S, windows)."""
    if any(padding):
        x = padded(b, x, padding)
    images, channels = x.shape[:2]
    down = windows(b, x, 2, kernel[0], stride[0], dilation[0])  # N, C, H', R, W
    both = windows(b, down, 4, kernel[1], stride[1], dilation[1])  # N, C, H', R, W', S
    ordered = b.emit(ops.Permute((0, 1, 3, 5, 2, 4)), both)
    count = both.shape[2] * both.shape[4]
    return shaped(b, ordered, (images, channels * kernel[0] * kernel[1], count))


def overlapped(
    b: Builder, x: Value, size: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Value:
    """Return images of `size` in which columns, as `columns` makes them, are summed in place."""
    around = [n + 2 * pad for n, pad in zip(size, padding, strict=True)]
    down, across = (
        window_starts(*axis)[:, None] + axis[3] * np.arange(axis[1])
        for axis in zip(around, kernel, stride, dilation, strict=True)
    )
    images, channels = x.shape[0], x.shape[1] // (kernel[0] * kernel[1])
    apart = shaped(b, x, (images, channels, *kernel, len(down), len(across)))
    y = b.emit(ops.Permute((0, 1, 4, 2, 5, 3)), apart)  # N, C, H', R, W', S
    y = joined_axes(b, joined_axes(b, y, 4, 2), 2, 2)
    y = gathered_up(b, gathered_up(b, y, 3, across, around[1]), 2, down, around[0])
    if any(padding):
        y = padded(b, y, (-padding[0], -padding[1]))
    return y


def padded(b: Builder, x: Value, padding: Pair) -> Value:
    """Return images with zeros on opposite sides, or without so many pixels."""
    down, across = padding
    pads = ((0, 0), (0, 0), (down, down), (across, across))
    return b.emit(ops.Pad(pads, "constant", 0.0), x)
