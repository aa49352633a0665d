"""Pooling of ONNX, of images, sequences and volumes."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.planes import (
    Numbers,
    as_given,
    as_images,
    padding_of,
    pair,
    reach,
)
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.onnx.selection import first_places
from depthwise.graph.frontends.volumes import along_depth, by_planes
from depthwise.graph.infer import pooled
from depthwise.graph.ops import Padding, Pair

OfImages = Callable[[Value, Pair, Pair, Numbers, Pair], Value]


def pooled_axes(
    n: Operands, x: Value, pool: OfImages, kernel: Sequence[int], strides: Numbers, pads: Numbers,
    dilations: Numbers,
) -> Value:  # fmt: skip
    """Pool images or sequences; volumes (N, C, D, H, W) plane by plane, then along depth.

    `pool` takes images, the kernel, the strides, the pads as ONNX lists them, and the dilations.
    """
    if x.rank != 5:
        y = pool(as_images(n, x), pair(kernel), pair(strides), pads, pair(dilations))
        return as_given(n, y, x)
    (depth, *size), (step, *steps), (apart, *dilation) = (
        tuple(numbers or (1, 1, 1)) for numbers in (kernel, strides, dilations)
    )
    top, left = (list(pads or [0] * 6)[at::3] for at in (1, 2))
    around, ends = [top[0], left[0], top[1], left[1]], list(pads or [0] * 6)[::3]
    if size != [1, 1] or steps != [1, 1] or any(around):
        x = by_planes(n.emit, x, lambda y: pool(y, pair(size), pair(steps), around, pair(dilation)))
    if (depth, step, *ends) == (1, 1, 0, 0):
        return x
    beside = [ends[0], 0, ends[1], 0]
    return along_depth(
        n.emit, x, lambda y: pool(y, (depth, 1), (step, 1), beside, (apart, 1))
    )  # fmt: skip


@rule("MaxPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", storage_order=0,
):  # fmt: skip
    refuse(
        n.wants(1) and storage_order, "its places of maxima count columns first (storage_order=1)"
    )
    refuse(n.wants(1) and n[0].rank == 5, "the places of its maxima in volumes are read")

    def pool(x: Value, kernel: Pair, stride: Pair, pads: Numbers, dilation: Pair) -> Value:
        padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
        return n.emit(ops.MaxPool2d(kernel, stride, padding, dilation, bool(ceil_mode)), x)

    def find(x: Value, kernel: Pair, stride: Pair, pads: Numbers, dilation: Pair) -> Value:
        padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
        op = ops.MaxPoolIndices(kernel, stride, padding, dilation, bool(ceil_mode))
        places = n.emit(op, x)
        return n.binary("add", places, first_places(n, places, x.shape[2] * x.shape[3]))

    windows = kernel_shape, strides, pads, dilations
    y = pooled_axes(n, n[0], pool, *windows)
    return [y, pooled_axes(n, n[0], find, *windows)] if n.wants(1) else y


@rule("AveragePool")
def _(n: Operands, **attributes):
    return average_pool(n, n[0], **attributes)


def average_pool(
    n: Operands, x: Value, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", count_include_pad=0,
) -> Value:  # fmt: skip
    """Return the means of windows of x, by the attributes of AveragePool."""

    def pool(x: Value, kernel: Pair, stride: Pair, pads: Numbers, dilation: Pair) -> Value:
        padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
        op = ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), bool(count_include_pad), None)
        return n.emit(op, x) if dilation == (1, 1) else dilated_mean(n, op, dilation, x)

    return pooled_axes(n, x, pool, kernel_shape, strides, pads, dilations)


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

    def total(x: Value, kernel: Pair, stride: Pair, pads: Numbers, dilation: Pair) -> Value:
        padding = padding_of(x, reach(kernel, dilation), stride, pads, auto_pad)
        op = ops.AvgPool2d(kernel, stride, padding, bool(ceil_mode), True, 1)
        return n.emit(op, x) if dilation == (1, 1) else dilated_sum(n, op, dilation, x)

    powers = n.unary("power", n.unary("abs", n[0]), p)
    y = pooled_axes(n, powers, total, kernel_shape, strides, pads, dilations)
    return n.unary("power", y, 1 / p)


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
