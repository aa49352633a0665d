"""Deformable convolution and pooling."""

from dataclasses import replace

from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, RowAccess, Split, Table, pixel_strides
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.packing import default_tile, pack_bias, pack_conv, round_up
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import FLOAT32

# Samples of one strip, before they are convolved: 128 KB. On a Zen 4 core the time does not depend
# on it from 32 KB to 500 KB.
STRIP_FLOATS = 32 * 1024


@lower.register
def _(op: ops.DeformConv2d, node: Node, b: LoweringBuilder) -> None:
    lower_deform_conv(op, Epilogue(), node, b)


def lower_deform_conv(
    op: ops.DeformConv2d, epilogue: Epilogue, node: Node, b: LoweringBuilder
) -> None:
    """Append one call, whole or by rows: samples of a strip into scratch, then their convolution.

    Reads x, weight, bias, offsets, [mask], and the residual last if the epilogue adds.
    """
    inputs = list(node.inputs)
    residual = b.read(inputs.pop()) if epilogue.add else None
    x, offsets = b.read(inputs[0]), b.read(inputs[3])
    mask = b.read(inputs[4]) if len(inputs) > 4 else None
    weight, bias = b.constant(inputs[1]), b.constant(inputs[2])
    y = b.write(node)
    lanes, taps, outs = b.target.lanes, weight[0, 0].size, weight.shape[0] // op.groups
    column = _column(taps * x.shape[1])
    width = y.shape[3]
    room = max(STRIP_FLOATS // column, 1)  # pixels whose samples fit
    strip_rows = min(y.shape[2], room // width)
    run = strip_rows * width if strip_rows and _is_gapless(y, residual) else width
    pixels, vectors = default_tile(lanes, b.target.registers, run, outs)
    strip_width = width if strip_rows else min(width, round_up(room, pixels))
    weights_outer = int(weight[0].size * outs * FLOAT32.bytes > b.constants.large)
    table = Table(tuple(tap * x.shape[1] for tap in range(taps)))
    w = b.weights(pack_conv(weight, op.groups, lanes, vectors))
    packed_bias = b.weights(pack_bias(bias, op.groups, lanes))

    strip_rows = max(strip_rows, 1)
    scratch = b.temporary((strip_rows * strip_width * column,))

    def step(start: int, rows: int) -> KernelCall:
        """Return the call for rows of the output; an offset may point anywhere in x."""
        own = [view and view.part(2, start, rows) for view in (offsets, mask, residual, y)]
        high, wide = min(strip_rows, rows), strip_width
        samples = replace(scratch, shape=(high * wide * column,))
        return b.step(
            "f32_deform_conv", f"strip {high}x{wide}", images=y.shape[0], rows=rows, width=width,
            in_rows=x.shape[2], in_width=x.shape[3], kernel_y=weight.shape[2],
            kernel_x=weight.shape[3], channels=weight.shape[1], outs=outs, groups=op.groups,
            offset_groups=op.offset_groups, stride_y=op.stride[0], stride_x=op.stride[1],
            pad_y=op.padding.top - start * op.stride[0], pad_x=op.padding.left,
            dilation_y=op.dilation[0], dilation_x=op.dilation[1], strip_rows=high,
            strip_width=wide, tile_pixels=pixels, tile_vectors=vectors, weights_outer=weights_outer,
            **pixel_strides(in_=x, offset=offsets, mask=mask, out=y, sum=residual), column=column,
            epilogue=epilogue, taps=table, in_=x, w=w, bias=packed_bias, offsets=own[0],
            mask=own[1], sum=own[2], columns=samples, out=own[3],
        )  # fmt: skip

    rows = y.shape[2]
    known = tuple(RowAccess(view) for view in (offsets, mask, residual) if view)
    b.append(step(0, rows), Split("rows", rows, step, reads=known) if rows > 1 else None)


def _column(samples: int) -> int:
    """Return the floats from one pixel's samples to the next, not a multiple of 2 KB.

    Pixels of a tile that lie 4 KB apart share one set of the cache: 1024 channels took 8 % longer.
    """
    return samples if samples % 512 else samples + 16


def _is_gapless(y: TensorView, residual: TensorView | None) -> bool:
    """Tell whether rows follow each other without a gap: the kernel then runs them as one."""
    views = [y, residual] if residual else [y]
    return all(view.row == view.shape[3] * view.pixel for view in views)


@lower.register
def _(op: ops.DeformRoIPool, node: Node, b: LoweringBuilder) -> None:
    x, boxes, offsets = (b.read(name) for name in node.inputs)
    y = b.write(node)
    images, channels, rows, width = x.shape
    b.call(
        "f32_deform_roi_pool", boxes_count=boxes.shape[0], images=images, channels=channels,
        in_rows=rows, in_width=width, bins=op.output_size, samples=op.samples,
        scale=float(op.spatial_scale), gamma=float(op.gamma),
        **pixel_strides(in_=x, offset=offsets, out=y), in_=x, boxes=boxes, offsets=offsets, out=y,
    )  # fmt: skip
