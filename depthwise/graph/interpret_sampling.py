"""The meaning of operators that read between pixels: deformable ones, and resizing."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.interpret import Array, add_bias, convolve_columns, evaluate
from depthwise.graph.resampling import cubic_weights


def bilinear(x: Array, rows: Array, columns: Array) -> Array:
    """Return x (C, H, W) sampled at rows, columns of one shape: (C, *shape); zero outside."""
    _, height, width = x.shape
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    result = np.zeros((x.shape[0], *rows.shape), x.dtype)
    for dy, weight_y in ((0, 1 - down), (1, down)):
        for dx, weight_x in ((0, 1 - right), (1, right)):
            y, z = top + dy, left + dx
            inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
            corner = x[:, y.clip(0, height - 1), z.clip(0, width - 1)]
            result += corner * np.where(inside, weight_y * weight_x, 0)
    return result


@evaluate.register
def _(op: ops.DeformConv2d, x, weight, bias, offsets, mask=None):
    n, c = x.shape[:2]
    R, S = weight.shape[2:]
    height, width = offsets.shape[2:]
    G = op.offset_groups
    y, z, r, s = np.ogrid[:height, :width, :R, :S]
    rows = y * op.stride[0] - op.padding.top + r * op.dilation[0]
    columns = z * op.stride[1] - op.padding.left + s * op.dilation[1]
    shift = offsets.reshape(n, G, R, S, 2, height, width).transpose(0, 1, 4, 5, 6, 2, 3)
    sampled = np.empty((n, c, height, width, R, S), x.dtype)
    for image in range(n):
        for g in range(G):
            channels = slice(g * c // G, (g + 1) * c // G)
            down, right = shift[image, g]
            taken = bilinear(x[image, channels], rows + down, columns + right)
            if mask is not None:
                factors = mask.reshape(n, G, R, S, height, width)[image, g]
                taken = taken * factors.transpose(2, 3, 0, 1)
            sampled[image, channels] = taken
    return add_bias(convolve_columns(sampled, weight, op.groups), bias)


@evaluate.register
def _(op: ops.DeformRoIPool, x, boxes, offsets):
    P, samples = op.output_size, op.samples
    result = np.empty((len(boxes), x.shape[1], P, P), x.dtype)
    at = (np.arange(samples) + 0.5) / samples
    for i, (image, left, top, right, bottom) in enumerate(boxes):
        y0, x0 = top * op.spatial_scale - 0.5, left * op.spatial_scale - 0.5
        height, width = (bottom - top) * op.spatial_scale, (right - left) * op.spatial_scale
        for p in range(P):
            for q in range(P):
                shift_y, shift_x = op.gamma * offsets[i, :, p, q] * (height, width)
                rows = y0 + (p + at) * height / P + shift_y
                columns = x0 + (q + at) * width / P + shift_x
                grid = np.meshgrid(rows, columns, indexing="ij")
                result[i, :, p, q] = sample_region(x[int(image)], *grid).mean((1, 2))
    return result


def sample_region(x: Array, rows: Array, columns: Array) -> Array:
    """Return x (C, H, W) sampled bilinearly, held at the border, zero a pixel and more outside."""
    _, height, width = x.shape
    inside = (rows >= -1) & (rows <= height) & (columns >= -1) & (columns <= width)
    held = bilinear(x, rows.clip(0, height - 1), columns.clip(0, width - 1))
    return held * inside


@evaluate.register
def _(op: ops.Resize, x):
    for axis, (size, step) in enumerate(zip(op.size, op.step, strict=True), 2):
        x = resize_axis(x, axis, size, step, op)
    return x


def resize_axis(x: Array, axis: int, size: int, step: float, op: ops.Resize) -> Array:
    """Return x with one axis resampled to `size` positions."""
    last = x.shape[axis] - 1
    i = np.arange(size, dtype=np.float32)
    if op.mode != "bilinear":
        at = i if op.mode == "nearest" else i + np.float32(0.5)
        near = np.floor(at * np.float32(step)).astype(int)
        return np.take(x, near.clip(0, last), axis)
    at = i * step if op.align_corners else np.maximum((i + 0.5) * step - 0.5, 0)
    low = np.floor(at).astype(int).clip(0, last)
    part = (at - low).reshape(-1, *(1,) * (x.ndim - axis - 1)).astype(x.dtype)
    high = np.minimum(low + 1, last)
    return np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part


@evaluate.register
def _(op: ops.Resample, x, weights):
    """Sum each window times its weights; one element is a copy."""
    x = np.moveaxis(x, op.axis, -1)
    ends = np.cumsum(op.counts)
    parts = [
        x[..., first : first + count] @ weights[end - count : end]
        for first, count, end in zip(op.first, op.counts, ends, strict=True)
    ]
    return np.moveaxis(np.stack(parts, -1), -1, op.axis)


@evaluate.register
def _(op: ops.GridSample, x, grid):
    result = np.zeros((*x.shape[:2], *grid.shape[1:3]), x.dtype)
    across, down = (
        grid_taps(op, grid[..., axis], size) for axis, size in ((0, x.shape[3]), (1, x.shape[2]))
    )
    images = np.arange(len(x))[:, None, None]
    for row, inside_row, weight_row in down:
        for column, inside_column, weight_column in across:
            pixels = np.moveaxis(x[images, :, row, column], -1, 1)
            inside = (inside_row & inside_column)[:, None]
            weight = (weight_row * weight_column)[:, None].astype(x.dtype)
            result += np.where(inside, pixels, 0) * weight
    return result


def grid_taps(op: ops.GridSample, at: Array, size: int) -> list[tuple[Array, Array, Array]]:
    """Return pixels along an axis, whether each is inside, and its weight, for places in a grid."""
    half = at.dtype.type(0.5)
    place = (at + 1) * half * (size - 1) if op.align_corners else ((at + 1) * size - 1) * half
    if op.mode == "bicubic":  # its pixels are held inside one by one, not the place
        low = np.floor(place)
        weights = cubic_weights(place - low)
        return [
            _tap(hold(op, low + tap, size), size, weight)
            for tap, weight in enumerate(weights, start=-1)
        ]
    place = hold(op, place, size)
    if op.mode == "nearest":
        return [_tap(np.rint(place), size, np.ones_like(place))]
    low = np.floor(place)
    return [_tap(low, size, 1 - (place - low)), _tap(low + 1, size, place - low)]


def _tap(pixel: Array, size: int, weight: Array) -> tuple[Array, Array, Array]:
    inside = (pixel >= 0) & (pixel < size)
    return np.where(inside, pixel, 0).astype(int), inside, weight


def hold(op: ops.GridSample, place: Array, size: int) -> Array:
    """Return places brought inside by the border or its mirror; what is no number is the first."""
    if op.outside == "zeros":
        return place
    if op.outside == "reflection":
        low, span = (0.0, size - 1) if op.align_corners else (-0.5, size)
        place = mirrored(place, low, span)
    return np.where(np.isnan(place), 0, place).clip(0, size - 1)


def mirrored(place: Array, low: float, span: int) -> Array:
    """Return places thrown back and forth between low and low + span."""
    if not span:
        return np.zeros_like(place)
    beyond = np.abs(place - low)
    turns = np.floor(beyond / span)
    rest = beyond - turns * span
    return np.where(turns % 2 == 0, rest, span - rest) + low
