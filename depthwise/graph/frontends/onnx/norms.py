"""Normalisation, with statistics that are known and of the input itself."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.products import reduced
from depthwise.graph.frontends.onnx.rules import EVALUATE, refuse, rule

SMALLEST = float(np.finfo(np.float32).tiny)  # what has the norm 0 stays 0


@rule("BatchNormalization")
def _(n: Operands, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1):
    del momentum  # of training
    refuse(training_mode or any(map(n.wants, range(1, 5))), "it is in training mode", EVALUATE)
    refuse(not spatial, "it has statistics for each pixel (spatial=0)")
    n.mark_untrained(3, 4)
    return n.emit(ops.BatchNorm(epsilon), *(n[i] for i in range(5)))


@rule("InstanceNormalization")
def _(n: Operands, *, epsilon=1e-5):
    return n.emit(ops.GroupNorm(n[0].shape[1], epsilon), *n.all())


@rule("GroupNormalization")
def _(n: Operands, *, num_groups, epsilon=1e-5, stash_type=1):
    """Until opset 20 with a scale and a bias for each group, since then for each channel."""
    del stash_type  # the type that a float16 network computes its statistics in
    size = n[0].shape[1] // num_groups
    if n.opset < 21:
        parameters = [n.derived(i, lambda data: np.repeat(data, size)) for i in (1, 2)]
    else:
        parameters = [n[1], n[2]]
    return n.emit(ops.GroupNorm(num_groups, epsilon), n[0], *parameters)


@rule("LayerNormalization")
def _(n: Operands, *, axis=-1, epsilon=1e-5, stash_type=1):
    """The mean and the inverse of the deviation are outputs too: both from our reductions."""
    del stash_type
    x, axes = n[0], tuple(range(n.axis(n[0], axis), n[0].rank))
    shape = x.shape[axes[0] :]
    parameters = [_of_shape(n, index, shape) for index in (1, 2) if n.has(index)]
    y = n.emit(ops.LayerNorm(len(axes), epsilon), x, *parameters)
    if not (n.wants(1) or n.wants(2)):
        return y
    mean = reduced(n, "mean", x, axes)
    apart = n.binary("subtract", x, mean)
    variance = reduced(n, "mean", n.binary("multiply", apart, apart), axes)
    return [y, mean, n.unary("reciprocal_sqrt", n.binary("add", variance, epsilon))]


def _of_shape(n: Operands, index: int, shape: tuple[int, ...]) -> Value:
    """Return a parameter of a shape, to which a known one is broadcast."""
    if n.shape(index) == shape or not n.is_known(index):
        return n[index]
    return n.derived(index, lambda data: np.broadcast_to(data, shape).copy())


@rule("RMSNormalization")
def _(n: Operands, *, axis=-1, epsilon=1e-5, stash_type=1):
    """x over the root of the mean of its squares. arXiv:1910.07467, equation 4."""
    del stash_type
    x, axes = n[0], tuple(range(n.axis(n[0], axis), n[0].rank))
    mean = reduced(n, "mean", n.binary("multiply", x, x), axes)
    factor = n.unary("reciprocal_sqrt", n.binary("add", mean, epsilon))
    return n.binary("multiply", n.binary("multiply", x, factor), n[1])


@rule("MeanVarianceNormalization")
def _(n: Operands, *, axes=(0, 2, 3)):
    x, over = n[0], tuple(sorted(n.axis(n[0], axis) for axis in axes))
    apart = n.binary("subtract", x, reduced(n, "mean", x, over))
    variance = reduced(n, "mean", n.binary("multiply", apart, apart), over)
    return n.binary("divide", apart, n.binary("add", n.unary("sqrt", variance), 1e-9))


@rule("LpNormalization")
def _(n: Operands, *, axis=-1, p=2):
    x, over = n[0], (n.axis(n[0], axis),)
    if p == 1:
        total = reduced(n, "sum", n.unary("abs", x), over)
        return n.binary("divide", x, n.binary("maximum", total, SMALLEST))
    squares = reduced(n, "sum", n.binary("multiply", x, x), over)
    return n.binary("divide", x, n.binary("maximum", n.unary("sqrt", squares), SMALLEST))


@rule("LRN")
def _(n: Operands, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """An even window reaches one channel further up than down, ours the other way round.

    Such a one is written out: a 1x1 convolution sums squares over neighbouring channels.
    """
    x = n[0]
    refuse(x.rank != 4, "it normalises other than images (N, C, H, W)")
    if size % 2:
        return n.emit(ops.LocalResponseNorm(size, alpha, beta, bias), x)
    c = np.arange(x.shape[1])
    apart = c[None] - c[:, None]
    window = (apart >= -((size - 1) // 2)) & (apart <= size // 2)
    weight = n.constant((window * np.float32(alpha / size))[:, :, None, None])
    op = ops.POINTWISE
    total = n.emit(op, n.binary("multiply", x, x), weight)
    return n.binary("divide", x, n.unary("power", n.binary("add", total, bias), beta))
