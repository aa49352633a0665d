"""Convolutions and linear layers of bytes: taps over channels-last pixels, summed exactly."""

from dataclasses import dataclass, replace

import numpy as np

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Table, pixel_strides
from depthwise.compiler.lowering.integers import epilogue_of, images_of
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.narrow import find_pitch
from depthwise.compiler.lowering.operands import (
    ConvOperands,
    TapPattern,
    divisible_conv,
    input_rows,
)
from depthwise.compiler.lowering.packing import round_up
from depthwise.compiler.lowering.packing_u8 import pack_conv_u8, pad_outputs
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import FLOAT32, INT8, INT32, WHOLE_FLOATS
from depthwise.quantization.bounds import holds_sums, largest_sum, moved_bias, rounds_sums
from depthwise.quantization.integer_ops import IntegerLayer
from depthwise.runtime.target import Target

FEW = 8  # pixels, for which the tiles of AMX are not worth their while
SPLIT = 4096  # products of an output that 6 pixels have room for in halves (kernels/conv_u8.h)
DEPTHWISE_GRAIN = 64  # channels: parts of them begin at whole vectors of bytes on every CPU
LARGE = 2**18  # bytes of weights that meet the whole input panel by panel


@dataclass(frozen=True)
class SumsOfBytes:
    """What a layer's sums are made of, and what becomes of them.

    `weight` is (K, C, R, S) in int8, `bias` int32 with the input's zero point in it, `factor` what
    a sum is multiplied by, both one for each output channel; `real` where the results stay floats.
    """

    weight: np.ndarray
    bias: np.ndarray
    factor: np.ndarray
    then: ByteEpilogue
    real: bool

    def channels(self, start: int, count: int) -> "SumsOfBytes":
        """Return the same for some output channels."""
        some = slice(start, start + count)
        return replace(
            self, weight=self.weight[some], bias=self.bias[some], factor=self.factor[some]
        )


@lower.register
def _(op: IntegerLayer, node: Node, b: LoweringBuilder) -> None:
    weight, bias, factor = (b.constant(name) for name in node.inputs[1:4])
    residual = next((images_of(b.read(name), b) for name in node.inputs[4:]), None)
    if isinstance(op.op, ops.Linear):
        conv, weight = ops.POINTWISE, weight[:, :, None, None]
    else:
        conv = op.op
    sums = _sums(op, weight, bias, factor)
    x, y = images_of(b.read(node.inputs[0]), b), images_of(b.write(node), b)
    work = ConvOperands(x, weight, bias, y, residual, Epilogue())
    alone = conv.groups == weight.shape[0] == x.shape[1] and not residual and not sums.real
    if alone and largest_sum(weight, sums.bias) < WHOLE_FLOATS:
        _depthwise(conv, work, sums, b)
        return
    inputs, outputs = x.shape[1] // conv.groups, y.shape[1] // conv.groups
    for g in range(conv.groups):
        part = work.outputs(1, g * outputs, outputs)
        part = replace(part, x=x.part(1, g * inputs, inputs))
        _convolve(conv, part, sums.channels(g * outputs, outputs), b)


def _sums(
    op: IntegerLayer, weight: np.ndarray, bias: np.ndarray, factor: np.ndarray
) -> SumsOfBytes:
    """Return a layer's numbers."""
    assert holds_sums(weight, bias, op.zero), "such a layer is computed in float32"
    assert not op.then or rounds_sums(weight, bias, op.zero, factor, op.ratio), op
    then = epilogue_of(op.then, op.residual_zero, op.ratio)
    moved = moved_bias(weight, bias, op.zero).astype(np.int32)
    return SumsOfBytes(weight, moved, factor, then, op.then is None)


# ----------------------------------------------------------------------------------- all channels


