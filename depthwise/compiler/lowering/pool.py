"""Pooling: windows of pixels, channels last. Windows are cut at the edges: no border is read.

The mean of a whole plane starts from the totals of its rows where the step before left them.
"""

from math import prod

from depthwise.compiler.fused_ops import takes_plane_mean
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.views import KernelCall, TensorView, by_channels, reshaped
from depthwise.compiler.schedule.borders import NO_BORDER
from depthwise.graph import Node, ops

POOL = ("mean", "max")  # numbered as in kernels/pool.h


def planes(place: TensorView) -> TensorView:
    """Return a place as images (N, C, H, W); of another rank as single planes (N, 1, H, W)."""
    if len(place.shape) == 4:
        return place
    images = reshaped(place, (prod(place.shape[:-2]), 1, *place.shape[-2:]))
    assert images is not None, f"{place} is not packed"
    return images


def sizes(x: TensorView, y: TensorView) -> tuple[int, ...]:
    """Return images, channels, input and output height and width."""
    return (*x.shape, *y.shape[2:])


def strides(x: TensorView, y: TensorView) -> tuple[int, ...]:
    """Return floats between images, rows and pixels, of the input and of the output."""
    return (x.image, x.row, x.pixel, y.image, y.row, y.pixel)


@lower.register
def _(op: ops.MaxPool2d, node: Node, b: LoweringBuilder) -> None:
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))
    corner = (op.padding.top, op.padding.left)

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "f32_max_pool", *sizes(x, y), *op.kernel, *op.stride, *corner, *op.dilation,
            *strides(x, y), x, y,
        )  # fmt: skip

    b.append(part(x, y), by_channels(part, b.target.lanes, x, y))


@lower.register
def _(op: ops.AvgPool2d, node: Node, b: LoweringBuilder) -> None:
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "f32_avg_pool", *sizes(x, y), *op.kernel, *op.stride, *op.padding,
            int(op.count_padding), op.divisor or 0, *strides(x, y), x, y,
        )  # fmt: skip

    b.append(part(x, y), by_channels(part, b.target.lanes, x, y))


@lower.register
def _(op: ops.AdaptivePool2d, node: Node, b: LoweringBuilder) -> None:
    if takes_plane_mean(node):
        lower_plane_mean(node, b)
        return
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))

    def part(x: TensorView, y: TensorView) -> KernelCall:
        function = POOL.index(op.function)
        return b.step("f32_adaptive_pool", function, *sizes(x, y), *strides(x, y), x, y)

    b.append(part(x, y), by_channels(part, b.target.lanes, x, y))


def lower_plane_mean(node: Node, b: LoweringBuilder) -> None:
    """Append one call: the mean of each plane, from its rows' totals if they are there."""
    value = node.inputs[0]
    read, y = planes(b.read(value)), planes(b.write(node))
    height, width = read.shape[2:]
    x = b.row_totals.get(value, read)
    window, pixels = x.shape[2:], height * width

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "f32_avg_pool", *sizes(x, y), *window, 1, 1, *NO_BORDER, 0, pixels, *strides(x, y), x, y
        )

    b.append(part(x, y), by_channels(part, b.target.lanes, x, y))
