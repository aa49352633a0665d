"""The rules of PyTorch's operators that make one value of many: extremes, totals, norms, distances.

Most are several of ours, as their definitions say. NaN and infinities come out as in PyTorch.
"""

from math import inf

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Ints, Rule, binary, reduce, rule
from depthwise.graph.frontends.torch.aten_shape import insert_axis

LARGEST = float(np.finfo(np.float32).max)


# ------------------------------------------------------------------------------------- extremes


def place(b: Builder, function, x: Value, dim: int | None, keepdim: bool) -> Value:
    """Return where an extreme lies along an axis; without one, in x laid flat."""
    if dim is not None and x.rank:
        return b.emit(ops.ArgReduce(function, x.axis(dim), keepdim), x)
    flat = b.emit(ops.Reshape((x.type.size,)), x)
    found = b.emit(ops.ArgReduce(function, 0, False), flat)
    return b.emit(ops.Reshape((1,) * x.rank), found) if keepdim and x.rank else found


def extreme(function, other) -> Rule:
    """Return the rule of max or min: of everything, along an axis with its places, or of two."""

    def lower(b: Builder, x, dim=None, keepdim=False):
        if isinstance(dim, Value):
            return binary(b, other, x, dim)
        if dim is None:
            return reduce(b, function, x, None, False)
        if not x.rank:
            return None
        places = place(b, function, x, dim, keepdim) if 1 in b.read else None
        return [reduce(b, function, x, dim, keepdim), places]

    return lower


RULES["aten.max"], RULES["aten.min"] = extreme("max", "maximum"), extreme("min", "minimum")


@rule("aten.argmax")
def _(b: Builder, x, dim=None, keepdim=False):
    return place(b, "max", x, dim, keepdim)


@rule("aten.argmin")
def _(b: Builder, x, dim=None, keepdim=False):
    return place(b, "min", x, dim, keepdim)


@rule("aten.aminmax")
def _(b: Builder, x, dim=None, keepdim=False):
    return [reduce(b, function, x, dim, keepdim) for function in ("min", "max")]


# --------------------------------------------------------------------------------- truth, totals


def truth(function) -> Rule:
    """Return the rule of any or all: the largest or smallest of truths; of uint8 a uint8."""
    return lambda b, x, dim=None, keepdim=False: b.cast(
        reduce(b, function, b.cast(x, "bool"), dim, keepdim), b.dtype
    )


RULES["aten.any"], RULES["aten.all"] = truth("max"), truth("min")


@rule("aten.count_nonzero")
def _(b: Builder, x, dim=None):
    return reduce(b, "sum", b.cast(b.cast(x, "bool"), b.dtype), dim, False)


@rule("aten.sum")
def _(b: Builder, x, dim=None, keepdim=False, dtype=None):
    return reduce(b, "sum", x, dim, keepdim)


@rule("aten.mean")
def _(b: Builder, x, dim=None, keepdim=False, dtype=None):
    return reduce(b, "mean", x, dim, keepdim)


@rule("aten.prod")
def _(b: Builder, x, dim=None, keepdim=False, dtype=None):
    return reduce(b, "product", x, dim, keepdim)


