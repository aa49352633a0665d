"""Layer normalisation, which exporters wrote out before ONNX had it (opset 17)."""

from itertools import permutations
from typing import Literal

from depthwise.graph import ops
from depthwise.graph.graph import Node
from depthwise.graph.rewrite import GraphRewriter

Arithmetic = Literal["multiply", "add"]


def recompose_layer_norm(edit: GraphRewriter, node: Node) -> None:
    """Put together a layer norm that ends in a division, then what scales and shifts it.

    (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) · weight + bias
    """
    found = _find_layer_norm(edit, node)
    if found is None:
        return
    x, op = found
    edit.replace(node, op, x)
    shape = node.type.shape[-op.axes :]
    steps: tuple[tuple[Arithmetic, int], ...] = (("multiply", 1), ("add", 2))
    for function, needed in steps:
        last = edit.node(node.name)
        assert last is not None
        after = _with_constant(edit, last, function, shape)
        if after is None or len(last.inputs) != needed:
            return
        reader, constant = after
        edit.replace(reader, op, *last.inputs, constant)
        node = reader


def _find_layer_norm(edit: GraphRewriter, node: Node) -> tuple[str, ops.LayerNorm] | None:
    """Return x and the operator, if a node is a division that normalises x over its last axes."""
    if node.op != ops.Binary("divide"):
        return None
    apart, root = edit.node(node.inputs[0]), edit.private(node.inputs[1])
    if apart is None or apart.op != ops.Binary("subtract") or edit.is_output(apart.name):
        return None
    x, mean = apart.inputs[0], edit.private(apart.inputs[1])
    if mean is None or mean.inputs != (x,) or root is None or len(edit.readers(apart.name)) != 2:
        return None
    total = edit.private(root.inputs[0]) if root.op == ops.Activation("sqrt") else None
    if total is None or total.op != ops.Binary("add"):
        return None
    for value, other in permutations(total.inputs):
        variance, eps = edit.private(value), edit.data(other)
        square = edit.private(variance.inputs[0]) if variance else None
        rank = len(node.type.shape)
        if (
            variance and square and eps is not None and eps.size == 1
            and isinstance(mean.op, ops.Reduce) and mean.op == variance.op
            and mean.op.function == "mean" and mean.op.keep and node.type == edit.type(x)
            and mean.op.axes == tuple(range(mean.op.axes[0], rank))
            and (square.op, square.inputs) in (
                (ops.Activation("power", (2.0,)), (apart.name,)),
                (ops.Binary("multiply"), (apart.name, apart.name)),
            )
        ):  # fmt: skip
            return x, ops.LayerNorm(len(mean.op.axes), float(eps.item()))
    return None


def _with_constant(
    edit: GraphRewriter, node: Node, function: Arithmetic, shape: tuple[int, ...]
) -> tuple[Node, str] | None:
    """Return the one reader of a node that combines it with a constant of a shape, and that."""
    readers = edit.readers(node.name)
    if len(readers) != 1 or edit.is_output(node.name):
        return None
    others = [name for name in readers[0].inputs if name != node.name]
    fits = len(others) == 1 and edit.data(others[0]) is not None
    if readers[0].op != ops.Binary(function) or not fits or edit.type(others[0]).shape != shape:
        return None
    return readers[0], others[0]
