"""The rules of PyTorch's operators that select: sorting, medians, running totals, unpooling.

Of equal elements the first is taken and stays the first, where PyTorch leaves open which is.
"""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Rule, binary, image_rule, pair, reduce, rule
from depthwise.graph.frontends.torch.aten_shape import cut, insert_axis
from depthwise.graph.frontends.torch.refusal import Refusal
from depthwise.graph.ops import NO_PADDING, Pair

# ------------------------------------------------------------------------------------- sorting


def top(b: Builder, x: Value, count: int, dim: int, largest: bool) -> list[Value | None]:
    """Return the first of the sorted elements along an axis, and their places if they are read."""
    names: tuple = ("values", "indices")
    return [
        b.emit(ops.TopK(x.axis(dim), count, largest, name), x) if number in b.read else None
        for number, name in enumerate(names)
    ]


@rule("aten.topk")
def _(b: Builder, x, k, dim=-1, largest=True, sorted=True):
    return top(b, x, k, dim, largest)


@rule("aten.sort")
def _(b: Builder, x, dim=-1, descending=False, stable=False):
    return top(b, x, x.shape[dim], dim, descending)


@rule("aten.argsort")
def _(b: Builder, x, dim=-1, descending=False, stable=False):
    return b.emit(ops.TopK(x.axis(dim), x.shape[dim], descending, "indices"), x)


@rule("aten.msort")
def _(b: Builder, x):
    return b.emit(ops.TopK(0, x.shape[0], False, "values"), x)


def last_along(b: Builder, x: Value, axis: int, keepdim: bool) -> Value:
    """Return the last element along an axis."""
    size = x.shape[axis]
    return reduce(b, "max", cut(b, x, axis, size - 1, size), axis, keepdim)


@rule("aten.kthvalue")
def _(b: Builder, x, k, dim=-1, keepdim=False):
    found = top(b, x, k, dim, largest=False)
    return [part and last_along(b, part, x.axis(dim), keepdim) for part in found]


@rule("aten.median")
def _(b: Builder, x, dim=None, keepdim=False):
    """Return the lower one of two in the middle, NaN where any is."""
    if dim is None:
        x = b.emit(ops.Reshape((x.type.size,)), x)
    axis = x.axis(dim or 0)
    most = reduce(b, "max", x, axis, keepdim)

    def middle(result) -> Value:
        half = ops.TopK(axis, (x.shape[axis] + 1) // 2, False, result)
        return last_along(b, b.emit(half, x), axis, keepdim)

    # none is larger than the largest: that one is NaN, or changes nothing
    value = binary(b, "minimum", middle("values"), most)
    if dim is None or 1 not in b.read:
        return value if dim is None else [value, None]
    missing = b.emit(ops.Compare("not_equal"), most, most)
    first = b.emit(ops.ArgReduce("max", axis, keepdim), x)
    return [value, b.emit(ops.Where(), missing, first, middle("indices"))]


# -------------------------------------------------------------------------------- running totals


@rule("aten.cumsum")
def _(b: Builder, x, dim, dtype=None):
    return b.emit(ops.Cumulate("sum", x.axis(dim)), x) if x.rank else x


@rule("aten.cumprod")
def _(b: Builder, x, dim, dtype=None):
    return b.emit(ops.Cumulate("product", x.axis(dim)), x) if x.rank else x


def running_extreme(function) -> Rule:
    """Return the rule of cummax or cummin."""

    def lower(b: Builder, x, dim):
        if 1 in b.read:
            raise Refusal(
                "gives the places of running extremes, which the graph has no operator for: take "
                "its values alone, or keep it outside of the network"
            )
        return [b.emit(ops.Cumulate(function, x.axis(dim)), x), None]

    return lower


RULES["aten.cummax"], RULES["aten.cummin"] = running_extreme("max"), running_extreme("min")


# ------------------------------------------------------------------------------ places of maxima


@image_rule("aten.adaptive_max_pool2d")
def _(b: Builder, x, output_size):
    size = pair(output_size)
    places = adaptive_places(b, x, size) if 1 in b.read else None
    return [b.emit(ops.AdaptivePool2d("max", size), x), places]


def adaptive_places(b: Builder, x: Value, size: Pair) -> Value:
    """Return where the maxima of bins lie, which must be windows side by side."""
    kernel = (x.shape[2] // size[0], x.shape[3] // size[1])
    if (kernel[0] * size[0], kernel[1] * size[1]) != x.shape[2:]:
        raise Refusal(
            f"gives the places of maxima in bins of several sizes: pool planes of {x.shape[2:]} "
            "pixels to sizes that divide them, or take its values alone"
        )
    op = ops.MaxPoolIndices(kernel, kernel, NO_PADDING, (1, 1), ceil=False)
    return b.emit(op, x)


@rule("aten.max_unpool2d")
def _(b: Builder, x, indices, output_size):
    return b.emit(ops.MaxUnpool2d(pair(output_size)), x, indices)


@rule("aten.one_hot")
def _(b: Builder, x, num_classes=-1):
    if num_classes < 0:
        return None  # as many as the largest class says
    classes = b.literal(np.arange(num_classes), x.type.dtype)
    holds = b.emit(ops.Compare("equal"), insert_axis(b, x, x.rank), classes)
    return b.cast(holds, b.dtype)


# ------------------------------------------------------------------------------------- refusals


@rule(
    "aten.nonzero", "aten.nonzero_numpy", "aten._unique2", "aten.unique_dim",
    "aten.unique_consecutive", "aten.bincount",
)  # fmt: skip
def _(b: Builder, *_unused, **_named):
    raise Refusal(
        "gives as many elements as the values decide, and a library's sizes are fixed: end the "
        "network before it, and do it with what the library returns"
    )
