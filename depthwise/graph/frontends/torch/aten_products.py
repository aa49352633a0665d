"""The rules of PyTorch's products of vectors and matrices, and of attention."""

from math import prod, sqrt

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.einsum import einsum, takes_diagonal
from depthwise.graph.frontends.torch.aten import binary, reduce, rule
from depthwise.graph.frontends.torch.aten_shape import insert_axis
from depthwise.graph.frontends.torch.refusal import Refusal


def reshaped(b: Builder, x: Value, *shape: int) -> Value:
    """Return x in another shape, x itself where it has that shape."""
    return x if shape == x.shape else b.emit(ops.Reshape(shape), x)


def turned(b: Builder, x: Value) -> Value:
    """Return the transpose of each matrix (..., M, K)."""
    return b.emit(ops.Permute((*range(x.rank - 2), x.rank - 1, x.rank - 2)), x)


@rule("aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot")
def product(b: Builder, x, y):
    """Multiply matrices; a vector on the left is a row, on the right a column."""
    left = insert_axis(b, x, 0) if x.rank == 1 else x
    right = insert_axis(b, y, 1) if y.rank == 1 else y
    z = b.emit(ops.MatMul(), left, right)
    rows, columns = x.shape[:-1] and z.shape[-2:-1], y.shape[1:] and z.shape[-1:]
    return reshaped(b, z, *z.shape[:-2], *rows, *columns)


def scaled(b: Builder, x: Value, factor: float) -> Value:
    """Return x times a number, x itself where that is 1."""
    return x if factor == 1 else binary(b, "multiply", x, factor)


def add_product(b: Builder, bias, x, y, *, beta=1, alpha=1) -> Value:
    """Return beta · bias + alpha · x @ y; what bias holds is not looked at where beta is 0."""
    z = scaled(b, product(b, x, y), alpha)
    total = z if beta == 0 else binary(b, "add", scaled(b, bias, beta), z)
    return total if total.shape == z.shape else b.emit(ops.Expand(z.shape), total)


for name in ("addmm", "baddbmm", "addmv"):
    rule(f"aten.{name}")(add_product)


@rule("aten.addbmm")
def _(b: Builder, bias, x, y, *, beta=1, alpha=1):
    """Sum the products of a batch, which is one product of matrices that lie beside each other."""
    n, rows, inner = x.shape
    left = reshaped(b, b.emit(ops.Permute((1, 0, 2)), x), rows, n * inner)
    right = reshaped(b, y, n * inner, y.shape[2])
    return add_product(b, bias, left, right, beta=beta, alpha=alpha)


@rule("aten.outer", "aten.ger")
def outer(b: Builder, x, y):
    """Multiply each element of x with each of y."""
    return binary(b, "multiply", insert_axis(b, x, 1), insert_axis(b, y, 0))


@rule("aten.addr")
def _(b: Builder, bias, x, y, *, beta=1, alpha=1):
    z = scaled(b, outer(b, x, y), alpha)
    return z if beta == 0 else binary(b, "add", scaled(b, bias, beta), z)


@rule("aten.inner")
def _(b: Builder, x, y):
    if not x.rank or not y.rank:
        return binary(b, "multiply", x, y)
    z = product(b, reshaped(b, x, prod(x.shape[:-1]), x.shape[-1]),
                turned(b, reshaped(b, y, prod(y.shape[:-1]), y.shape[-1])))  # fmt: skip
    return reshaped(b, z, *x.shape[:-1], *y.shape[:-1])


@rule("aten.linalg_multi_dot", "aten.chain_matmul")
def _(b: Builder, matrices):
    first, *others = matrices
    for other in others:
        first = product(b, first, other)
    return first


@rule("aten.tensordot")
def _(b: Builder, x, y, dims_self, dims_other):
    """Sum over pairs of axes: the others of x come first, then those of y."""
    over, along = [x.axis(axis) for axis in dims_self], [y.axis(axis) for axis in dims_other]
    rows = [axis for axis in range(x.rank) if axis not in over]
    columns = [axis for axis in range(y.rank) if axis not in along]
    inner = prod(x.shape[axis] for axis in over)
    left = b.emit(ops.Permute((*rows, *over)), x)
    right = b.emit(ops.Permute((*along, *columns)), y)
    sizes = [x.shape[axis] for axis in rows], [y.shape[axis] for axis in columns]
    z = b.emit(ops.MatMul(), reshaped(b, left, prod(sizes[0]), inner),
               reshaped(b, right, inner, prod(sizes[1])))  # fmt: skip
    return reshaped(b, z, *sizes[0], *sizes[1])


