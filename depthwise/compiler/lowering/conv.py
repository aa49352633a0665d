"""Convolutions and linear layers: every one is a list of taps over channels-last pixels."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from depthwise.compiler.fused_ops import Epilogue, FlattenChannelsLast, Fused, takes_plane_mean
from depthwise.compiler.lowering.algorithms import ConvWorkload, Winograd
from depthwise.compiler.lowering.areas import Area, find_areas
from depthwise.compiler.lowering.batches import images_at_once
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, RowAccess, Table, pixel_strides
from depthwise.compiler.lowering.deform import lower_deform_conv
from depthwise.compiler.lowering.elementwise import NO_ACTIVATION, lower_binary
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.narrow import lower_pairs, lower_stored, lower_tiles
from depthwise.compiler.lowering.norm import lower_batch_norm
from depthwise.compiler.lowering.operands import (
    ConvOperands,
    KeptTaps,
    TapPattern,
    divisible_conv,
    input_rows,
)
from depthwise.compiler.lowering.packing import (
    pack_bias,
    pack_conv,
    pack_conv_bias,
    pack_depthwise,
    round_up,
)
from depthwise.compiler.lowering.views import TensorView, is_canonical, reshaped, row_major
from depthwise.compiler.lowering.winograd import lower_winograd
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import FLOAT16, NARROW


@lower.register
def _(op: ops.Conv2d | ops.ConvTranspose2d | ops.Linear, node: Node, b: LoweringBuilder) -> None:
    LOWERINGS[type(op)](op, _work(Epilogue(), node, b), b)


@lower.register
def _(op: Fused, node: Node, b: LoweringBuilder) -> None:
    match op.op:
        case ops.DeformConv2d():
            lower_deform_conv(op.op, op.epilogue, node, b)
        case ops.Binary():
            lower_binary(op.op, op.epilogue, node, b)
        case ops.BatchNorm():
            lower_batch_norm(op.op, op.epilogue.after or NO_ACTIVATION, node, b)
        case _:
            LOWERINGS[type(op.op)](op.op, _work(op.epilogue, node, b), b)


def _work(epilogue: Epilogue, node: Node, b: LoweringBuilder) -> ConvOperands:
    inputs = list(node.inputs)
    residual = b.read(inputs.pop()) if epilogue.add else None
    x, weight = b.read(inputs[0]), b.constant(inputs[1])
    op = node.op.op if isinstance(node.op, Fused) else node.op
    outs = node.type.shape[-1] if isinstance(op, ops.Linear) else node.type.shape[1]
    bias = b.constant(inputs[2]) if len(inputs) > 2 else np.zeros(outs, np.float32)
    return ConvOperands(x, weight, bias, b.write(node), residual, epilogue)


def _conv2d(op: ops.Conv2d, work: ConvOperands, b: LoweringBuilder) -> None:
    x, weight = work.x, work.weight
    if op.groups == weight.shape[0] == x.shape[1]:
        _depthwise(op, work, b)
        return
    areas = find_areas(op, x.shape, weight.shape, work.y.shape)
    for area in areas:
        _area(op, work, area, len(areas) > 1, b)


def _area(
    op: ops.Conv2d, work: ConvOperands, area: Area, divided: bool, b: LoweringBuilder
) -> None:
    """Append the convolution of some rows and columns of the output by the taps of these."""
    rows, columns = area
    reads = []  # the first row and column of x that are read
    for axis, band in ((2, rows), (3, columns)):
        outputs = band.stop - band.start
        if outputs < work.y.shape[axis]:
            x = work.x.part(axis, band.read, band.span)
            work = replace(work.outputs(axis, band.start, outputs), x=x)
            reads.append(0)
        else:
            reads.append(band.read)
    x, taps = work.x, work.weight.shape[3]
    kept = KeptTaps(
        work.weight[0, 0].size, rows.first * taps + columns.first, columns.taps,
        taps - columns.taps,
    )  # fmt: skip
    offsets = tuple(
        (r * op.dilation[0] + reads[0]) * x.row + (s * op.dilation[1] + reads[1]) * x.pixel
        for r in range(rows.taps)
        for s in range(columns.taps)
    )
    step = (op.stride[0] * x.row, op.stride[1] * x.pixel)
    window = work.weight.shape[2:] if op.stride == op.dilation == (1, 1) else None
    reach = input_rows(op, x, reads[0], rows.taps)
    some = kept if divided or kept.all > len(offsets) else None
    if some and b.element(x) in NARROW:  # whose kernel takes no part of the taps of its weights
        part = work.weight[:, :, rows.first : rows.end, columns.first : columns.end]
        work, some = replace(work, weight=part), None
    _convolve(work, TapPattern(offsets, *step, reach, window, some=some), op.groups, b)


def _convolve(work: ConvOperands, walk: TapPattern, groups: int, b: LoweringBuilder) -> None:
    """Append the call of the kernel for one list of taps, to be done by rows or by channels."""
    if b.element(work.x) in NARROW:
        lower_tiles(work, walk, b)
        return
    if work.weight.dtype == FLOAT16.numpy:
        lower_stored(work, walk, b)
        return
    lanes = b.target.lanes
    layer = _layer(work, walk, groups, b)
    chosen = b.algorithm(layer)
    if isinstance(chosen, Winograd):
        lower_winograd(work, walk, layer, b)
        return
    panel = b.target.panel if chosen.depth == 1 else 0
    if walk.some and chosen.depth == 1:
        panel = panel or lanes  # tiles differ from area to area, and all read the same weights
    laid = (panel, 1, 1) if panel else (lanes, chosen.vectors, chosen.depth)
    w = b.weights(pack_conv(work.weight, groups, *laid))
    bias = b.weights(pack_conv_bias(work.bias, groups, *laid))
    floats = work.weight[0].size  # a packed output channel's weights
    read = replace(w, shape=(w.shape[0] * len(walk.taps) // walk.kept.all,))
    grain = chosen.vectors * lanes // chosen.depth

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from packed output channel `first` on."""
        part, (row, pixel) = part.collapsed(walk)
        images, rows, width = part.runs(pixel)
        return b.step(
            "f32_conv", str(chosen), layer, images=images, rows=rows, width=width,
            taps=len(walk.taps), channels=work.weight.shape[1],
            outs=part.y.shape[1] // groups, groups=groups,
            tile_pixels=chosen.pixels, tile_vectors=chosen.vectors,
            over_rows=int(chosen.over_rows), tile_depth=chosen.depth, panel=panel,
            weights_outer=int(chosen.weights_outer),
            in_image=part.x.image, in_row=row, in_pixel=pixel,
            **pixel_strides(out=part.y, sum=part.residual),
            epilogue=part.epilogue, **walk.kept.arguments, offsets=Table(walk.taps), in_=part.x,
            w=replace(read, offset=w.offset + first * floats),
            bias=replace(bias, offset=bias.offset + first * chosen.depth), sum=part.residual,
            next=None, near_steps=0, prefetch_lines=0, prefetch_steps=0, out=part.y,
        )  # fmt: skip

    b.append(divisible_conv(step, walk, work, 0 if groups > 1 else max(grain, panel), nested=True))


