"""One axis in another size, and images sampled at computed places."""

from dataclasses import replace
from itertools import accumulate
from typing import get_args, get_type_hints

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Split, Table, by_rows, pixel_strides
from depthwise.compiler.lowering.loops import loops_of, merged, ordered, run_loops
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, ops

# numbered as in kernels/grid.h
MODES = get_args(get_type_hints(ops.GridSample)["mode"])
OUTSIDE = get_args(get_type_hints(ops.GridSample)["outside"])


@lower.register
def _(op: ops.Resample, node: Node, b: LoweringBuilder) -> None:
    x, weights, y = b.read(node.inputs[0]), b.read(node.inputs[1]), b.write(node)
    starts = (0, *accumulate(op.counts))

    def part(x: TensorView, y: TensorView, start: int = 0) -> KernelCall:
        """Return the call for the places of y, which are those from `start` on."""
        places = slice(start, start + y.shape[op.axis])
        others = [axis for axis in range(len(y.shape)) if axis != op.axis]
        axes = loops_of(*(tuple(values[axis] for axis in others)
                          for values in (y.shape, x.strides, y.strides)))  # fmt: skip
        return b.step(
            "f32_resample", **run_loops(merged(ordered(axes, operand=1)), "x", "y"),
            size=y.shape[op.axis], x_step=x.strides[op.axis], y_step=y.strides[op.axis],
            first=Table(op.first[places]), counts=Table(op.counts[places]), x=x,
            weights=replace(weights, offset=weights.offset + starts[start]), y=y,
        )  # fmt: skip

    if (len(y.shape), op.axis) == (4, 2):
        rows = y.shape[2]
        split = Split("rows", rows, lambda start, count: part(x, y.part(2, start, count), start))
        b.append(part(x, y), split if rows > 1 else None)
    else:
        b.append(part(x, y), by_rows(part, x, y))


@lower.register
def _(op: ops.GridSample, node: Node, b: LoweringBuilder) -> None:
    x, grid = (b.read(name) for name in node.inputs)
    y = b.write(node)
    images, channels, rows, width = y.shape
    grid_image, grid_row, grid_pixel, grid_axis = grid.strides

    def part(start: int, count: int) -> KernelCall:
        """Return the call for rows of the output; the grid may point anywhere in x."""
        own = y.part(2, start, count)
        return b.step(
            "f32_grid_sample", mode=MODES.index(op.mode), outside=OUTSIDE.index(op.outside),
            align_corners=int(op.align_corners), images=images, channels=channels,
            out_height=count, out_width=width, in_rows=x.shape[2], in_width=x.shape[3],
            **pixel_strides(in_=x, out=own), grid_image=grid_image, grid_row=grid_row,
            grid_pixel=grid_pixel, grid_axis=grid_axis, in_=x, grid=grid.part(1, start, count),
            out=own,
        )  # fmt: skip

    b.append(part(0, rows), Split("rows", rows, part) if rows > 1 else None)
