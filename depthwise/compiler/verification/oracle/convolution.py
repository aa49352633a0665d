"""Convolutions: as products of matrices over a few rows at a time."""

from collections.abc import Iterator

import numpy as np

from depthwise.compiler.verification.oracle.arithmetic import finish
from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.compiler.verification.oracle.memory import Array

TOGETHER = 2**21  # elements that are gathered before they are multiplied


def _bands(images: int, rows: int, each: int) -> Iterator[tuple[int, slice]]:
    """Return parts of the rows of every image, of which a row takes `each` elements."""
    height = max(1, TOGETHER // max(each, 1))
    for image in range(images):
        for start in range(0, rows, height):
            yield image, slice(start, min(start + height, rows))


def unpack(w: Array, outs: int, groups: int, sizes: tuple[int, int, int, int]) -> Array:
    """Return weights as (groups, taps * channels, outs) from the order that conv.h describes.

    `sizes` are taps, channels, the tile's depth and its vectors, of w's last axis floats each.
    """
    taps, channels, depth, tile_vectors = sizes
    lanes = w.shape[-1]
    wide = lanes // depth
    vectors = -(-outs // wide)  # of a group
    by_group = w.reshape(groups, vectors, taps * channels // depth, lanes)
    flat = by_group.reshape(groups, -1)
    result = np.empty((groups, taps * channels // depth, depth, outs), np.float32)
    for first in range(0, vectors, tile_vectors):
        count = min(tile_vectors, vectors - first)
        block = flat[:, first * taps * channels // depth * lanes :]
        block = block[:, : count * taps * channels // depth * lanes]
        block = block.reshape(groups, -1, count * lanes)
        k = np.arange(min(count * wide, outs - first * wide))
        lane = first_lanes(k, count, depth, lanes)
        taken = block[:, :, lane[:, None] + np.arange(depth)]  # groups, steps, k, depth
        result[..., first * wide : first * wide + len(k)] = taken.swapaxes(2, 3)
    return result.reshape(groups, taps * channels, outs)


def first_lanes(k: Array, vectors: int, depth: int, lanes: int) -> Array:
    """Return where each output of a block of `vectors` has its first number."""
    first = k // lanes * depth  # of the vectors that are added across
    n = np.minimum(vectors - first, depth)
    o = k % lanes
    return (first + o % n) * lanes + o // n * depth


def _weights(a: CallArguments) -> tuple[Array, Array]:
    """Return the weights (groups, taps * channels, outs) and the bias (groups, outs)."""
    if a.panel:  # as a block that is one vector has it
        return _laid(a, 1, a.panel, 1)
    return _laid(a, a.tile_depth, a.lanes, a.tile_vectors)


def _laid(a: CallArguments, depth: int, lanes: int, tile_vectors: int) -> tuple[Array, Array]:
    wide = lanes // depth
    vectors = -(-a.outs // wide)
    floats = a.groups * vectors * a.w_taps * a.channels * lanes // depth
    sizes = (a.w_taps, a.channels, depth, tile_vectors)
    w = a.w.keep(
        lambda: unpack(a.w.read((floats // lanes, lanes), (lanes, 1)), a.outs, a.groups, sizes),
        a.outs, a.groups, lanes, *sizes,
    )  # fmt: skip
    bias = a.bias.read((a.groups, vectors * lanes), (vectors * lanes, 1))
    k = np.arange(a.outs)
    block = k // (tile_vectors * wide)
    inside = k - block * tile_vectors * wide
    counts = np.minimum(tile_vectors, vectors - block * tile_vectors)
    at = block * tile_vectors * lanes + first_lanes(inside, counts, depth, lanes)
    t = np.arange(a.taps)
    kept = a.w_first + t + t // a.w_run * a.w_skip  # of the taps that the weights have
    by_tap = w.reshape(a.groups, a.w_taps, a.channels, a.outs)[:, kept]
    return by_tap.reshape(a.groups, -1, a.outs), bias[:, at]


@means("f32_conv")
def conv(a: CallArguments) -> None:
    """A list of taps over pixels."""
    w, bias = _weights(a)
    shape = (a.images, a.rows, a.width)
    inputs = [
        a.in_.read((*shape, a.groups * a.channels), a.strides("in"), at) for at in a.offsets.values
    ]
    outputs = (*shape, a.groups * a.outs)
    residual = a.sum.read(outputs, a.strides("sum"), in_place=True) if a.epilogue.add else None
    out = a.out.write(outputs, a.strides("out"))
    for image, rows in _bands(a.images, a.rows, a.width * a.groups * a.channels * a.taps):
        taken = np.stack([x[image, rows] for x in inputs], 2)  # rows, width, taps, channels of all
        columns = taken.reshape(-1, a.taps, a.groups, a.channels).transpose(2, 0, 1, 3)
        y = columns.reshape(a.groups, -1, a.taps * a.channels) @ w + bias[:, None]
        y = y.transpose(1, 0, 2).reshape(-1, a.width, a.groups * a.outs)
        out[image, rows] = finish(
            a.epilogue, y, None if residual is None else residual[image, rows]
        )


@means("f32_depthwise")
def depthwise(a: CallArguments) -> None:
    """One output channel for each input channel, and the totals of rows."""
    w = a.w.read((a.R * a.S, a.channels), (a.w_tap, 1))
    bias = a.bias.read((a.channels,), (1,))
    shape = (a.images, a.rows, a.width, a.channels)
    image, row, pixel, _ = a.strides("in")
    strides = (image, a.stride_y * row, a.stride_x * pixel, 1)
    inputs = [
        a.in_.read(shape, strides, r * a.dilation_y * row + s * a.dilation_x * pixel)
        for r in range(a.R)
        for s in range(a.S)
    ]
    residual = a.sum.read(shape, a.strides("sum"), in_place=True) if a.epilogue.add else None
    totals = None
    if a.total_row:
        totals = a.total.write((a.images, a.rows, a.channels), (a.total_image, a.total_row, 1))
    out = a.out.write(shape, a.strides("out"))
    for n, rows in _bands(a.images, a.rows, a.width * a.channels):
        y = np.broadcast_to(bias, out[n, rows].shape).copy()
        for x, tap in zip(inputs, w, strict=True):
            y += x[n, rows] * tap
        y = finish(a.epilogue, y, None if residual is None else residual[n, rows])
        out[n, rows] = y
        if totals is not None:
            totals[n, rows] = y.sum(1)


# ------------------------------------------------------------------------------------- Winograd


PAIRS = {4: (1.0,), 6: (0.5, 1.5), 8: (0.5, 1.0, 2.0), 10: (0.5, 0.75, 1.5, 2.5)}


def transforms(points: int, outs: int) -> tuple[Array, Array]:
    """Return B (points, points) and A' (outs, points) of winograd.h."""
    if points == 1:
        return np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)
    finite = [0.0, *(sign * a for a in PAIRS[points] for sign in (1, -1))]
    rows = np.zeros((points, points), np.float32)
    for i in range(points):
        others = [a for j, a in enumerate(finite) if j != i]
        coefficients = np.poly(others)[::-1]  # the lowest first
        rows[i, : len(coefficients)] = coefficients
    powers = [[a**y for a in finite] + [float(y == outs - 1)] for y in range(outs)]
    return rows, np.array(powers, np.float32)


@means("f32_winograd")
def winograd(a: CallArguments) -> None:
    """Tiles of outputs from products at points."""
    (down, up), (across, back) = (
        transforms(points, points - taps + 1)
        for points, taps in ((a.points_y, a.taps_y), (a.points_x, a.taps_x))
    )
    my, mx = len(up), len(back)
    size = (a.rows + a.taps_y - 1, a.width + a.taps_x - 1)
    x = a.in_.read((a.images, *size, a.channels), a.strides("in"))
    bias = a.bias.read((a.outs,), (1,))
    w = a.w.keep(lambda: _winograd_weights(a), a.outs, a.channels, a.points_y, a.points_x)
    outputs = (a.images, a.rows, a.width, a.outs)
    residual = a.sum.read(outputs, a.strides("sum"), in_place=True) if a.epilogue.add else None
    a.scratch.write((_scratch_floats(a),), (1,))
    out = a.out.write(outputs, a.strides("out"))
    tiles_x = -(-a.width // mx)
    each = tiles_x * a.points_y * a.points_x * (a.channels + a.outs)
    for n, tile_rows in _bands(a.images, -(-a.rows // my), each):
        rows = slice(tile_rows.start * my, min(tile_rows.stop * my, a.rows))
        tiles = _tiles(x[n, rows.start : rows.stop + a.taps_y - 1], (my, mx), (down, across),
                       (tile_rows.stop - tile_rows.start, tiles_x))  # fmt: skip
        m = tiles @ w  # points, tiles, outs
        y = np.tensordot(np.kron(up, back), m, 1).reshape(my, mx, -1, tiles_x, a.outs)
        y = y.transpose(2, 0, 3, 1, 4).reshape(-1, tiles_x * mx, a.outs)
        y = y[: rows.stop - rows.start, : a.width] + bias
        out[n, rows] = finish(a.epilogue, y, None if residual is None else residual[n, rows])


def _tiles(
    x: Array, outs: tuple[int, int], matrices: tuple[Array, Array], count: tuple[int, int]
) -> Array:
    """Return tiles of (rows, width, channels) transformed: (points, tiles, channels)."""
    ny, nx = map(len, matrices)
    padded = [(c - 1) * m + n for c, m, n in zip(count, outs, (ny, nx), strict=True)]
    full = np.zeros((*padded, x.shape[2]), np.float32)
    full[: x.shape[0], : x.shape[1]] = x[: padded[0], : padded[1]]
    windows = np.lib.stride_tricks.sliding_window_view(full, (ny, nx), (0, 1))  # type: ignore[call-overload]
    windows = windows[:: outs[0], :: outs[1]].transpose(3, 4, 0, 1, 2).reshape(ny, -1)
    half = (matrices[0] @ windows).reshape(ny, nx, -1)
    return (matrices[1] @ half).reshape(ny * nx, count[0] * count[1], x.shape[2])


def _winograd_weights(a: CallArguments) -> Array:
    """Return (points, channels, outs)."""
    unit = a.panel or a.lanes
    points, padded = a.points_y * a.points_x, -(-a.outs // unit) * unit
    w = a.w.read((padded * points * a.channels,), (1,))
    block = a.panel or a.tile_vectors * a.lanes
    parts = []
    for first in range(0, padded, block):
        wide = min(block, padded - first)
        at = first * points * a.channels
        part = w[at : at + wide * points * a.channels]
        parts.append(part.reshape(points, a.channels, wide))
    return np.ascontiguousarray(np.concatenate(parts, 2)[..., : a.outs])


def _scratch_floats(a: CallArguments) -> int:
    """Return what winograd.h says that it needs: V and M of a batch of tiles."""
    lanes = a.lanes

    def apart(floats: int) -> int:
        return (floats // lanes | 1) * lanes

    v = apart(a.batch * (-(-a.channels // lanes) * lanes))
    return a.points_y * a.points_x * (v + apart(a.batch * a.tile_vectors * lanes))


# ----------------------------------------------------------------------------------- deformable


@means("f32_deform_conv")
def deform_conv(a: CallArguments) -> None:
    """A convolution whose taps are moved; nothing outside of the plane is read."""
    taps, all_channels = a.kernel_y * a.kernel_x, a.groups * a.channels
    vectors = -(-a.outs // a.lanes)
    floats = a.groups * vectors * a.lanes * taps * a.channels
    w = unpack(a.w.read((floats // a.lanes, a.lanes), (a.lanes, 1)), a.outs, a.groups,
               (taps, a.channels, 1, a.tile_vectors))  # fmt: skip
    bias = a.bias.read((a.groups, a.outs), (vectors * a.lanes, 1))
    plane = (a.images, a.in_rows, a.in_width, all_channels)
    x = a.in_.read(plane, a.strides("in"))
    shape, parts = (a.images, a.rows, a.width), a.offset_groups
    offsets = a.offsets.read((*shape, 2 * parts * taps), a.strides("offset"))
    masks = a.mask and a.mask.read((*shape, parts * taps), a.strides("mask"))
    outputs = (*shape, a.groups * a.outs)
    residual = a.sum.read(outputs, a.strides("sum"), in_place=True) if a.epilogue.add else None
    a.columns.write((a.strip_rows * a.strip_width * a.column,), (1,))
    out = a.out.write(outputs, a.strides("out"))
    r, s = np.divmod(np.arange(taps), a.kernel_x)
    for n, rows in _bands(a.images, a.rows, a.width * taps * all_channels):
        moved = offsets[n, rows].reshape(-1, a.width, parts, taps, 2)
        y = np.arange(rows.start, rows.stop)[:, None, None, None] * a.stride_y - a.pad_y
        z = np.arange(a.width)[:, None, None] * a.stride_x - a.pad_x
        at = (y + r * a.dilation_y + moved[..., 0], z + s * a.dilation_x + moved[..., 1])
        samples = between_pixels(x[n].reshape(*plane[1:3], parts, -1), *at)
        if masks is not None:
            samples = samples * masks[n, rows].reshape(-1, a.width, parts, taps, 1)
        # rows, width, taps, channels of all: those of a part lie side by side
        columns = samples.swapaxes(2, 3).reshape(-1, taps, a.groups, a.channels)
        columns = columns.transpose(2, 0, 1, 3).reshape(a.groups, -1, taps * a.channels)
        found = (columns @ w + bias[:, None]).transpose(1, 0, 2)
        found = found.reshape(-1, a.width, a.groups * a.outs)
        out[n, rows] = finish(a.epilogue, found, None if residual is None else residual[n, rows])


def between_pixels(x: Array, rows: Array, columns: Array) -> Array:
    """Return x (H, W, parts, channels) at (..., part, tap): (..., part, tap, channels).

    Pixels outside, and positions that are no numbers, count as 0.
    """
    top, left = np.floor(rows), np.floor(columns)
    height, width, parts, channels = x.shape
    part = np.arange(parts)[:, None]
    result = np.zeros((*rows.shape, channels), np.float32)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, z = top + i, left + j
        inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
        weight = np.where(i, rows - top, 1 - (rows - top)) * np.where(
            j, columns - left, 1 - (columns - left)
        )
        at = (np.where(inside, y, 0).astype(int), np.where(inside, z, 0).astype(int))
        taken = x[(*at, np.broadcast_to(part, rows.shape))] * weight[..., None]
        result += np.where(inside[..., None], taken, 0)
    return result.astype(np.float32)