@rule("aten.einsum")
def _(b: Builder, equation, tensors, path=None):
    if takes_diagonal(equation):
        raise Refusal(
            f"is not supported: the equation {equation!r} takes a diagonal: multiply by a mask of "
            "ones, as in x * eye, and sum"
        )
    return einsum(b.emit, equation, tensors)


@rule("aten.bilinear")
def _(b: Builder, x, y, weight, bias=None):
    """Sum x[i] · weight[k, i, j] · y[j] over i and j."""
    z = einsum(b.emit, "...i,kij,...j->...k", [x, weight, y])
    return binary(b, "add", z, bias) if bias else z


@rule("aten.rms_norm")
def _(b: Builder, x, normalized_shape, weight=None, eps=None):
    """Return x / sqrt(mean(x²) + eps) · weight. arXiv:1910.07467, equation 4."""
    axes = list(range(-len(normalized_shape), 0))
    eps = float(np.finfo(np.float32).eps) if eps is None else eps
    mean = binary(b, "add", reduce(b, "mean", binary(b, "multiply", x, x), axes, True), eps)
    y = binary(b, "multiply", x, b.emit(ops.Activation("reciprocal_sqrt"), mean))
    return binary(b, "multiply", y, weight) if weight else y


# -------------------------------------------------------------------------------------- attention


@rule("aten.scaled_dot_product_attention")
def _(
    b: Builder, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
    enable_gqa=False,
):  # fmt: skip
    """Return softmax(scale · q kᵀ + mask) v. arXiv:1706.03762, equation 1."""
    if dropout_p:
        raise Refusal(f"drops weights (dropout_p={dropout_p:g}): call it with dropout_p=0")
    if enable_gqa:
        key, value = (repeat_heads(b, v, query.shape[-3]) for v in (key, value))
    factor = 1 / sqrt(query.shape[-1]) if scale is None else scale
    scores = product(b, scaled(b, query, factor), turned(b, key))
    if is_causal:
        mask = np.where(np.tri(query.shape[-2], key.shape[-2], dtype=bool), 0.0, -np.inf)
    elif attn_mask is None:
        mask = np.zeros(1)
    elif (numbers := known(b, attn_mask)) is not None:
        mask = np.where(numbers, 0.0, -np.inf) if numbers.dtype == bool else numbers
    else:
        return product(b, softmax_of_seen(b, masked(b, scores, attn_mask)), value)
    blind = (mask == -np.inf).all(-1, keepdims=True)  # rows that see nothing, which give zeros
    if mask.any():
        literal = b.literal(np.where(blind, 0, mask), query.type.dtype)
        scores = binary(b, "add", scores, literal)
    y = product(b, b.emit(ops.Softmax(scores.rank - 1), scores), value)
    if not blind.any():
        return y
    return binary(b, "multiply", y, b.literal((~blind).astype(np.float32), query.type.dtype))


def known(b: Builder, x: Value) -> np.ndarray | None:
    """Return the numbers of a constant, None for what is computed."""
    constant = b.constants.get(x.name)
    return constant.numbers if constant else None


def masked(b: Builder, scores: Value, mask: Value) -> Value:
    """Return scores with a computed mask added, or without those that one of booleans hides."""
    if mask.type.dtype != "bool":
        return binary(b, "add", scores, mask)
    return b.emit(ops.Where(), mask, scores, b.literal(-np.inf, scores.type.dtype))


def softmax_of_seen(b: Builder, scores: Value) -> Value:
    """Return softmax along the last axis, zeros where all scores are minus infinity."""
    zero, lowest = (b.literal(number, scores.type.dtype) for number in (0.0, -np.inf))
    blind = b.emit(ops.Compare("equal"), reduce(b, "max", scores, -1, True), lowest)
    finite = b.emit(ops.Where(), blind, zero, scores)
    return b.emit(ops.Where(), blind, zero, b.emit(ops.Softmax(scores.rank - 1), finite))


def repeat_heads(b: Builder, x: Value, heads: int) -> Value:
    """Return (..., H, L, E) with each head as often as makes `heads` of them."""
    *batch, own, length, width = x.shape
    apart = reshaped(b, x, *batch, own, 1, length, width)
    wide = b.emit(ops.Expand((*batch, own, heads // own, length, width)), apart)
    return reshaped(b, wide, *batch, heads, length, width)
