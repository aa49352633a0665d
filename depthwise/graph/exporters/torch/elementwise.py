"""Functions of elements, reductions, comparisons and conversions in PyTorch."""

import operator
from collections.abc import Callable
from functools import partial
from math import isinf

import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import ops
from depthwise.graph.exporters.torch.rules import function_of
from depthwise.graph.graph import Constant


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Return numbers held between bounds, of which infinite ones are none."""
    whole = not x.is_floating_point()
    bounds = [None if isinf(b) else int(b) if whole else b for b in (low, high)]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


def wrap(x: Tensor, lowest: float, count: float) -> Tensor:
    """Return x without its fraction, as one of `count` whole numbers from `lowest` on."""
    whole = torch.trunc(x)
    above = whole - count * torch.floor(whole / count)
    return torch.where(above >= lowest + count, above - count, above)


def power(x: Tensor, exponent: float) -> Tensor:
    """Return a power with a constant exponent."""
    return x ** (exponent if x.is_floating_point() else int(exponent))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid, "sigmoid": torch.sigmoid, "silu": F.silu, "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"), "tanh": torch.tanh, "elu": F.elu,
    "clamp": clamp, "softplus": F.softplus, "mish": F.mish, "power": power, "wrap": wrap,
    "reciprocal_sqrt": torch.rsqrt, "threshold": F.threshold, "hard_shrink": F.hardshrink,
    **{name: getattr(torch, name) for name in (
        "sqrt", "exp", "log", "abs", "negative", "erf", "trunc", "log2", "log10", "log1p", "expm1",
        "exp2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
        "atanh", "sinc", "erfc", "floor", "ceil", "round", "sign",
    )},
}  # fmt: skip


@function_of.register
def _(op: ops.Activation, site):  # noqa: ARG001
    function = FUNCTIONS[op.function]
    if not op.parameters:
        return function
    return lambda x: function(x, *op.parameters)


BINARY: dict[str, Callable[..., Tensor]] = {  # Python's own take numbers on either side
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "power": operator.pow, "remainder": operator.mod,
    "floor_divide": operator.floordiv, "fmod": torch.fmod, "maximum": torch.maximum,
    "minimum": torch.minimum, "arctan2": torch.atan2, "hypot": torch.hypot,
}  # fmt: skip

COMPARE = {
    "equal": operator.eq, "not_equal": operator.ne, "less": operator.lt,
    "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
}  # fmt: skip


def is_one(constant: Constant) -> bool:
    """Tell whether a constant is the number 1."""
    return not constant.type.shape and constant.numbers is not None and constant.numbers == 1


@function_of.register
def _(op: ops.Binary, site):
    if op.function == "divide" and not site.node.type.element.is_floating:
        return partial(torch.div, rounding_mode="trunc")
    first = site.constants[0]
    if op.function == "divide" and first is not None and is_one(first):
        return lambda _, x: torch.reciprocal(x)
    return BINARY[op.function]


@function_of.register
def _(op: ops.Compare, site):  # noqa: ARG001
    return COMPARE[op.function]


@function_of.register
def _(op: ops.Where, site):  # noqa: ARG001
    return torch.where


@function_of.register
def _(op: ops.Softmax, site):  # noqa: ARG001
    return lambda x: F.softmax(x, op.axis)


def product(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Return products over several axes."""
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


REDUCE: dict[str, Callable[..., Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
    "min": torch.amin,
    "product": product,
}


@function_of.register
def _(op: ops.Reduce, site):
    if not op.axes:  # in PyTorch no axes are all
        return lambda x: x
    reduce, dtype = REDUCE[op.function], getattr(torch, site.node.type.dtype)
    return lambda x: reduce(x, op.axes, keepdim=op.keep).to(dtype)


# ---------------------------------------------------------------------------------- conversions


@function_of.register
def _(op: ops.Cast, site):  # noqa: ARG001
    dtype = getattr(torch, op.dtype)
    return lambda x: x.to(dtype)


def along(axis: int | None, parameter: Tensor, rank: int) -> Tensor:
    """Return one number, or one for each position of an axis, so that it broadcasts."""
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1
    return parameter.reshape(shape)


@function_of.register
def _(op: ops.Quantize, site):  # noqa: ARG001
    dtype = getattr(torch, op.dtype)

    def quantize(x, scale, zero_point=None):
        whole = torch.round(x / along(op.axis, scale, x.ndim))
        if zero_point is not None:
            whole = whole + along(op.axis, zero_point, x.ndim)
        limits = torch.iinfo(dtype)
        return whole.clamp(limits.min, limits.max).to(dtype)

    return quantize


@function_of.register
def _(op: ops.Dequantize, site):  # noqa: ARG001
    def dequantize(x, scale, zero_point=None):
        if zero_point is not None:
            x = x.to(torch.int64) - along(op.axis, zero_point, x.ndim)
        return x.to(scale.dtype) * along(op.axis, scale, x.ndim)

    return dequantize
