"""Pooling of ONNX, of images and of sequences."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.planes import (
    as_given,
    as_images,
    padding_of,
    pair,
    reach,
)
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.onnx.selection import first_places
from depthwise.graph.infer import pooled
from depthwise.graph.ops import Padding, Pair


@rule("MaxPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", storage_order=0,
):  # fmt: skip
    refuse(
        n.wants(1) and storage_order, "its places of maxima count columns first (storage_order=1)"
    )
    x, kernel, stride, dilation = as_images(n, n[0]), *map(pair, (kernel_shape, strides, dilations))
    padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
    window = (kernel, stride, padding, dilation, bool(ceil_mode))
    y = as_given(n, n.emit(ops.MaxPool2d(*window), x), n[0])
    if not n.wants(1):
        return y
    places = n.emit(ops.MaxPoolIndices(*window), x)
    places = n.binary("add", places, first_places(n, places, x.shape[2] * x.shape[3]))
    return [y, as_given(n, places, n[0])]


@rule("AveragePool")
def _(n: Operands, **attributes):
    if n[0].rank == 5:
        return mean_along_depth(n, **attributes)
    return average_pool(n, n[0], **attributes)


def average_pool(
    n: Operands, given: Value, *, kernel_shape, strides=None, pads=None, dilations=None,
    ceil_mode=0, auto_pad="NOTSET", count_include_pad=0,
) -> Value:  # fmt: skip
    """Return the means of windows of `given`, by the attributes of AveragePool."""
    x = as_images(n, given)
    kernel, stride, dilation = map(pair, (kernel_shape, strides, dilations))
    padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
    op = ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), bool(count_include_pad), None)
    y = n.emit(op, x) if dilation == (1, 1) else dilated_mean(n, op, dilation, x)
    return as_given(n, y, given)


def mean_along_depth(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", count_include_pad=0,
) -> Value:  # fmt: skip
    """Pool (N, C, D, H, W) along D only, as PyTorch writes local response normalisation."""
    down, *across = kernel_shape
    step, *steps = strides or (1, 1, 1)
    around = list(pads or [0] * 6)
    flat = across == steps == [1, 1] and not any(around[1:3] + around[4:])
    plain = not ceil_mode and auto_pad == "NOTSET" and set(dilations or [1]) == {1}
    refuse(
        not (flat and plain), "it pools over three axes, where the graph knows images (N, C, H, W)"
    )
    images, channels, depth, height, width = n[0].shape
    lines = n.reshape(n[0], images, channels, depth, height * width)
    padding = Padding(around[0], around[3], 0, 0)
    op = ops.AvgPool2d((down, 1), (step, 1), padding, False, bool(count_include_pad), None)
    y = n.emit(op, lines)
    return n.reshape(y, images, channels, y.shape[2], height, width)


def dilated_mean(n: Operands, op: ops.AvgPool2d, dilation: Pair, x: Value) -> Value:
    """Return means of pixels that are apart: their sums over their counts."""
    padding = _covering(x, op, dilation)
    counts = n.constant(_counts(x, op, dilation, padding))
    return n.binary("divide", dilated_sum(n, op, dilation, x), counts)


def dilated_sum(n: Operands, op: ops.AvgPool2d, dilation: Pair, x: Value) -> Value:
    """Return sums of pixels that are apart, by a convolution with ones."""
    channels = x.shape[1]
    ones = n.constant(np.ones((channels, 1, *op.kernel)))
    convolution = ops.Conv2d(op.stride, _covering(x, op, dilation), dilation, channels)
    return n.emit(convolution, x, ones)


def _covering(x: Value, op: ops.AvgPool2d, dilation: Pair) -> Padding:
    """Return the padding with which the last windows of ceil mode are whole."""
    span, (top, bottom, left, right) = reach(op.kernel, dilation), op.padding
    height, width = pooled((x.shape[2], x.shape[3]), span, op.stride, op.padding, op.ceil)
    down = (height - 1) * op.stride[0] + span[0] - x.shape[2] - top
    across = (width - 1) * op.stride[1] + span[1] - x.shape[3] - left
    return Padding(top, max(bottom, down), left, max(right, across))


def _counts(x: Value, op: ops.AvgPool2d, dilation: Pair, padding: Padding) -> np.ndarray:
    """Return (1, 1, H', W'): how many pixels of x, or of x and its padding, each window holds."""
    axes = []
    own = ((op.padding.top, op.padding.bottom), (op.padding.left, op.padding.right))
    after = (padding.bottom - op.padding.bottom, padding.right - op.padding.right)
    for axis, span in enumerate(reach(op.kernel, dilation)):
        line = np.ones(x.shape[2 + axis])
        line = np.pad(line, own[axis], constant_values=float(op.count_padding))
        windows = sliding_window_view(np.pad(line, (0, after[axis])), span)
        axes.append(windows[:: op.stride[axis], :: dilation[axis]].sum(1))
    return np.outer(*axes)[None, None]


@rule("LpPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", p=2,
):  # fmt: skip
    """The p-th root of the sum of the p-th powers."""
    x, kernel, stride, dilation = as_images(n, n[0]), *map(pair, (kernel_shape, strides, dilations))
    padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
    powers = n.unary("power", n.unary("abs", x), p)
    op = ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), True, 1)
    apart = dilation != (1, 1)
    total = dilated_sum(n, op, dilation, powers) if apart else n.emit(op, powers)
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
