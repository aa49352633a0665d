"""Comparisons, logic and choices."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import rule

COMPARISONS = {
    "Equal": "equal", "Less": "less", "LessOrEqual": "less_equal", "Greater": "greater",
    "GreaterOrEqual": "greater_equal", "Xor": "not_equal",
}  # fmt: skip


def compare(n: Operands, function, x: Value, y: Value) -> Value:
    """Return where a comparison holds."""
    return n.emit(ops.Compare(function), x, y)


@rule(*COMPARISONS)
def _(n: Operands):
    return compare(n, COMPARISONS[n.node.op_type], n[0], n[1])


@rule("And", "Or")
def _(n: Operands):
    return n.binary("minimum" if n.node.op_type == "And" else "maximum", n[0], n[1])


@rule("Not")
def _(n: Operands):
    return compare(n, "equal", n[0], n.constant(False))


@rule("IsNaN")
def _(n: Operands):
    return compare(n, "not_equal", n[0], n[0])


@rule("IsInf")
def _(n: Operands, *, detect_negative=1, detect_positive=1):
    if detect_negative and detect_positive:
        return compare(n, "equal", n.unary("abs", n[0]), n.constant(np.inf))
    if detect_negative or detect_positive:
        return compare(n, "equal", n[0], n.constant(-np.inf if detect_negative else np.inf))
    return compare(n, "less", n[0], n[0])  # nowhere


@rule("Where")
def _(n: Operands):
    return n.emit(ops.Where(), n[0], n[1], n[2])
