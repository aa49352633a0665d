"""Layers with weights, normalisations and pooling in ONNX."""

from math import ceil, floor, prod

import numpy as np

from depthwise.graph import ops
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.tensors import REDUCE
from depthwise.graph.exporters.onnx.writer import NodeWriter
from depthwise.graph.infer import pooled
from depthwise.graph.interpret import pixels_counted
from depthwise.graph.ops import NO_PADDING, Padding, Pair

# ----------------------------------------------------------------------- convolution and linear


def sides(padding: Padding) -> list[int]:
    """Return a padding as ONNX lists it: top, left, bottom, right."""
    return [padding.top, padding.left, padding.bottom, padding.right]


@write.register
def _(op: ops.Conv2d, node, x, weight, bias=None):
    return node.add(
        "Conv", x, weight, bias, kernel_shape=node.shape(weight)[2:], strides=op.stride,
        pads=sides(op.padding), dilations=op.dilation, group=op.groups,
    )  # fmt: skip


@write.register
def _(op: ops.ConvTranspose2d, node, x, weight, bias=None):
    """Write what is added at the bottom and right, a negative padding, as output_padding.

    ONNX Runtime takes less than a stride of it. More is zeros, to which the bias is added.
    """
    top, bottom, left, right = op.padding
    cut = Padding(top, max(0, bottom), left, max(0, right))
    added = max(0, -bottom), max(0, -right)
    fits = added[0] < op.stride[0] and added[1] < op.stride[1]
    y = node.add(
        "ConvTranspose", x, weight, bias if fits else None, kernel_shape=node.shape(weight)[2:],
        strides=op.stride, pads=sides(cut), dilations=op.dilation, group=op.groups,
        output_padding=added if fits else (0, 0),
    )  # fmt: skip
    if fits:
        return y
    y = padded(node, y, Padding(0, added[0], 0, added[1]), 0.0)
    return node.add("Add", y, node.reshape(bias, *node.shape(bias), 1, 1)) if bias else y


@write.register
def _(op: ops.Linear, node, x, weight, bias=None):
    """Write Gemm for a matrix; other ranks are multiplied by the weight's transpose."""
    if len(node.shape(x)) == 2:
        return node.add("Gemm", x, weight, bias, transB=1)
    y = node.add("MatMul", x, node.add("Transpose", weight, perm=[1, 0]))
    return node.add("Add", y, bias) if bias else y


@write.register
def _(op: ops.MatMul, node, a, b):
    return node.add("MatMul", a, b)


# -------------------------------------------------------------------------------- normalisation


@write.register
def _(op: ops.BatchNorm, node, x, *statistics):
    return node.add("BatchNormalization", x, *statistics, epsilon=op.eps)


@write.register
def _(op: ops.GroupNorm, node, x, weight=None, bias=None):
    channels, rank = node.shape(x)[1], len(node.shape(x))
    weight = weight or node.constant(np.ones(channels), "scale")
    bias = bias or node.constant(np.zeros(channels), "bias")
    if op.groups == channels and rank > 2:
        return node.add("InstanceNormalization", x, weight, bias, epsilon=op.eps)
    groups = {"num_groups": op.groups}
    return node.add("GroupNormalization", x, weight, bias, epsilon=op.eps, **groups)


@write.register
def _(op: ops.LayerNorm, node, x, weight=None, bias=None):
    weight = weight or node.constant(np.ones(node.shape(x)[-op.axes :]), "scale")
    return node.add("LayerNormalization", x, weight, bias, axis=-op.axes, epsilon=op.eps)


# -------------------------------------------------------------------------------------- pooling


def covering(
    planes: Pair, op: ops.MaxPool2d | ops.MaxPoolIndices | ops.AvgPool2d, dilation: Pair
) -> Padding:
    """Return a padding with which the windows are the same without ceil mode.

    That mode's rule for the last window is PyTorch's here, another one in ONNX.
    """
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, op.kernel, strict=True))
    pairs = op.padding[:2], op.padding[2:]
    found = []
    for axis, (before, after) in enumerate(pairs):
        size, stride, length = planes[axis], op.stride[axis], reach[axis]
        count = pooled(planes, (reach[0], reach[1]), op.stride, op.padding, op.ceil)[axis]
        same = (size + before + after - length) // stride + 1 == count
        needed = (count - 1) * stride + length - size - before
        found += [before, after if same else max(0, needed)]
    return Padding(*found)


