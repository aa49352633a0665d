"""Convolutions by Winograd: the call of f32_winograd for what conv.py would do tap by tap."""

from dataclasses import replace
from math import prod

from depthwise.compiler.lowering.algorithms import ConvWorkload, Winograd
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.operands import ConvOperands, TapPattern
from depthwise.compiler.lowering.packing import pack_bias
from depthwise.compiler.lowering.views import KernelCall, Split
from depthwise.compiler.lowering.winograd_weights import pack_winograd, scratch_floats


def lower_winograd(
    work: ConvOperands, walk: TapPattern, layer: ConvWorkload, b: LoweringBuilder
) -> None:
    """Append the call, by rows of tiles or by channels; each part has its own scratch."""
    chosen = b.algorithm(layer)
    assert isinstance(chosen, Winograd)
    lanes, points = b.target.lanes, chosen.points
    channels, *taps = work.weight.shape[1:]
    w = b.weights(pack_winograd(work.weight, points, lanes, chosen.vectors))
    bias = b.weights(pack_bias(work.bias, 1, lanes))
    scratch = b.scratch(scratch_floats(points, channels, lanes, chosen.vectors, chosen.batch))

    def step(part: ConvOperands, first: int = 0) -> KernelCall:
        """Return the call from output channel `first` on."""
        images, outs, rows, width = part.y.shape
        corner = replace(part.x, offset=part.x.offset + walk.taps[0])
        return b.step(
            "f32_winograd", images, rows, width, channels, outs, *points, *taps, chosen.pixels,
            chosen.vectors, chosen.batch, corner.image, corner.row, corner.pixel, part.y.image,
            part.y.row, part.y.pixel, *part.sum_strides, part.epilogue, corner,
            replace(w, offset=w.offset + first * channels * prod(points)),
            replace(bias, offset=bias.offset + first), part.residual, scratch, part.y,
            comment=str(chosen), layer=layer,
        )  # fmt: skip

    _, outs, rows, _ = work.y.shape
    b.append(
        step(work),
        Split("rows", rows, lambda start, count: step(work.rows(start, count, walk.row)),
              grain=points[0] - taps[0] + 1),
        Split("channels", outs, lambda start, count: step(work.outputs(1, start, count), start),
              grain=chosen.vectors * lanes),
    )  # fmt: skip
