"""Pooling: windows of pixels, channels last. Windows are cut at the edges: no border is read.

The mean of a whole plane starts from the totals of its rows where the step before left them.
"""

from math import prod

from depthwise.compiler.fused_ops import takes_plane_mean
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, divisible, pixel_strides
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.views import TensorView, reshaped
from depthwise.graph import Node, Shape, ops

POOL = ("mean", "max")  # numbered as in kernels/pool.h


def planes(view: TensorView) -> TensorView:
    """Return a view as images (N, C, H, W); of another rank as single planes (N, 1, H, W)."""
    if len(view.shape) == 4:
        return view
    images = reshaped(view, (prod(view.shape[:-2]), 1, *view.shape[-2:]))
    assert images is not None, f"{view} is not packed"
    return images


def sizes(x: TensorView, y: TensorView) -> dict[str, int]:
    """Return images, channels, heights and widths, and the strides of the input and the output."""
    names = ("images", "channels", "height", "width", "out_height", "out_width")
    shapes = dict(zip(names, (*x.shape, *y.shape[2:]), strict=True))
    return shapes | pixel_strides(in_=x, out=y)


def window(kernel: Shape, stride: ops.Pair) -> dict[str, int]:
    """Return how a window is made, and how it moves."""
    return {
        "kernel_y": kernel[0], "kernel_x": kernel[1], "stride_y": stride[0], "stride_x": stride[1]
    }  # fmt: skip


@lower.register
def _(op: ops.MaxPool2d, node: Node, b: LoweringBuilder) -> None:
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))
    kernel = f"{b.element(x).short}_max_pool"

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            kernel, **sizes(x, y), **window(op.kernel, op.stride), top=op.padding.top,
            left=op.padding.left, dilation_y=op.dilation[0], dilation_x=op.dilation[1],
            in_=x, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, grain=b.target.lanes))


@lower.register
def _(op: ops.AvgPool2d, node: Node, b: LoweringBuilder) -> None:
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))
    kernel = f"{b.element(x).short}_avg_pool"

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            kernel, **sizes(x, y), **window(op.kernel, op.stride), **op.padding._asdict(),
            count_padding=int(op.count_padding), divisor=op.divisor or 0, in_=x, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, grain=b.target.lanes))


@lower.register
def _(op: ops.AdaptivePool2d, node: Node, b: LoweringBuilder) -> None:
    if takes_plane_mean(node):
        lower_plane_mean(node, b)
        return
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))

    def part(x: TensorView, y: TensorView) -> KernelCall:
        function = POOL.index(op.function)
        return b.step("f32_adaptive_pool", function=function, **sizes(x, y), in_=x, out=y)

    b.append(divisible(part, x, y, grain=b.target.lanes))


def lower_plane_mean(node: Node, b: LoweringBuilder) -> None:
    """Append one call: the mean of each plane, from its rows' totals if they are there."""
    value = node.inputs[0]
    read, y = planes(b.read(value)), planes(b.write(node))
    height, width = read.shape[2:]
    x = b.row_totals.get(value, read)
    whole, kernel = window(x.shape[2:], (1, 1)), f"{b.element(x).short}_avg_pool"

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            kernel, **sizes(x, y), **whole, **ops.NO_PADDING._asdict(), count_padding=0,
            divisor=height * width, in_=x, out=y,
        )  # fmt: skip

    b.append(divisible(part, x, y, grain=b.target.lanes))
