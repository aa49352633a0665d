"""What kernels compute of eight bits, as operators: the definition that simulator and C share.

Sums are int32 and exact. A sum becomes uint8 in float32, each operation rounded once, to the
nearest, ties to even, and no two contracted to one:

    q = clamp(rint(float(sum) · multiplier [+ float(residual - zero) · ratio]) + zero, low, high)

Multipliers are float32, computed in double precision from the scales (`multiplier`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.dtypes import WHOLE_FLOATS
from depthwise.graph.infer import infer_dtype, infer_shape
from depthwise.graph.interpret import (
    Array,
    adaptive_bins,
    convolve_columns,
    evaluate,
    pad_plane,
    pixels_counted,
    pool_windows,
    windows,
)
from depthwise.quantization.scheme import LEVELS

ONE_TAP = (1, 1)
Mean = ops.AvgPool2d | ops.AdaptivePool2d | ops.Reduce


def multiplier(*scales: Any, over: float) -> Array:
    """Return the product of scales over that of the result, in float32."""
    product = np.float64(1)
    for scale in scales:
        product = product * np.asarray(scale, np.float32).astype(np.float64)
    return np.asarray(product / np.float64(np.float32(over)), np.float32)


@dataclass(frozen=True)
class Requantize:
    """How real numbers become uint8 again: clamp(rint(x) + zero, low, high)."""

    zero: int
    low: int = 0
    high: int = LEVELS

    def __call__(self, x: Array) -> Array:
        """Return float32 as uint8."""
        assert x.dtype == np.float32
        whole = np.rint(x) + np.float32(self.zero)
        return whole.clip(self.low, self.high).astype(np.uint8)


@dataclass(frozen=True)
class IntegerLayer:
    """Inputs x (uint8), weight (int8), bias (int32), multiplier (float32), [residual (uint8)].

    Bias and multiplier have a number for each output channel. Without `then` the result is
    float(sum) · multiplier, in float32.

    Attributes:
        op: The convolution or linear layer.
        zero: What stands for 0 in x, and so in its padding.
        then: How a sum becomes uint8.
        residual_zero: What stands for 0 in the residual.
        ratio: The residual's scale over that of the result, a number that float32 has.
    """

    op: ops.Conv2d | ops.Linear
    zero: int
    then: Requantize | None = None
    residual_zero: int = 0
    ratio: float = 0.0


@dataclass(frozen=True)
class IntegerAdd:
    """Inputs a, b (uint8): float(a - zero_a) · ratio_a + float(b - zero_b) · ratio_b."""

    zeros: tuple[int, int]
    ratios: tuple[float, float]
    then: Requantize


@dataclass(frozen=True)
class IntegerMultiply:
    """Inputs a, b (uint8), broadcast: float((a - zero_a) · (b - zero_b)) · ratio."""

    zeros: tuple[int, int]
    ratio: float
    then: Requantize


@dataclass(frozen=True)
class IntegerMean:
    """Input x (uint8): float(sum of x - zero) · float32(ratio / count), over each window of `op`.

    `ratio` is a double: the scale of x over that of the result. Without `then` the result is real.
    """

    op: Mean
    zero: int
    ratio: float
    then: Requantize | None = None


@dataclass(frozen=True)
class Rescale:
    """Input x (uint8): float(x - zero) · ratio, at another scale."""

    zero: int
    ratio: float
    then: Requantize


@dataclass(frozen=True)
class Lookup:
    """Inputs x (uint8), table (256 of uint8): table[x]."""


# ----------------------------------------------------------------------------------------- types

IntegerOp = IntegerLayer | IntegerAdd | IntegerMultiply | IntegerMean | Rescale | Lookup


@infer_shape.register
def _(op: IntegerLayer, x, weight, bias, factor, residual=None):  # noqa: ARG001
    return infer_shape(op.op, x, weight, bias)


@infer_shape.register
def _(op: IntegerAdd | IntegerMultiply, a, b):  # noqa: ARG001
    return np.broadcast_shapes(a, b)


@infer_shape.register
def _(op: IntegerMean, x):
    return infer_shape(op.op, x)


@infer_shape.register
def _(op: Rescale, x):  # noqa: ARG001
    return x


@infer_shape.register
def _(op: Lookup, x, table):  # noqa: ARG001
    return x


@infer_dtype.register
def _(op: IntegerLayer | IntegerMean, *inputs):  # noqa: ARG001
    return "float32" if op.then is None else "uint8"


@infer_dtype.register
def _(op: IntegerAdd | IntegerMultiply | Rescale | Lookup, *inputs):  # noqa: ARG001
    return "uint8"


# --------------------------------------------------------------------------------------- meaning


@evaluate.register
def _(op: IntegerLayer, x, weight, bias, factor, residual=None):
    total = sums(op, x, weight) + bias.reshape(_by_channel(op, x.ndim)).astype(np.int64)
    assert np.abs(total).max(initial=0) < 2**31, "a sum that int32 does not hold"
    real = total.astype(np.float32) * factor.reshape(_by_channel(op, x.ndim))
    if residual is not None:
        real = real + _less(residual, op.residual_zero) * np.float32(op.ratio)
    return real if op.then is None else op.then(real)


@evaluate.register
def _(op: IntegerAdd, a, b):
    parts = [
        _less(x, z) * np.float32(r) for x, z, r in zip((a, b), op.zeros, op.ratios, strict=True)
    ]
    return op.then(parts[0] + parts[1])


@evaluate.register
def _(op: IntegerMultiply, a, b):
    return op.then((_less(a, op.zeros[0]) * _less(b, op.zeros[1])) * np.float32(op.ratio))


@evaluate.register
def _(op: IntegerMean, x):
    total, count = totals(op.op, x.astype(np.int32) - np.int32(op.zero))
    real = total.astype(np.float32) * (np.float64(op.ratio) / count).astype(np.float32)
    return real if op.then is None else op.then(real)


@evaluate.register
def _(op: Rescale, x):
    return op.then(_less(x, op.zero) * np.float32(op.ratio))


@evaluate.register
def _(op: Lookup, x, table):  # noqa: ARG001
    return table[x]


def _less(x: Array, zero: int) -> Array:
    """Return uint8 without their zero point, in float32, which holds them exactly."""
    return x.astype(np.float32) - np.float32(zero)


def _by_channel(op: IntegerLayer, rank: int) -> tuple[int, ...]:
    return (-1,) if isinstance(op.op, ops.Linear) else (1, -1, *(1,) * (rank - 2))


def sums(op: IntegerLayer, x: Array, weight: Array) -> Array:
    """Return the sums of a layer without its bias, int64.

    In floating numbers that hold all of them exactly, for which there are fast matrix products.
    """
    largest = LEVELS * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1).max()
    real = np.float32 if largest < WHOLE_FLOATS else np.float64
    x, weight = x.astype(real) - real(op.zero), weight.astype(real)
    if isinstance(op.op, ops.Linear):
        return (x @ weight.T).astype(np.int64)
    conv, (outputs, inputs, *kernel) = op.op, weight.shape
    padded = pad_plane(x, conv.padding)  # by 0, which the zero point stands for
    if inputs == 1 and conv.groups == outputs:
        return _depthwise(conv, padded, weight).astype(np.int64)
    if tuple(kernel) == ONE_TAP and conv.groups == 1:
        taken = padded[:, :, :: conv.stride[0], :: conv.stride[1]]
        flat = taken.reshape(*taken.shape[:2], -1)
        return (
            (weight[:, :, 0, 0] @ flat).reshape(len(x), outputs, *taken.shape[2:]).astype(np.int64)
        )
    columns = windows(padded, (kernel[0], kernel[1]), conv.stride, conv.dilation)
    return convolve_columns(columns, weight, conv.groups).astype(np.int64)


def _depthwise(conv: ops.Conv2d, padded: Array, weight: Array) -> Array:
    """Return the sums of a convolution whose channels are apart, tap by tap."""
    kernel = (weight.shape[2], weight.shape[3])
    columns = windows(padded, kernel, conv.stride, conv.dilation)
    total = np.zeros(columns.shape[:4], padded.dtype)
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            total += columns[..., r, s] * weight[:, 0, r, s].reshape(1, -1, 1, 1)
    return total


def has_integer_form(op: Mean, shape: tuple[int, ...]) -> bool:
    """Tell whether kernels have a mean in integers: of windows, or of whole planes."""
    if len(shape) != 4:
        return False
    match op:
        case ops.AvgPool2d():
            return bool(pixels_counted(op, (shape[2], shape[3])).all())
        case ops.AdaptivePool2d(size=size):
            return tuple(size) == (1, 1)
    return tuple(op.axes) == (2, 3)


def totals(op: Mean, x: Array) -> tuple[Array, Array]:
    """Return the sums of windows (int64), and of how many numbers each is made."""
    match op:
        case ops.Reduce(axes=axes, keep=keep):
            count = np.prod([x.shape[axis] for axis in axes])
            return x.sum(axis=axes, keepdims=keep, dtype=np.int64), np.asarray(count)
        case ops.AvgPool2d():
            windowed = pool_windows(x, op, 0)
            return windowed.sum((4, 5), dtype=np.int64), pixels_counted(op, x.shape[2:])
    rows, columns = (adaptive_bins(n, m) for n, m in zip(x.shape[-2:], op.size, strict=True))
    total = [[x[..., y, z].sum((-2, -1), dtype=np.int64) for z in columns] for y in rows]
    count = [[(y.stop - y.start) * (z.stop - z.start) for z in columns] for y in rows]
    return np.moveaxis(np.array(total), (0, 1), (-2, -1)), np.array(count)
