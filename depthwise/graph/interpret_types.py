"""What operators mean that convert, compare and choose: those of several element types."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.dtypes import find_dtype
from depthwise.graph.interpret import Array, evaluate


@evaluate.register
def _(op: ops.Compare, a, b):
    return getattr(np, op.function)(a, b)


@evaluate.register
def _(op: ops.Where, condition, a, b):  # noqa: ARG001
    return np.where(condition, a, b)


@evaluate.register
def _(op: ops.Cast, x):
    to = find_dtype(op.dtype)
    if x.dtype.kind == "f" and to.is_integer and to.bits < 64:
        x = x.astype(np.int64)  # of which narrower types keep the last bits, as in PyTorch
    return to.round(x)


@evaluate.register
def _(op: ops.Quantize, x, scale, zero_point=None):
    to = find_dtype(op.dtype).numpy
    whole = np.rint(x / along(op.axis, scale, x.ndim))  # rounds ties to even
    if zero_point is not None:
        whole = whole + along(op.axis, zero_point, x.ndim)
    limits = np.iinfo(to)
    whole = np.where(np.isnan(whole), limits.min, whole)  # what is no number, as kernels have it
    return whole.clip(limits.min, limits.max).astype(to)


@evaluate.register
def _(op: ops.Dequantize, x, scale, zero_point=None):
    if zero_point is not None:
        x = x.astype(np.int64) - along(op.axis, zero_point, x.ndim)
    return x.astype(scale.dtype) * along(op.axis, scale, x.ndim)


def along(axis: int | None, parameter: Array, rank: int) -> Array:
    """Return one number, or one for each position of an axis, so that it broadcasts."""
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1
    return parameter.reshape(shape)
