"""Pooling of ONNX, of images and of sequences."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.planes import as_given, as_images, padding_of, pair, reach
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.infer import pooled
from depthwise.graph.ops import Padding, Pair


@rule("MaxPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", storage_order=0,
):  # fmt: skip
    refuse(n.wants(1), "its second output, the places of the maxima, is read")
    del storage_order  # is of these places
    x, kernel, stride, dilation = as_images(n, n[0]), *map(pair, (kernel_shape, strides, dilations))
    padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
    y = n.emit(ops.MaxPool2d(kernel, stride, padding, dilation, bool(ceil_mode)), x)
    return as_given(n, y, n[0])


@rule("AveragePool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", count_include_pad=0,
):  # fmt: skip
    x, kernel, stride, dilation = as_images(n, n[0]), *map(pair, (kernel_shape, strides, dilations))
    padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
    op = ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), bool(count_include_pad), None)
    y = n.emit(op, x) if dilation == (1, 1) else dilated_mean(n, op, dilation, x)
    return as_given(n, y, n[0])


def dilated_mean(n: Operands, op: ops.AvgPool2d, dilation: Pair, x: Value) -> Value:
    """Return means of pixels that are apart: sums by a convolution with ones, over their counts."""
    kernel, channels, span = op.kernel, x.shape[1], reach(op.kernel, dilation)
    top, left = op.padding.top, op.padding.left
    height, width = pooled((x.shape[2], x.shape[3]), span, op.stride, op.padding, op.ceil)
    needed = [(height - 1) * op.stride[0] + span[0], (width - 1) * op.stride[1] + span[1]]
    padding = Padding(top, max(needed[0] - x.shape[2] - top, 0),
                      left, max(needed[1] - x.shape[3] - left, 0))  # fmt: skip
    ones = n.constant(np.ones((channels, 1, *kernel), np.float32))
    total = n.emit(ops.Conv2d(op.stride, padding, dilation, channels), x, ones)
    return n.binary("divide", total, n.constant(_counts(x, op, dilation, padding)))


def _counts(x: Value, op: ops.AvgPool2d, dilation: Pair, padding: Padding) -> np.ndarray:
    """Return (1, 1, H', W'): how many pixels of x, or of x and its padding, each window holds."""
    axes = []
    ends = ((op.padding.top, op.padding.bottom), (op.padding.left, op.padding.right))
    spread = ((padding.top, padding.bottom), (padding.left, padding.right))
    for axis, (length, own, around) in enumerate(zip(x.shape[2:], ends, spread, strict=True)):
        inside = np.pad(np.ones(length), own, constant_values=float(op.count_padding))
        inside = np.pad(inside, (0, max(around[1] - own[1], 0)))
        last = len(inside) - (op.kernel[axis] - 1) * dilation[axis]
        axes.append(sum(inside[k * dilation[axis] : k * dilation[axis] + last]
                        for k in range(op.kernel[axis]))[:: op.stride[axis]])  # fmt: skip
    return np.outer(*axes).astype(np.float32)[None, None]


@rule("LpPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", p=2,
):  # fmt: skip
    """The p-th root of the sum of the p-th powers."""
    x, kernel, stride, dilation = as_images(n, n[0]), *map(pair, (kernel_shape, strides, dilations))
    refuse(dilation != (1, 1), "it pools pixels that are apart")
    padding = padding_of(x, kernel, stride, pads, auto_pad)
    powers = n.unary("power", n.unary("abs", x), p)
    total = n.emit(ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), True, 1), powers)
    return as_given(n, n.unary("power", total, 1 / p), n[0])


@rule("GlobalAveragePool", "GlobalMaxPool")
def _(n: Operands):
    x, function = n[0], "mean" if n.node.op_type == "GlobalAveragePool" else "max"
    if x.rank == 4:
        return n.emit(ops.AdaptivePool2d(function, (1, 1)), x)
    return n.emit(ops.Reduce(function, tuple(range(2, x.rank)), True), x)


@rule("GlobalLpPool")
def _(n: Operands, *, p=2):
    powers = n.unary("power", n.unary("abs", n[0]), p)
    total = n.emit(ops.Reduce("sum", tuple(range(2, n[0].rank)), True), powers)
    return n.unary("power", total, 1 / p)
