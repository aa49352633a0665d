"""The rules of PyTorch's operators of several element types: conversions, comparisons, choices.

What PyTorch converts on its own account is a `Cast` in the graph. `PROMOTING` are the operators
that convert every tensor they read to the type of their result, which the importer does for them;
`CONVERTING` those whose rule knows what to do with tensors of other types than the result's.
"""

from math import isinf
from typing import Any

import numpy as np
import torch

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Rule, binary, rule

PROMOTING = frozenset(
    f"aten.{name}" for name in (
        "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide",
        "maximum", "minimum", "clamp", "clamp_min", "clamp_max", "addcmul", "addcdiv", "cat",
        "concat", "stack", "pow", "reciprocal", "sum", "mean", "softmax", "log_softmax",
        "sigmoid", "tanh", "sqrt", "rsqrt", "exp", "log", "erf", "prod", "cumsum", "cumprod",
        "logsumexp", "linalg_vector_norm", "norm", "max", "min", "log2", "log10", "log1p", "expm1",
        "exp2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
        "atanh", "sinc", "erfc", "atan2", "hypot", "remainder", "fmod", "floor_divide", "lerp",
        "xlogy", "logaddexp", "heaviside",
    )
)  # fmt: skip

COMPARISONS: dict[str, str] = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}  # fmt: skip

CONVERTING = frozenset(
    f"aten.{name}" for name in (
        "to", "_to_copy", "type_as", "where", "masked_fill", "logical_and", "logical_or",
        "logical_xor", "logical_not", "isnan", "isinf", "isfinite", "isposinf", "isneginf",
        "full_like", "zeros_like", "ones_like", "new_zeros", "new_ones", "new_full", "fill",
        "argmax", "argmin", "argsort", "any", "all", "count_nonzero", "gather", "take_along_dim",
        "max_unpool2d", "one_hot", "nonzero", "nonzero_numpy", "_unique2", "unique_dim",
        "unique_consecutive", "bincount", "scaled_dot_product_attention",
        "index", "index_select", "index_put", "_unsafe_index_put", "index_add", "index_copy",
        "index_fill", "embedding", "take", "scatter", "scatter_add",
        "scatter_reduce", "masked_select", "repeat_interleave", "copy",
        *COMPARISONS, *COMPARISONS.values(),
    )
)  # fmt: skip


@rule("aten.to", "aten._to_copy", "aten.type_as")
def _(b: Builder, x, *_unused, **_named):
    return x if x.type.dtype == b.dtype else b.emit(ops.Cast(b.dtype), x)


# ---------------------------------------------------------------------------------- comparisons


def common_type(left: Value | float, right: Value | float) -> str:
    """Return the type that PyTorch compares tensors and numbers in."""
    examples: list[Any] = [
        torch.empty((1,) * v.rank, dtype=getattr(torch, v.type.dtype))
        if isinstance(v, Value)
        else v
        for v in (left, right)
    ]
    return str(torch.result_type(*examples)).removeprefix("torch.")


def in_type(b: Builder, value: Value | float, dtype: str) -> Value:
    """Return a tensor or a number as a value of a type."""
    return b.cast(value, dtype) if isinstance(value, Value) else b.literal(value, dtype)


def compare(b: Builder, function, x: Value, y: Value | float) -> Value:
    """Return where a comparison of two tensors, or of a tensor and a number, holds."""
    dtype = common_type(x, y)
    return b.emit(ops.Compare(function), in_type(b, x, dtype), in_type(b, y, dtype))


def comparison(function: str) -> Rule:
    """Return the rule of a comparison."""
    return lambda b, x, y: compare(b, function, x, y)


for _name, _function in COMPARISONS.items():
    RULES[f"aten.{_name}"] = RULES[f"aten.{_function}"] = comparison(_function)


@rule("aten.isnan")
def _(b: Builder, x):
    return b.emit(ops.Compare("not_equal"), x, x)


@rule("aten.isinf")
def _(b: Builder, x):
    return compare(b, "equal", b.emit(ops.Activation("abs"), x), np.inf)


@rule("aten.isfinite")
def _(b: Builder, x):
    return compare(b, "less", b.emit(ops.Activation("abs"), x), np.inf)


@rule("aten.isposinf")
def _(b: Builder, x):
    return compare(b, "equal", x, np.inf)


@rule("aten.isneginf")
def _(b: Builder, x):
    return compare(b, "equal", x, -np.inf)


# ---------------------------------------------------------------------------------------- logic


@rule("aten.logical_and", "aten.bitwise_and", "aten.__and__")
def _(b: Builder, x, y):
    return logic(b, ops.Binary("minimum"), x, y)


@rule("aten.logical_or", "aten.bitwise_or", "aten.__or__")
def _(b: Builder, x, y):
    return logic(b, ops.Binary("maximum"), x, y)


@rule("aten.logical_xor", "aten.bitwise_xor", "aten.__xor__")
def _(b: Builder, x, y):
    return logic(b, ops.Compare("not_equal"), x, y)


@rule("aten.logical_not", "aten.bitwise_not")
def _(b: Builder, x):
    return logic(b, ops.Compare("equal"), x, False)


def logic(b: Builder, op: ops.Op, x: Value, y: Value | bool) -> Value:
    """Combine booleans, to which other tensors are converted; PyTorch's bits of integers differ."""
    return b.emit(op, in_type(b, x, "bool"), in_type(b, y, "bool"))


# -------------------------------------------------------------------------------------- choices


@rule("aten.clamp", "aten.hardtanh", "aten.clamp_min", "aten.clamp_max")
def _(b: Builder, x, low=None, high=None, **named):
    low, high = named.get("min", named.get("min_val", low)), named.get("max", high)
    bounds = (-float("inf") if low is None else low, float("inf") if high is None else high)
    if any(isinstance(bound, Value) for bound in bounds):
        above = x if low is None else binary(b, "maximum", x, low)
        return above if high is None else binary(b, "minimum", above, high)
    if x.type.element.is_integer:  # bounds wrap around into the type
        bounds = (bound if isinf(bound) else x.type.element.round(bound) for bound in bounds)
    return b.emit(ops.Activation("clamp", tuple(map(float, bounds))), x)


@rule("aten.where")
def _(b: Builder, condition, x=None, y=None):
    if x is None or y is None:
        return None  # the places where it holds: as many as there are
    return b.emit(
        ops.Where(), b.cast(condition, "bool"), in_type(b, x, b.dtype), in_type(b, y, b.dtype)
    )


@rule("aten.masked_fill")
def _(b: Builder, x, mask, value):
    return b.emit(ops.Where(), mask, in_type(b, value, b.dtype), x)


@rule("aten.tril")
def _(b: Builder, x, diagonal=0):
    kept = np.tri(x.shape[-2], x.shape[-1], diagonal, bool)
    return b.emit(ops.Where(), b.literal(kept, "bool"), x, b.literal(0, x.type.dtype))


@rule("aten.triu")
def _(b: Builder, x, diagonal=0):
    dropped = np.tri(x.shape[-2], x.shape[-1], diagonal - 1, bool)
    return b.emit(ops.Where(), b.literal(dropped, "bool"), b.literal(0, x.type.dtype), x)
