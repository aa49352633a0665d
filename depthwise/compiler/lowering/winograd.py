"""Convolutions by Winograd: the call of f32_winograd for what conv.py would do tap by tap."""

from dataclasses import replace
from math import prod

from depthwise.compiler.lowering.algorithms import ConvWorkload, Winograd
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Split, pixel_strides
from depthwise.compiler.lowering.operands import ConvOperands, TapPattern
from depthwise.compiler.lowering.packing import pack_bias
from depthwise.compiler.lowering.winograd_weights import pack_winograd, scratch_floats


def lower_winograd(
    work: ConvOperands, walk: TapPattern, layer: ConvWorkload, b: LoweringBuilder
) -> None:
    """Append the call, by rows of tiles or by channels; each part has its own scratch."""
    chosen = b.algorithm(layer)
    assert isinstance(chosen, Winograd)
    lanes, points = b.target.lanes, chosen.points
    channels, *taps = work.weight.shape[1:]
    panel = b.target.panel
    laid = (panel, 1) if panel else (lanes, chosen.vectors)
    w = b.weights(pack_winograd(work.weight, points, *laid))
    bias = b.weights(pack_bias(work.bias, 1, laid[0]))
    floats = scratch_floats(points, channels, lanes, chosen.vectors, chosen.batch)
    scratch = b.temporary((floats,))

    def step(part: ConvOperands, first: int = 0) -> KernelCall:
        """Return the call from output channel `first` on."""
        images, outs, rows, width = part.y.shape
        corner = replace(part.x, offset=part.x.offset + walk.taps[0])
        return b.step(
            "f32_winograd", str(chosen), layer, images=images, rows=rows, width=width,
            channels=channels, outs=outs, points_y=points[0], points_x=points[1], taps_y=taps[0],
            taps_x=taps[1], tile_pixels=chosen.pixels, tile_vectors=chosen.vectors, panel=panel,
            batch=chosen.batch, **pixel_strides(in_=corner, out=part.y, sum=part.residual),
            epilogue=part.epilogue, in_=corner,
            w=replace(w, offset=w.offset + first * channels * prod(points)),
            bias=replace(bias, offset=bias.offset + first), sum=part.residual,
            scratch=scratch, out=part.y,
        )  # fmt: skip

    grain = points[0] - taps[0] + 1

    def divisible(walk: TapPattern, work: ConvOperands) -> KernelCall:
        """Return the call with the ways to do it in parts."""
        _, outs, rows, _ = work.y.shape

        def channels(start: int, count: int) -> KernelCall:
            some = work.outputs(1, start, count)
            return step(some, start).divided(
                Split(
                    "rows",
                    rows,
                    lambda y, height: step(some.rows(y, height, walk.row), start),
                    grain,
                )
            )

        return step(work).divided(
            walk.by_images(work, divisible),
            Split("rows", rows, lambda y, height: step(work.rows(y, height, walk.row)), grain),
            Split("channels", outs, channels, grain=max(chosen.vectors * lanes, panel)),
        )

    b.append(divisible(walk, work))
