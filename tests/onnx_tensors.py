"""ONNX's operators on tensors as ours: products, reductions, norms, elements, moving about."""

from functools import reduce
from itertools import accumulate, pairwise
from math import ceil, prod
from typing import Any, cast

import numpy as np
from onnx_adapter import Operands, refuse, rule

from depthwise.graph import ops
from depthwise.graph.ops import LocalResponseNorm

# ------------------------------------------------------------------- products and reductions


@rule("MatMul")
def _(n: Operands):
    x, y = n[0], n[1]
    left = n.reshape(x, 1, *x.shape) if x.rank == 1 else x
    right = n.reshape(y, *y.shape, 1) if y.rank == 1 else y
    z = n.emit(ops.MatMul(), left, right)
    if x.rank > 1 and y.rank > 1:
        return z
    return n.reshape(z, *z.shape[:-2], *(x.shape[:-1] and z.shape[-2:-1]),
                     *(y.shape[1:] and z.shape[-1:]))  # fmt: skip


@rule("Gemm")
def _(n: Operands, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    """A linear layer: alpha and a bias that is one row are part of its weights."""
    x = n.emit(ops.Permute((1, 0)), n[0]) if transA else n[0]
    factor, summand = cast(np.ndarray, n.array(1)), n.array(2)
    weight = n.constant(np.float32(alpha) * (factor if transB else factor.T))
    if summand is None or summand.size == 0:
        return n.emit(ops.Linear(), x, weight)
    if prod(summand.shape) in (1, weight.shape[0]):
        bias = np.broadcast_to(np.float32(beta) * summand, (1, weight.shape[0]))[0]
        return n.emit(ops.Linear(), x, weight, n.constant(bias.copy()))
    return n.binary("add", n.emit(ops.Linear(), x, weight), n.binary("multiply", n[2], beta))


REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}


@rule(*REDUCTIONS)
def _(n: Operands, *, keepdims=1, noop_with_empty_axes=0):
    x, axes = n[0], n.ints(1, [])
    if not axes and noop_with_empty_axes:
        return x
    axes = tuple(sorted(x.axis(axis) for axis in axes)) or tuple(range(x.rank))
    function = cast(Any, REDUCTIONS[n.node.op_type])
    return n.emit(ops.Reduce(function, axes, bool(keepdims)), x)


# -------------------------------------------------------------------------------- normalisation


@rule("BatchNormalization")
def _(n: Operands, *, epsilon=1e-5, momentum=0.9, training_mode=0):  # noqa: ARG001
    refuse(training_mode, "training")
    return n.emit(ops.BatchNorm(epsilon), n[0], *n.weights(1, 2, 3, 4))


@rule("InstanceNormalization")
def _(n: Operands, *, epsilon=1e-5):
    return n.emit(ops.GroupNorm(n[0].shape[1], epsilon), n[0], *n.weights(1, 2))


@rule("GroupNormalization")
def _(n: Operands, *, num_groups, epsilon=1e-5, stash_type=1):
    assert stash_type == 1
    return n.emit(ops.GroupNorm(num_groups, epsilon), n[0], *n.weights(1, 2))


@rule("LayerNormalization")
def _(n: Operands, *, axis=-1, epsilon=1e-5, stash_type=1):
    """The mean and the inverse of the deviation are outputs too: both from our reductions."""
    assert stash_type == 1
    x, axes = n[0], tuple(range(n[0].axis(axis), n[0].rank))
    y = n.emit(ops.LayerNorm(len(axes), epsilon), x, *n.weights(1, 2))
    mean = n.emit(ops.Reduce("mean", axes, True), x)
    apart = n.binary("subtract", x, mean)
    variance = n.emit(ops.Reduce("mean", axes, True), n.binary("multiply", apart, apart))
    inverse = n.emit(ops.Activation("reciprocal_sqrt"), n.binary("add", variance, epsilon))
    return [y, mean, inverse][: len(n.node.output)]


@rule("LRN")
def _(n: Operands, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    refuse(size % 2 == 0, "an even window that is longer behind than before")
    return n.emit(LocalResponseNorm(size, alpha, beta, bias), n.images())


@rule("Softmax")
def _(n: Operands, *, axis=-1):
    return n.emit(ops.Softmax(n[0].axis(axis)), n[0])


# ------------------------------------------------------------------------------ element by element

FUNCTIONS = {
    "Relu": "relu", "HardSwish": "hard_swish", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softplus": "softplus", "Mish": "mish", "Abs": "abs", "Exp": "exp", "Log": "log",
    "Sqrt": "sqrt", "Neg": "negative",
}  # fmt: skip


@rule(*FUNCTIONS)
def _(n: Operands):
    return n.emit(ops.Activation(cast(ops.Function, FUNCTIONS[n.node.op_type])), n[0])


@rule("LeakyRelu")
def _(n: Operands, *, alpha=0.01):
    return n.emit(ops.Activation("leaky_relu", (alpha,)), n[0])


@rule("Elu")
def _(n: Operands, *, alpha=1.0):
    return n.emit(ops.Activation("elu", (alpha,)), n[0])


@rule("Gelu")
def _(n: Operands, *, approximate="none"):
    return n.emit(ops.Activation("gelu" if approximate == "none" else "gelu_tanh"), n[0])


@rule("HardSigmoid")
def _(n: Operands, *, alpha=0.2, beta=0.5):
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return n.emit(ops.Activation("hard_sigmoid"), n[0])
    line = n.binary("add", n.binary("multiply", n[0], alpha), beta)
    return n.emit(ops.Activation("clamp", (0.0, 1.0)), line)


@rule("Clip")
def _(n: Operands):
    low, high = n.array(1), n.array(2)
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    return n.emit(ops.Activation("clamp", (float(bounds[0]), float(bounds[1]))), n[0])


@rule("PRelu")
def _(n: Operands):
    """Our slope is one for each channel: here every element is a channel."""
    x = n[0]
    slope = np.broadcast_to(cast(np.ndarray, n.array(1)), x.shape).reshape(-1)
    flat = n.reshape(x, 1, prod(x.shape))
    return n.reshape(n.emit(ops.PRelu(), flat, n.constant(slope)), *x.shape)


BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum",
          "Min": "minimum", "Sum": "add"}  # fmt: skip


