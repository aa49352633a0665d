"""Raw images: to floats, channels last, with a border for the first convolution."""

from dataclasses import replace

import numpy as np

from depthwise.compiler.fused_ops import Images
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import pixel_strides
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.movement import show_or_copy
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph import Node


@lower.register
def _(op: Images, node: Node, b: LoweringBuilder) -> None:
    x = b.read(node.inputs[0])
    if op.layout == "nhwc":
        n, h, w, c = x.shape
        x = replace(x, shape=(n, c, h, w), strides=(x.strides[0], x.strides[3], *x.strides[1:3]))
    bytes_ = b.buffers[x.buffer].dtype == "uint8"
    if not bytes_ and not any(op.padding):
        show_or_copy(node, x, b)
        return
    y = b.write(node)
    top, _, left, _ = op.padding
    middle = y.part(2, top, x.shape[2]).part(3, left, x.shape[3])
    if any(op.padding):
        _fill_border(op, y, b)
    if bytes_:
        images, channels, rows, width = x.shape
        b.call(
            "u8_to_f32", images=images, channels=channels, rows=rows, width=width,
            x_channel=x.strides[1], **pixel_strides(x=x, y=y), x=x, y=middle,
        )  # fmt: skip
    else:
        b.copy(x, middle)


def _fill_border(op: Images, y: TensorView, b: LoweringBuilder) -> None:
    """Repeat one pixel over the four sides of the images, corners with those above and below."""
    pixel = b.weights(np.array(op.border))
    top, bottom, left, right = op.padding
    height, width = y.shape[2:]
    between = y.part(2, top, height - top - bottom)
    sides = (
        y.part(2, 0, top),
        y.part(2, height - bottom, bottom),
        between.part(3, 0, left),
        between.part(3, width - right, right),
    )
    for side in sides:
        if all(side.shape):
            b.copy(replace(pixel, shape=side.shape, strides=(0, 1, 0, 0)), side)