def without_nan(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return which elements are numbers, and x with 0 for the others."""
    known = b.emit(ops.Compare("equal"), x, x)
    return known, b.emit(ops.Where(), known, x, b.literal(0.0, x.type.dtype))


@rule("aten.nansum")
def _(b: Builder, x, dim=None, keepdim=False, dtype=None):
    return reduce(b, "sum", without_nan(b, x)[1], dim, keepdim)


@rule("aten.nanmean")
def _(b: Builder, x, dim=None, keepdim=False, dtype=None):
    known, numbers = without_nan(b, x)
    count = reduce(b, "sum", b.cast(known, b.dtype), dim, keepdim)
    return binary(b, "divide", reduce(b, "sum", numbers, dim, keepdim), count)


@rule("aten.logsumexp")
def _(b: Builder, x, dim, keepdim=False):
    """The largest is taken off first, else exp may overflow; an infinite one stays where it is."""
    bounds = ops.Activation("clamp", (-LARGEST, LARGEST))
    most = b.emit(bounds, reduce(b, "max", x, dim, True))
    powers = b.emit(ops.Activation("exp"), binary(b, "subtract", x, most))
    total = b.emit(ops.Activation("log"), reduce(b, "sum", powers, dim, True))
    y = binary(b, "add", total, most)
    return y if keepdim else reduce(b, "sum", y, dim, False)  # each sum is of one element


# -------------------------------------------------------------------------------- norms, distances


def norm(
    b: Builder, x: Value, order: float | None = 2, dim: Ints | None = None, keepdim: bool = False,
    dtype=None,
) -> Value:  # fmt: skip
    """Return the `order`-norm of vectors; of order 0 how many elements are not zero."""
    order = 2.0 if order is None else float(order)
    if order == 2:
        squares = reduce(b, "sum", binary(b, "multiply", x, x), dim, keepdim)
        return b.emit(ops.Activation("sqrt"), squares)
    if order == 0:
        return reduce(b, "sum", b.cast(b.cast(x, "bool"), b.dtype), dim, keepdim)
    size = b.emit(ops.Activation("abs"), x)
    if order == 1:
        return reduce(b, "sum", size, dim, keepdim)
    if order in (inf, -inf):
        return reduce(b, "max" if order > 0 else "min", size, dim, keepdim)
    powers = b.emit(ops.Activation("power", (order,)), size)
    return b.emit(ops.Activation("power", (1 / order,)), reduce(b, "sum", powers, dim, keepdim))


RULES["aten.linalg_vector_norm"] = RULES["aten.norm"] = norm


@rule("aten.frobenius_norm")
def _(b: Builder, x, dim, keepdim=False):
    return norm(b, x, 2, dim, keepdim)


@rule("aten.linalg_matrix_norm")
def _(b: Builder, x, ord="fro", dim=(-2, -1), keepdim=False, dtype=None):
    """The largest sum of a column or row; norms by singular values we do not know."""
    if ord == "fro":
        return norm(b, x, 2, dim, keepdim)
    if ord not in (1, -1, inf, -inf):
        return None
    rows, columns = (x.axis(axis) for axis in dim)
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = norm(b, x, 1, inner, True)
    most = reduce(b, "max" if ord > 0 else "min", sums, outer, True)
    return most if keepdim else reduce(b, "sum", most, dim, False)  # each sum is of one element


@rule("aten.linalg_norm")
def _(b: Builder, x, ord=None, dim=None, keepdim=False, dtype=None):
    """Of a matrix where an order is given with two axes, or without any; else of vectors."""
    axes = range(x.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    if ord is None or len(axes) == 1:
        return norm(b, x, ord, dim, keepdim)
    return RULES["aten.linalg_matrix_norm"](b, x, ord, tuple(axes), keepdim)


def expanded(b: Builder, x: Value, shape: tuple[int, ...]) -> Value:
    """Return x broadcast to a shape, x itself where it has that."""
    return x if x.shape == shape else b.emit(ops.Expand(shape), x)


@rule("aten.cosine_similarity")
def _(b: Builder, x, y, dim=1, eps=1e-8):
    shape = np.broadcast_shapes(x.shape, y.shape)
    unit = []
    for one in (expanded(b, x, shape), expanded(b, y, shape)):
        length = b.emit(ops.Activation("clamp", (eps, inf)), norm(b, one, 2, dim, True))
        unit.append(binary(b, "divide", one, length))
    return reduce(b, "sum", binary(b, "multiply", *unit), dim, False)


@rule("aten.pairwise_distance")
def _(b: Builder, x, y, p=2.0, eps=1e-6, keepdim=False):
    apart = binary(b, "add", binary(b, "subtract", x, y), eps)
    return norm(b, apart, p, apart.rank - 1, keepdim)


@rule("aten.dist")
def _(b: Builder, x, y, p=2):
    return norm(b, binary(b, "subtract", x, y), p)


@rule("aten.cdist", "aten._cdist_forward")
def _(b: Builder, x, y, p=2.0, compute_mode=None):
    """Take each row of x from each of y: (..., P, 1, M) and (..., 1, R, M)."""
    apart = binary(b, "subtract", insert_axis(b, x, x.rank - 1), insert_axis(b, y, y.rank - 2))
    return norm(b, apart, p, apart.rank - 1)
