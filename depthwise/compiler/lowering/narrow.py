"""Convolutions of bfloat16: the calls of bf16_tile_conv and bf16_pair_depthwise."""

from dataclasses import replace
from math import ceil

import numpy as np

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Split, Table, pixel_strides
from depthwise.compiler.lowering.operands import ConvOperands, TapPattern
from depthwise.compiler.lowering.packing import round_up
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.summation import STEP
from depthwise.graph import ops
from depthwise.graph.dtypes import BFLOAT16

WIDE = 32  # outputs that lie side by side: two tiles
TILE = 16  # pixels, or outputs, of a tile


def lower_tiles(work: ConvOperands, walk: TapPattern, b: LoweringBuilder) -> None:
    """Append the call of bf16_tile_conv for one list of taps; see the kernel."""
    if walk.some:  # an area of the output, whose weights are packed for themselves
        weight = walk.some.of(work.weight)[:, :, : len(walk.taps) // walk.some.run]
        work = replace(work, weight=weight)
    if b.joins_taps():
        work, walk = join_taps(work, walk)
    outs, channels = work.weight.shape[:2]
    w = b.weights(pack_tiles(work.weight), BFLOAT16)
    bias = b.weights(np.pad(work.bias, (0, round_up(outs, WIDE) - outs)))
    block = w.shape[0] // ceil(outs / WIDE)  # weights of the outputs that lie side by side

    def step(part: ConvOperands, outs: int, first: int = 0) -> KernelCall:
        """Return the call from output channel `first` on."""
        part, (row, pixel) = part.collapsed(walk)
        images, rows, width = part.runs(pixel)
        pitch = find_pitch(rows, width, row, pixel)
        read = images * rows * width * channels
        return b.step(
            "bf16_tile_conv", f"tiles, {pitch} apart" if pitch else "tiles",
            images=images, rows=rows, width=width, taps=len(walk.taps), channels=channels,
            outs=outs, pitch=pitch, weights_outer=int(read < outs * channels * len(walk.taps)),
            in_image=part.x.image, in_row=row, in_pixel=pixel,
            **pixel_strides(out=part.y, sum=part.residual), epilogue=part.epilogue,
            offsets=Table(walk.taps), in_=part.x,
            w=TensorView(w.buffer, w.offset + first // WIDE * block, w.shape, w.strides),
            bias=TensorView(bias.buffer, bias.offset + first, bias.shape, bias.strides),
            sum=part.residual, out=part.y,
        )  # fmt: skip

    def divisible(walk: TapPattern, work: ConvOperands) -> KernelCall:
        """Return the call with the ways to do it in parts."""

        def some(start: int, count: int) -> KernelCall:
            part = work.outputs(1, start, count)
            return step(part, count, start).divided(
                walk.split(part, lambda rows: step(rows, count, start))
            )

        return step(work, outs).divided(
            walk.by_images(work, divisible),
            walk.split(work, lambda part: step(part, outs)),
            Split("channels", outs, some, WIDE),
        )

    b.append(divisible(walk, work))


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


def pack_tiles(weight: np.ndarray) -> np.ndarray:
    """Return (K, C, R, S) flat: [k / 32][tap][step][k / 16 % 2][c / 2][k % 16][c % 2].

    A step has 32 channels, or all where there are fewer; the last one begins 32 before their end
    and has zeros for those that came before.
    """
    outs, channels, *window = weight.shape
    depth, taps = min(channels, STEP), int(np.prod(window))
    by_tap = weight.reshape(outs, channels, taps)
    steps = []
    for first in range(0, channels, STEP):
        start = max(0, min(first, channels - STEP))
        part = by_tap[:, start : start + depth].copy()
        part[:, : first - start] = 0
        steps.append(part)
    packed = np.zeros((round_up(outs, WIDE), len(steps), depth, taps), np.float32)
    packed[:outs] = np.stack(steps, 1)
    tiles = packed.reshape(-1, 2, TILE, len(steps), depth // 2, 2, taps)
    return tiles.transpose(0, 6, 3, 1, 4, 2, 5).ravel()


def lower_pairs(op: ops.Conv2d, work: ConvOperands, walk: TapPattern, b: LoweringBuilder) -> None:
    """Append the call of bf16_pair_depthwise; see the kernel."""
    x, wide = work.x, 2 * b.target.lanes
    weight = BFLOAT16.round(work.weight)
    w, bias = b.weights(pack_pairs(weight, wide)), b.weights(pack_pairs(work.bias, wide))
    corner = op.padding.top * x.row + op.padding.left * x.pixel
    R, S = weight.shape[2:]

    def step(part: ConvOperands, first: int = 0) -> KernelCall:
        """Return the call from channel `first` on."""
        images, channels, rows, width = part.y.shape
        shape = (images, channels, *x.shape[2:])
        return b.step(
            "bf16_pair_depthwise", images=images, rows=rows, width=width, channels=channels, R=R,
            S=S, stride_y=op.stride[0], stride_x=op.stride[1], dilation_y=op.dilation[0],
            dilation_x=op.dilation[1], **pixel_strides(in_=x, out=part.y, sum=part.residual),
            w_tap=round_up(len(weight), wide), epilogue=part.epilogue,
            in_=TensorView(x.buffer, part.x.offset - corner + first, shape, x.strides),
            w=TensorView(w.buffer, w.offset + first, w.shape, w.strides),
            bias=TensorView(bias.buffer, bias.offset + first, bias.shape, bias.strides),
            sum=part.residual, out=part.y,
        )  # fmt: skip

    def divisible(walk: TapPattern, work: ConvOperands) -> KernelCall:
        """Return the call with the ways to do it in parts."""
        return step(work).divided(
            walk.by_images(work, divisible), walk.split(work, step),
            Split("channels", x.shape[1], lambda s, n: step(work.outputs(1, s, n), s), grain=wide),
        )  # fmt: skip

    b.append(divisible(walk, work))


def pack_pairs(values: np.ndarray, wide: int) -> np.ndarray:
    """Return (C, 1, R, S) or (C) flat: [tap][c], of each `wide` channels the even ones first."""
    channels = len(values)
    taps = values.reshape(channels, -1).T
    padded = np.zeros((len(taps), round_up(channels, wide)), np.float32)
    padded[:, :channels] = taps
    pairs = padded.reshape(len(taps), -1, wide // 2, 2)
    return pairs.transpose(0, 1, 3, 2).ravel()
