"""Convolutions of 16-bit types: the calls of tile_conv and pair_depthwise; f16_linear."""

from dataclasses import replace
from math import ceil

import numpy as np

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Split, Table, pixel_strides
from depthwise.compiler.lowering.operands import ConvOperands, TapPattern, divisible_conv
from depthwise.compiler.lowering.packing import round_up
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.summation import step_channels
from depthwise.graph import ops
from depthwise.graph.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType

WIDE = 32  # outputs that lie side by side: two tiles
TILE = 16  # pixels, or outputs, of a tile
SUMS = 8  # vectors of outputs that f16_linear computes at once


def lower_tiles(work: ConvOperands, walk: TapPattern, b: LoweringBuilder) -> None:
    """Append the call of tile_conv for one list of taps; see the kernel."""
    if walk.some:  # an area of the output, whose weights are packed for themselves
        weight = walk.some.of(work.weight)[:, :, : len(walk.taps) // walk.some.run]
        work = replace(work, weight=weight)
    if b.joins_taps():
        work, walk = join_taps(work, walk)
    (outs, channels), element = work.weight.shape[:2], b.element(work.x)
    w = b.weights(pack_tiles(work.weight, step_channels(channels, element)), element)
    bias = b.weights(np.pad(work.bias, (0, round_up(outs, WIDE) - outs)))
    block = w.shape[0] // ceil(outs / WIDE)  # weights of the outputs that lie side by side

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from output channel `first` on."""
        part, (row, pixel) = part.collapsed(walk)
        images, rows, width = part.runs(pixel)
        outs = part.y.shape[1]
        pitch = find_pitch(rows, width, row, pixel)
        read = images * rows * width * channels
        return b.step(
            f"{element.short}_tile_conv", f"tiles, {pitch} apart" if pitch else "tiles",
            images=images, rows=rows, width=width, taps=len(walk.taps), channels=channels,
            outs=outs, pitch=pitch, weights_outer=int(read < outs * channels * len(walk.taps)),
            in_image=part.x.image, in_row=row, in_pixel=pixel,
            **pixel_strides(out=part.y, sum=part.residual), epilogue=part.epilogue,
            offsets=Table(walk.taps), in_=part.x,
            w=TensorView(w.buffer, w.offset + first // WIDE * block, w.shape, w.strides),
            bias=TensorView(bias.buffer, bias.offset + first, bias.shape, bias.strides),
            sum=part.residual, out=part.y,
        )  # fmt: skip

    b.append(divisible_conv(step, walk, work, WIDE, nested=True))


def join_taps(work: ConvOperands, walk: TapPattern) -> tuple[ConvOperands, TapPattern]:
    """Return the same work with a tap for each row of them: pixels lie side by side."""
    outs, channels, R, S = work.weight.shape
    assert work.x.pixel == channels, f"{work.x} has pixels apart"
    rows = work.weight.transpose(0, 3, 1, 2).reshape(outs, S * channels, R, 1)
    return replace(work, weight=rows), replace(walk, taps=walk.taps[::S])


def find_pitch(rows: int, width: int, row: int, pixel: int) -> int:
    """Return how many pixels apart rows begin where tiles better pass over their ends, else 0."""
    if rows == 1 or row % pixel or row < width * pixel:
        return 0
    pitch = row // pixel
    over = ceil(((rows - 1) * pitch + width) / TILE)
    return pitch if over < rows * ceil(width / TILE) else 0


def pack_tiles(weight: np.ndarray, depth: int) -> np.ndarray:
    """Return (K, C, R, S) flat: [k / 32][tap][step][k / 16 % 2][c / 2][k % 16][c % 2].

    A step has `depth` channels; the last one begins as many before their end and has zeros for
    those that came before.
    """
    outs, channels, *window = weight.shape
    taps = int(np.prod(window))
    by_tap = weight.reshape(outs, channels, taps)
    steps = []
    for first in range(0, channels, depth):
        start = min(first, channels - depth)
        part = by_tap[:, start : start + depth].copy()
        part[:, : first - start] = 0
        steps.append(part)
    packed = np.zeros((round_up(outs, WIDE), len(steps), depth, taps), np.float32)
    packed[:outs] = np.stack(steps, 1)
    tiles = packed.reshape(-1, 2, TILE, len(steps), depth // 2, 2, taps)
    return tiles.transpose(0, 6, 3, 1, 4, 2, 5).ravel()


def lower_pairs(op: ops.Conv2d, work: ConvOperands, walk: TapPattern, b: LoweringBuilder) -> None:
    """Append the call of pair_depthwise; see the kernel."""
    x, wide, element = work.x, 2 * b.target.lanes, b.element(work.x)
    weight, pack = element.round(work.weight), pack_pairs if element == BFLOAT16 else pack_row
    w = b.weights(pack(weight, wide), tap_type(element))
    bias = b.weights(pack(work.bias, wide))
    corner = op.padding.top * x.row + op.padding.left * x.pixel
    R, S = weight.shape[2:]

    def step(part: ConvOperands, first: int) -> KernelCall:
        """Return the call from channel `first` on."""
        images, channels, rows, width = part.y.shape
        shape = (images, channels, *x.shape[2:])
        return b.step(
            f"{element.short}_pair_depthwise", images=images, rows=rows, width=width,
            channels=channels, R=R, S=S, stride_y=op.stride[0], stride_x=op.stride[1],
            dilation_y=op.dilation[0], dilation_x=op.dilation[1],
            **pixel_strides(in_=x, out=part.y, sum=part.residual),
            w_tap=round_up(len(weight), wide), epilogue=part.epilogue,
            in_=TensorView(x.buffer, part.x.offset - corner + first, shape, x.strides),
            w=TensorView(w.buffer, w.offset + first, w.shape, w.strides),
            bias=TensorView(bias.buffer, bias.offset + first, bias.shape, bias.strides),
            sum=part.residual, out=part.y,
        )  # fmt: skip

    b.append(divisible_conv(step, walk, work, wide))


def pack_pairs(values: np.ndarray, wide: int) -> np.ndarray:
    """Return (C, 1, R, S) or (C) flat: [tap][c], of each `wide` channels the even ones first."""
    channels = len(values)
    taps = values.reshape(channels, -1).T
    padded = np.zeros((len(taps), round_up(channels, wide)), np.float32)
    padded[:, :channels] = taps
    pairs = padded.reshape(len(taps), -1, wide // 2, 2)
    return pairs.transpose(0, 1, 3, 2).ravel()


def pack_row(values: np.ndarray, wide: int) -> np.ndarray:
    """Return (C, 1, R, S) or (C) flat: [tap][c], zeros up to a multiple of `wide`."""
    taps = values.reshape(len(values), -1).T
    return np.pad(taps, ((0, 0), (0, round_up(len(values), wide) - len(values)))).ravel()


def tap_type(element: DType) -> DType:
    """Return what pair_depthwise has its weights in: a bfloat16 is a float at no cost."""
    return FLOAT32 if element == BFLOAT16 else element


def lower_stored(work: ConvOperands, walk: TapPattern, b: LoweringBuilder) -> None:
    """Append the call of f16_linear, of floats by weights in float16; see the kernel."""
    (outs, channels), lanes = work.weight.shape[:2], b.target.lanes
    w = b.weights(pack_stored(work.weight.reshape(outs, channels), lanes), FLOAT16)
    bias = b.weights(np.pad(work.bias, (0, round_up(outs, lanes) - outs)))

    def step(part: ConvOperands, first: int = 0) -> KernelCall:
        """Return the call from output channel `first` on."""
        images, outs, rows, width = part.y.shape
        return b.step(
            "f16_linear", images=images, rows=rows, width=width, channels=channels, outs=outs,
            in_image=part.x.image, in_row=walk.row, in_pixel=walk.pixel,
            **pixel_strides(out=part.y, sum=part.residual), epilogue=part.epilogue, in_=part.x,
            w=replace(w, offset=w.offset + first * channels),
            bias=replace(bias, offset=bias.offset + first), sum=part.residual, out=part.y,
        )  # fmt: skip

    def some(start: int, count: int) -> KernelCall:
        return step(work.outputs(1, start, count), start)

    b.append(step(work).divided(Split("channels", outs, some, SUMS * lanes)))


def pack_stored(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return (K, C) flat: [k / block][c][k % block], a block being SUMS vectors of `lanes`.

    The last one is as wide as the vectors that hold its outputs.
    """
    outs = len(weight)
    padded = np.pad(weight, ((0, round_up(outs, lanes) - outs), (0, 0)))
    blocks = (padded[k : k + SUMS * lanes] for k in range(0, len(padded), SUMS * lanes))
    return np.concatenate([block.T.ravel() for block in blocks])