def padded(node: NodeWriter, x: str, padding: Padding, value: float) -> str:
    """Append a Pad of planes."""
    top, bottom, left, right = padding
    pads = node.constant([0, 0, top, left, 0, 0, bottom, right], "pads")
    value_of = node.constant(value, "value", node.type.dtype)
    return node.add("Pad", x, pads, value_of, mode="constant")


def allowed(padding: Padding, kernel: Pair) -> bool:
    """Tell whether a pooling can pad itself: ONNX Runtime refuses to by a kernel and more."""
    return max(padding[:2]) < kernel[0] and max(padding[2:]) < kernel[1]


@write.register
def _(op: ops.MaxPool2d, node, x):
    padding = covering(node.shape(x)[2:], op, op.dilation)
    if not allowed(padding, op.kernel):
        element = node.type.element
        lowest = np.iinfo(element.storage).min if element.is_integer else -np.inf
        x, padding = padded(node, x, padding, lowest), NO_PADDING
    return node.add(
        "MaxPool", x, kernel_shape=op.kernel, strides=op.stride, pads=sides(padding),
        dilations=op.dilation,
    )  # fmt: skip


@write.register
def _(op: ops.AvgPool2d, node, x):
    """Write one AveragePool where ONNX divides by the same number, else correct its result."""
    padding = covering(node.shape(x)[2:], op, (1, 1))
    window = {"kernel_shape": op.kernel, "strides": op.stride}
    counted = op.count_padding and any(op.padding)
    alike = op.divisor is None and (padding == op.padding or not counted)
    if alike and allowed(padding, op.kernel):
        return node.add(
            "AveragePool", x, **window, pads=sides(padding), count_include_pad=int(counted)
        )
    mean = node.add("AveragePool", padded(node, x, padding, 0.0), **window)
    correction = prod(op.kernel) / pixels_counted(op, node.shape(x)[2:])
    return node.add("Mul", mean, node.constant(correction, "correction"))


POOL = {"mean": "AveragePool", "max": "MaxPool"}


@write.register
def _(op: ops.AdaptivePool2d, node, x):
    """Write an ordinary pooling where all bins have one size, else reduce them one by one."""
    planes = node.shape(x)[2:]
    if op.size == planes:
        return x
    if op.size == (1, 1):
        return node.add(f"Global{POOL[op.function]}", x)
    if all(n % m == 0 for n, m in zip(planes, op.size, strict=True)):
        kernel = [n // m for n, m in zip(planes, op.size, strict=True)]
        return node.add(POOL[op.function], x, kernel_shape=kernel, strides=kernel)
    for axis, (n, m) in enumerate(zip(planes, op.size, strict=True), 2):
        bins = [(floor(i * n / m), ceil((i + 1) * n / m)) for i in range(m)]
        axes = node.constant([axis], "axes")
        reduced = [node.add(REDUCE[op.function], node.slice(x, axis, *bin), axes) for bin in bins]
        x = node.add("Concat", *reduced, axis=axis)
    return x


@write.register
def _(op: ops.LocalResponseNorm, node, x):
    """Write LRN for an odd window; the middle of an even one lies elsewhere in ONNX."""
    if op.size % 2:
        return node.add("LRN", x, size=op.size, alpha=op.alpha, beta=op.power, bias=op.bias)
    n, c, h, w = node.shape(x)
    square = node.reshape(node.add("Mul", x, x), n, 1, c, h * w)
    around = padded(node, square, Padding(op.size // 2, (op.size - 1) // 2, 0, 0), 0.0)
    mean = node.add("AveragePool", around, kernel_shape=[op.size, 1])
    scaled = node.add("Mul", node.reshape(mean, n, c, h, w), node.constant(op.alpha, "alpha"))
    base = node.add("Add", scaled, node.constant(op.bias, "bias"))
    return node.add("Div", x, node.add("Pow", base, node.constant(op.power, "beta")))