def _layer(work: ConvOperands, walk: TapPattern, groups: int, b: LoweringBuilder) -> ConvWorkload:
    """Return what is computed at once: some images, which share weights while these are near."""
    images = walk.count_images(work)
    found, given = (prod(view.shape) // images for view in (work.y, work.x))
    once = len(walk.taps) == 1  # else Winograd's weights may be several to each of these
    pixels = found // work.y.shape[1] if once else 0
    count = images_at_once(images, given, found, b.constants, work.weight.size, pixels)
    some = walk.take(work, 0, count)
    images, outs, rows, width = some.y.shape
    part, (_, pixel) = some.collapsed(walk)
    return ConvWorkload(
        images, rows, width, part.runs(pixel)[2], len(walk.taps), walk.window,
        work.weight.shape[1], outs // groups, groups, b.buffers[work.x.buffer].dtype,
    )  # fmt: skip


def _depthwise(op: ops.Conv2d, work: ConvOperands, b: LoweringBuilder) -> None:
    x, lanes = work.x, b.target.lanes
    R, S = work.weight.shape[2:]
    reach = input_rows(op, x, -op.padding.top, R)
    walk = TapPattern((), op.stride[0] * x.row, op.stride[1] * x.pixel, reach)
    if b.element(x) in NARROW:
        lower_pairs(op, work, walk, b)
        return
    assert b.node
    if any(map(takes_plane_mean, b.readers(b.node.name))):
        work = replace(work, row_totals=b.total_rows(b.node.name))
    wide = b.target.panel or lanes
    w = b.weights(pack_depthwise(work.weight, wide))
    bias = b.weights(pack_bias(work.bias, 1, wide))
    corner = op.padding.top * x.row + op.padding.left * x.pixel

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from channel `first` on."""
        images, channels, rows, width = part.y.shape
        offset, totals = part.x.offset - corner + first, part.row_totals
        return b.step(
            "f32_depthwise", images=images, rows=rows, width=width, channels=channels, R=R, S=S,
            stride_y=op.stride[0], stride_x=op.stride[1], dilation_y=op.dilation[0],
            dilation_x=op.dilation[1], **pixel_strides(in_=x, out=part.y, sum=part.residual),
            w_tap=round_up(work.weight.shape[0], wide),
            total_image=totals.image if totals else 0, total_row=totals.row if totals else 0,
            epilogue=part.epilogue,
            in_=TensorView(x.buffer, offset, (images, channels, *x.shape[2:]), x.strides),
            w=replace(w, offset=w.offset + first), bias=replace(bias, offset=bias.offset + first),
            sum=part.residual, total=totals, out=part.y,
        )  # fmt: skip

    b.append(divisible_conv(step, walk, work, lanes))


def _transposed(op: ops.ConvTranspose2d, work: ConvOperands, b: LoweringBuilder) -> None:
    """One convolution for each phase of the output: no zeros are inserted.

    Output row s·q + p reads the taps r with (p + padding - r·dilation) divisible by the stride s,
    at input row q + (p + padding - r·dilation) / s; columns likewise.
    """
    x, y, groups = work.x, work.y, op.groups
    c, per_group, R, S = work.weight.shape
    kernels = work.weight.reshape(groups, c // groups, per_group, R, S).transpose(0, 2, 1, 3, 4)
    kernels = kernels.reshape(groups * per_group, c // groups, R, S)
    for p in range(min(op.stride[0], y.shape[2])):
        rows = _phase(p + op.padding.top, op.stride[0], op.dilation[0], R)
        for q in range(min(op.stride[1], y.shape[3])):
            columns = _phase(q + op.padding.left, op.stride[1], op.dilation[1], S)
            pairs = [(r, s) for r in rows for s in columns]
            phase = replace(
                work, y=_every(y, p, q, op.stride),
                residual=_every(work.residual, p, q, op.stride) if work.residual else None,
            )  # fmt: skip
            if pairs:
                weight = np.stack([kernels[:, :, r, s] for r, s in pairs], 2)
                weight = weight.reshape(*kernels.shape[:2], len(rows), len(columns))
                walk = TapPattern(
                    tuple(rows[r] * x.row + columns[s] * x.pixel for r, s in pairs),
                    x.row, x.pixel, RowAccess(x, 1, min(rows.values()), max(rows.values())),
                    (len(rows), len(columns)) if _follow(rows) and _follow(columns) else None,
                )  # fmt: skip
                _convolve(replace(phase, weight=weight), walk, groups, b)
            else:
                _bias_alone(replace(phase, weight=np.zeros_like(kernels[:, :, :1, :1])), groups, b)


def _bias_alone(work: ConvOperands, groups: int, b: LoweringBuilder) -> None:
    """Append the phase on which no tap falls: a tap of zeros on a pixel of zeros, not on x.

    There may be no pixel of x, and zero times what is no number is no number.
    """
    zeros = b.weights(np.zeros(work.x.shape[1]))
    x = replace(zeros, shape=work.x.shape, strides=(0, 1, 0, 0))
    _convolve(replace(work, x=x), TapPattern((0,), 0, 0, RowAccess(x)), groups, b)


def _phase(position: int, stride: int, dilation: int, kernel: int) -> dict[int, int]:
    """Return tap -> how many pixels after its own an output pixel reads, the lowest first."""
    reads = {tap: position - tap * dilation for tap in reversed(range(kernel))}
    return {tap: at // stride for tap, at in reads.items() if at % stride == 0}


def _follow(reads: Mapping[int, int]) -> bool:
    """Tell whether the taps of a phase read neighbours."""
    return all(after - before == 1 for before, after in pairwise(reads.values()))


def _every(view: TensorView, p: int, q: int, stride: ops.Pair) -> TensorView:
    """Return each stride-th row and column of a view, from row p and column q on."""
    n, c, height, width = view.shape
    shape = (n, c, -(-(height - p) // stride[0]), -(-(width - q) // stride[1]))
    strides = (view.image, 1, view.row * stride[0], view.pixel * stride[1])
    first = view.offset + p * view.row + q * view.pixel
    return replace(view, offset=first, shape=shape, strides=strides)


def lower_linear(op: ops.Linear, work: ConvOperands, b: LoweringBuilder) -> None:  # noqa: ARG001
    """A linear layer is a pointwise convolution of a row with one pixel for each input vector."""
    rows = replace(
        work,
        x=_vectors(work.x, b),
        weight=work.weight[:, :, None, None],
        residual=_vectors(work.residual, b) if work.residual else None,
    )
    y, walk = work.y, _along(rows.x, work.y.shape[0] if len(work.y.shape) > 1 else 1)
    if y.strides[-1] == 1 and (flat := _as_row(y)) is not None:
        _convolve(replace(rows, y=flat), walk, 1, b)
        return
    packed = b.temporary(y.shape, b.element(y))
    flat = _as_row(packed)
    assert flat is not None
    _convolve(replace(rows, y=flat), walk, 1, b)
    b.copy(packed, y)


def _along(x: TensorView, images: int) -> TapPattern:
    """Return the walk along one row of pixels, in which as many images lie."""
    return TapPattern((0,), 0, x.pixel, RowAccess(x), line=images)


def _vectors(view: TensorView, b: LoweringBuilder) -> TensorView:
    """Return (..., C) as one row of pixels; what does not lie so is copied first."""
    flat = _as_row(view) if view.strides[-1] == 1 else None
    if flat is None:
        packed = b.temporary(view.shape, b.element(view))
        b.copy(view, packed)
        flat = _as_row(packed)
        assert flat is not None
    return flat


def _as_row(view: TensorView) -> TensorView | None:
    """Return (..., C) as (1, C, 1, pixels) where the vectors lie evenly apart, else None."""
    count, channels = prod(view.shape[:-1]), view.shape[-1]
    flat = reshaped(view, (1, 1, count, channels))
    if flat is None:
        return None
    pixel = flat.strides[2] if count > 1 else channels
    return replace(flat, shape=(1, channels, 1, count), strides=(0, 1, 0, pixel))


LOWERINGS = {ops.Conv2d: _conv2d, ops.ConvTranspose2d: _transposed, ops.Linear: lower_linear}


@lower.register
def _(op: FlattenChannelsLast, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    x = b.read(node.inputs[0])
    n, c, h, w = x.shape
    stored = replace(x, shape=(n, h, w, c), strides=(x.image, x.row, x.pixel, 1))
    flat = reshaped(stored, node.type.shape)
    if flat is not None and is_canonical(flat):
        b.alias(node, flat)
        return
    y = b.write(node)
    b.copy(stored, replace(y, shape=stored.shape, strides=row_major(stored.shape)))