def tiles_pay(products: int, outs: int) -> bool:
    """Tell whether tiles of AMX are faster than VNNI, by the products that an output adds up.

    These are nanoseconds a pixel on a Sapphire Rapids core: tiles compute 32 outputs at once and
    bring all sums to bytes through memory, which takes longer where some of the 32 are not there;
    vectors have 16 outputs, and what they add up does not leave its registers.
    """
    panels, rest = divmod(outs, 32)
    by_tiles = (panels + bool(rest)) * (2.3 + 0.025 * products) + 0.6 * bool(rest)
    by_vectors = -(-outs // 16) * (0.7 + 0.043 * products)
    return by_tiles < by_vectors


def _convolve(conv: ops.Conv2d, work: ConvOperands, sums: SumsOfBytes, b: LoweringBuilder) -> None:
    """Append the call for a list of taps, to be done by rows or by channels."""
    x = work.x
    weight, walk = _taps(conv, work, sums.weight)
    outs, taps, channels = weight.shape
    panel = 2 * b.target.lanes
    few = work.y.shape[2] * work.y.shape[3] < FEW
    tiles = b.target.tiles and channels % 4 == 0 and not few and tiles_pay(taps * channels, outs)
    packed = pack_conv_u8(weight, panel, tiles=tiles)
    w = b.weights(packed, INT8)
    bias = b.weights(pad_outputs(sums.bias, panel), INT32)
    factor = b.weights(pad_outputs(sums.factor, panel))
    bytes_of_output = packed.size // round_up(outs, panel)

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from output channel `first` on."""
        part, (row, pixel) = part.collapsed(walk)
        images, count, rows, width = part.y.shape
        return b.step(
            "u8_quantized_conv", images=images, rows=rows, width=width, taps=taps,
            channels=channels, outs=count, panel=panel,
            tile_pixels=min(tile_pixels(b.target, taps * round_up(channels, 4)), width),
            tiles=int(tiles), pitch=find_pitch(rows, width, row, pixel) * tiles,
            weights_outer=int(packed.size > LARGE), prefetch_lines=0, next=None,
            in_image=part.x.image, in_row=row, in_pixel=pixel,
            **pixel_strides(out=part.y, sum=part.residual), requantize=sums.then,
            offsets=Table(walk.taps), in_=part.x,
            w=replace(w, offset=w.offset + first * bytes_of_output),
            bias=replace(bias, offset=bias.offset + first),
            scale=replace(factor, offset=factor.offset + first), sum=part.residual,
            out=None if sums.real else part.y, real=part.y if sums.real else None,
        )  # fmt: skip

    assert b.element(x).bytes == 1
    b.append(divisible_conv(step, walk, work, panel))


def tile_pixels(target: Target, products: int) -> int:
    """Return the pixels of a register tile that has two vectors of outputs of so many products."""
    if target.lanes == 16:
        return 14 if target.dots else 11
    if target.registers > 16:
        return 8
    return 6 if target.dots or products <= SPLIT else 4


def _taps(
    conv: ops.Conv2d, work: ConvOperands, weight: np.ndarray
) -> tuple[np.ndarray, TapPattern]:
    """Return weights (K, taps, channels), and how they walk over the input.

    The taps of a row are one where their pixels lie side by side, or have room for fours of
    channels, the rest of which then has weights of zero.
    """
    x = work.x
    outs, channels, R, S = weight.shape
    wide = round_up(channels, 4)
    if channels != wide and x.pixel == wide:
        padded = np.zeros((outs, wide, R, S), np.int8)
        padded[:, :channels] = weight
        weight, channels = padded, wide
    laid = weight.transpose(0, 2, 3, 1)  # (K, R, S, C)
    together = conv.dilation[1] == 1 and x.pixel == channels
    merged = (
        laid.reshape(outs, R, S * channels) if together else laid.reshape(outs, R * S, channels)
    )
    taps = tuple(
        (r * conv.dilation[0] - conv.padding.top) * x.row
        + (s * conv.dilation[1] - conv.padding.left) * x.pixel
        for r in range(R)
        for s in range(1 if together else S)
    )
    reach = input_rows(conv, x, -conv.padding.top, R)
    return merged, TapPattern(taps, conv.stride[0] * x.row, conv.stride[1] * x.pixel, reach)


# ------------------------------------------------------------------------- channel by channel


def _depthwise(conv: ops.Conv2d, work: ConvOperands, sums: SumsOfBytes, b: LoweringBuilder) -> None:
    x = work.x
    channels, _, R, S = sums.weight.shape
    w = b.weights(sums.weight.reshape(channels, R * S).T.copy(), INT8)
    bias, factor = b.weights(sums.bias, INT32), b.weights(sums.factor, FLOAT32)
    corner = conv.padding.top * x.row + conv.padding.left * x.pixel

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from channel `first` on."""
        images, count, rows, width = part.y.shape
        return b.step(
            "u8_quantized_depthwise", images=images, rows=rows, width=width, channels=count, R=R,
            S=S, stride_y=conv.stride[0], stride_x=conv.stride[1], dilation_y=conv.dilation[0],
            dilation_x=conv.dilation[1], **pixel_strides(in_=x, out=part.y), w_tap=channels,
            requantize=sums.then,
            in_=TensorView(
                x.buffer, part.x.offset - corner + first, (images, count, *x.shape[2:]), x.strides
            ),
            w=replace(w, offset=w.offset + first), bias=replace(bias, offset=bias.offset + first),
            scale=replace(factor, offset=factor.offset + first), out=part.y,
        )  # fmt: skip

    reach = input_rows(conv, x, -conv.padding.top, R)
    walk = TapPattern((), conv.stride[0] * x.row, conv.stride[1] * x.pixel, reach)
    b.append(divisible_conv(step, walk, work, DEPTHWISE_GRAIN))
