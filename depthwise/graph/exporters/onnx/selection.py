"""Places of extremes, sorting, running totals and unpooling in ONNX."""

import numpy as np

from depthwise.errors import Unsupported
from depthwise.graph import ops
from depthwise.graph.exporters.onnx.layers import allowed, covering, sides
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.writer import NodeWriter


@write.register
def _(op: ops.ArgReduce, node, x):
    operator = {"max": "ArgMax", "min": "ArgMin"}[op.function]
    return node.add(operator, x, axis=op.axis, keepdims=int(op.keep))


@write.register
def _(op: ops.TopK, node, x):
    number = ("values", "indices").index(op.result)
    count = node.constant([op.count], "count")
    results = node.add_several("TopK", 2, x, count, axis=op.axis, largest=int(op.largest))
    return results[number]


COMBINE = {"product": ("Mul", 1), "max": ("Max", -np.inf), "min": ("Min", np.inf)}


@write.register
def _(op: ops.Cumulate, node, x):
    """Write CumSum; ONNX has no other: each element meets that 1, 2, 4, ... before it."""
    if op.function == "sum":
        return node.add("CumSum", x, node.constant(op.axis, "axis"))
    shape, element = node.shape(x), node.type.element
    combine, neutral = COMBINE[op.function]
    if element.is_integer and op.function != "product":
        limits = np.iinfo(element.storage)
        neutral = limits.min if op.function == "max" else limits.max
    value = node.constant(neutral, "neutral", element.name)
    back = 1
    while back < shape[op.axis]:
        before = [0] * 2 * len(shape)
        before[op.axis] = back
        front = node.slice(x, op.axis, 0, shape[op.axis] - back)
        x = node.add(combine, x, node.add("Pad", front, node.constant(before, "pads"), value))
        back *= 2
    return x


@write.register
def _(op: ops.TakeAlong, node, x, indices):
    return node.add("GatherElements", x, indices, axis=op.axis)


def first_places(node: NodeWriter, images: int, channels: int, pixels: int) -> str:
    """Add where each plane begins: ONNX counts places through the whole tensor."""
    starts = np.arange(images * channels).reshape(images, channels, 1, 1) * pixels
    return node.constant(starts, "starts")


@write.register
def _(op: ops.MaxPoolIndices, node, x):
    images, channels, height, width = node.shape(x)
    padding = covering((height, width), op, op.dilation)
    if not allowed(padding, op.kernel):
        raise Unsupported(
            "MaxPoolIndices of windows that hang over by more than themselves has no form in ONNX: "
            "pool without ceil_mode"
        )
    _, places = node.add_several(
        "MaxPool", 2, x, kernel_shape=op.kernel, strides=op.stride, pads=sides(padding),
        dilations=op.dilation,
    )  # fmt: skip
    return node.add("Sub", places, first_places(node, images, channels, height * width))


@write.register
def _(op: ops.MaxUnpool2d, node, x, indices):
    """Write windows with which the output has its size; where they lie follows from the places."""
    images, channels, height, width = node.shape(x)
    kernel = [size - n + 1 for size, n in zip(op.size, (height, width), strict=True)]
    if min(kernel) < 1:
        raise Unsupported(
            f"MaxUnpool2d of {(height, width)} pixels to {op.size} has no form in ONNX: it makes "
            "planes larger"
        )
    starts = first_places(node, images, channels, op.size[0] * op.size[1])
    places = node.add("Add", indices, starts)
    return node.add("MaxUnpool", x, places, kernel_shape=kernel, strides=[1, 1])
