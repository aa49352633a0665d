"""Products of matrices, and sums and other reductions over axes."""

from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.einsum import einsum, takes_diagonal
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule


@rule("MatMul")
def _(n: Operands):
    """A product with a known matrix is a linear layer."""
    x = n[0]
    if n.is_known(1) and len(n.shape(1)) == 2:
        return n.emit(ops.Linear(), x, n.derived(1, np.transpose))
    y = n[1]
    left = n.reshape(x, 1, *x.shape) if x.rank == 1 else x
    right = n.reshape(y, *y.shape, 1) if y.rank == 1 else y
    z = n.emit(ops.MatMul(), left, right)
    rows, columns = x.shape[:-1] and z.shape[-2:-1], y.shape[1:] and z.shape[-1:]
    return n.reshape(z, *z.shape[:-2], *rows, *columns)


@rule("Gemm")
def _(n: Operands, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    """A linear layer: alpha, and beta of a bias that is one row, are part of its weights."""
    x = n.permute(n[0], 1, 0) if transA else n[0]
    if not n.is_known(1):
        product = n.emit(ops.MatMul(), x, n.permute(n[1], 1, 0) if transB else n[1])
        product = product if alpha == 1 else n.binary("multiply", product, alpha)
        return _add_term(n, product, beta)
    turned = (lambda data: data) if transB else np.transpose
    weight = n.derived(1, lambda data: data.dtype.type(alpha) * turned(data))
    width = weight.shape[0]
    one_row = n.is_known(2) and np.prod(n.shape(2)) in (1, width) and n.shape(2)[-1:] != (0,)
    if not (beta and one_row):
        return _add_term(n, n.emit(ops.Linear(), x, weight), beta)
    if n.shape(2) != n.shape(2)[-1:] and n.shape(2)[-1] != width:  # a column, one number a row
        return _add_term(n, n.emit(ops.Linear(), x, weight), beta)
    bias = n.derived(
        2, lambda data: np.broadcast_to(data.dtype.type(beta) * data.ravel(), width).copy()
    )
    return n.emit(ops.Linear(), x, weight, bias)


def _add_term(n: Operands, product: Value, beta: float) -> Value:
    """Return product + beta · the third operand, if there is one; 0 times one is not read."""
    if not (beta and n.has(2) and np.prod(n.shape(2))):
        return product
    return n.binary("add", product, n[2] if beta == 1 else n.binary("multiply", n[2], beta))


# ------------------------------------------------------------------------------------- reductions

REDUCTIONS = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min",
    "ReduceProd": "product",
}  # fmt: skip


def axes_of(n: Operands, x: Value, axes: Any, noop: int) -> tuple[int, ...]:
    """Return the axes to reduce over: an attribute, or an operand since opset 18 (sums: 13)."""
    numbers = n.ints(1) if axes is None and n.has(1) else axes
    if not numbers:
        return () if noop else tuple(range(x.rank))
    return tuple(sorted(n.axis(x, axis) for axis in numbers))


@rule(*REDUCTIONS)
def _(n: Operands, *, axes=None, keepdims=1, noop_with_empty_axes=0):
    x, over = n[0], axes_of(n, n[0], axes, noop_with_empty_axes)
    return reduced(n, REDUCTIONS[n.node.op_type], x, over, keepdims)


def reduced(n: Operands, function: Any, x: Value, axes: tuple[int, ...], keep: int = 1) -> Value:
    """Return x reduced over axes, x itself where there are none."""
    return n.emit(ops.Reduce(function, axes, bool(keep)), x) if axes else x


@rule("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def _(n: Operands, *, axes=None, keepdims=1, noop_with_empty_axes=0):
    x, over = n[0], axes_of(n, n[0], axes, noop_with_empty_axes)
    match n.node.op_type:
        case "ReduceL1":
            return reduced(n, "sum", n.unary("abs", x), over, keepdims)
        case "ReduceLogSum":
            return n.unary("log", reduced(n, "sum", x, over, keepdims))
    squares = reduced(n, "sum", n.binary("multiply", x, x), over, keepdims)
    return n.unary("sqrt", squares) if n.node.op_type == "ReduceL2" else squares


@rule("ReduceLogSumExp")
def _(n: Operands, *, axes=None, keepdims=1, noop_with_empty_axes=0):
    """log(sum(exp(x))), of x less its maximum if that is finite: no exponent overflows."""
    x, over = n[0], axes_of(n, n[0], axes, noop_with_empty_axes)
    if not over:
        return x
    largest = float(np.finfo(np.float32).max)
    most = n.unary("clamp", reduced(n, "max", x, over), -largest, largest)
    y = n.binary("add", n.unary("log", reduced(n, "sum", _powers(n, x, most), over)), most)
    left = (size for axis, size in enumerate(y.shape) if axis not in over)
    return y if keepdims else n.reshape(y, *left)


def _powers(n: Operands, x: Value, most: Value) -> Value:
    return n.unary("exp", n.binary("subtract", x, most))


# ---------------------------------------------------------------------------------------- softmax


@rule("Softmax", "LogSoftmax")
def _(n: Operands, *, axis=None):
    """Over one axis; before opset 13 over all from `axis` on, which was 1 if not given."""
    x = n[0]
    first = n.axis(x, axis if axis is not None else -1 if n.opset >= 13 else 1)
    over = first
    if n.opset < 13 and x.shape[first + 1 :].count(1) != x.rank - first - 1:
        before = int(np.prod(x.shape[:first]))
        x, over = n.reshape(x, before, x.type.size // before), 1
    if n.node.op_type == "Softmax":
        y = n.emit(ops.Softmax(over), x)
    else:
        apart = n.binary("subtract", x, reduced(n, "max", x, (over,)))
        total = reduced(n, "sum", n.unary("exp", apart), (over,))
        y = n.binary("subtract", apart, n.unary("log", total))
    return n.reshape(y, *n[0].shape)


# ----------------------------------------------------------------------------------------- einsum


@rule("Einsum")
def _(n: Operands, *, equation):
    refuse(takes_diagonal(equation), "its equation takes a diagonal")
    return einsum(n.emit, equation, n.all())
