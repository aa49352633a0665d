"""Comparisons and choices in ONNX."""

from depthwise.graph import ops
from depthwise.graph.exporters.onnx.rules import write

COMPARE = {
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}  # fmt: skip


@write.register
def _(op: ops.Compare, node, a, b):
    if op.function == "not_equal":
        return node.add("Not", node.add("Equal", a, b))
    return node.add(COMPARE[op.function], a, b)


@write.register
def _(op: ops.Where, node, condition, a, b):
    return node.add("Where", condition, a, b)