@rule(*BINARY)
def _(n: Operands):
    return reduce(lambda x, y: n.binary(BINARY[n.node.op_type], x, y), n.all())


@rule("Mean")
def _(n: Operands):
    total = reduce(lambda x, y: n.binary("add", x, y), n.all())
    return n.binary("divide", total, float(len(n.all())))


# ----------------------------------------------------------------------------------- moving about


@rule("Concat")
def _(n: Operands, *, axis):
    return n.emit(ops.Concat(n[0].axis(axis)), *n.all())


@rule("Slice")
def _(n: Operands):
    x, starts, stops = n[0], n.ints(1), n.ints(2)
    axes = n.ints(3, range(len(starts)))
    steps = n.ints(4, [1] * len(starts))
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        refuse(step < 0, "backwards")
        first, end, _ = slice(start, stop, step).indices(x.shape[axis])
        refuse(first >= end, "no elements")
        x = n.emit(ops.Slice(x.axis(axis), first, end, step), x)
    return x


@rule("Split")
def _(n: Operands, *, axis=0, num_outputs=None):
    x, axis = n[0], n[0].axis(axis)
    part = ceil(x.shape[axis] / len(n.node.output))
    assert num_outputs in (None, len(n.node.output))
    ends = accumulate(n.ints(1, [part] * len(n.node.output)), initial=0)
    bounds = list(pairwise(min(end, x.shape[axis]) for end in ends))
    refuse(any(start == stop for start, stop in bounds), "no elements")
    return [n.emit(ops.Slice(axis, start, stop, 1), x) for start, stop in bounds]


PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@rule("Pad")
def _(n: Operands, *, mode="constant"):
    x, sides, number = n[0], n.ints(1), n.array(2)
    pads = [(0, 0)] * x.rank
    axes = n.ints(3, range(x.rank))
    for axis, *around in zip(axes, sides[: len(axes)], sides[len(axes) :], strict=True):
        pads[axis] = (around[0], around[1])
    value = 0.0 if number is None else float(number)
    return n.emit(ops.Pad(tuple(pads), cast(ops.PadMode, PAD_MODES[mode]), value), x)


@rule("Transpose")
def _(n: Operands, *, perm=None):
    return n.emit(ops.Permute(tuple(perm or reversed(range(n[0].rank)))), n[0])


@rule("Reshape")
def _(n: Operands, *, allowzero=0):
    x, shape = n[0], n.ints(1)
    assert not allowzero or 0 not in shape
    shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    rest = prod(x.shape) // abs(prod(shape))
    return n.reshape(x, *(rest if size == -1 else size for size in shape))


@rule("Flatten")
def _(n: Operands, *, axis=1):
    x = n[0]
    split = axis if axis == x.rank else x.axis(axis)
    return n.reshape(x, prod(x.shape[:split]), prod(x.shape[split:]))


@rule("Squeeze")
def _(n: Operands):
    x = n[0]
    gone = {x.axis(axis) for axis in n.ints(1)}
    return n.reshape(x, *(size for axis, size in enumerate(x.shape) if axis not in gone))


@rule("Unsqueeze")
def _(n: Operands):
    x, axes = n[0], n.ints(1)
    rank = x.rank + len(axes)
    new, sizes = {axis % rank for axis in axes}, iter(x.shape)
    return n.reshape(x, *(1 if axis in new else next(sizes) for axis in range(rank)))


@rule("Expand")
def _(n: Operands):
    return n.emit(ops.Expand(np.broadcast_shapes(n[0].shape, tuple(n.ints(1)))), n[0])


@rule("DepthToSpace")
def _(n: Operands, *, blocksize, mode="DCR"):
    x, (images, channels, height, width) = n[0], n[0].shape
    k = channels // blocksize**2
    first = mode == "DCR"  # the block is the slower part of the channels
    parts = (blocksize, blocksize, k) if first else (k, blocksize, blocksize)
    order = (0, 3, 4, 1, 5, 2) if first else (0, 1, 4, 2, 5, 3)
    moved = n.emit(ops.Permute(order), n.reshape(x, images, *parts, height, width))
    return n.reshape(moved, images, k, height * blocksize, width * blocksize)
