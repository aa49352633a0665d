"""Where element types change: at the inputs and the outputs, and between layers."""

from depthwise.compiler.fused_ops import CastPairs
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, divisible
from depthwise.compiler.lowering.lower import COMPUTED, lower
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node, ops


@lower.register
def _(op: ops.Cast, node: Node, b: LoweringBuilder) -> None:
    """Convert what is computed with; what becomes an output is converted as it is written."""
    x = b.read(node.inputs[0])
    if op.dtype in COMPUTED:
        b.copy(x, b.write(node))
    else:
        b.alias(node, x)


@lower.register
def _(op: CastPairs, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    def part(x: TensorView, y: TensorView) -> KernelCall:
        images, channels, rows, width = x.shape
        image, channel, row, pixel = x.strides
        kernel = f"{node.type.element.short}_pairs_from_floats"
        return b.step(
            kernel, images=images, channels=channels, rows=rows, width=width,
            x_image=image, x_channel=channel, x_row=row, x_pixel=pixel, y_image=y.image,
            y_row=y.row, y_pixel=y.pixel, x=x, y=y,
        )  # fmt: skip

    b.append(divisible(part, b.read(node.inputs[0]), b.write(node), rows=True))
