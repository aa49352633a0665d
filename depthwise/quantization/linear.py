"""Linear layers of integers, put together again: ONNX holds them as products of two matrices."""

from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter


def recompose_linear(graph: Graph) -> Graph:
    """Let a product with dequantised weights be a linear layer, and a sum after it its bias.

    matmul(x, dequantize(w))                   ->   linear(x, dequantize(wᵀ))
    matmul(x, permute(dequantize(w), 10)) + b  ->   linear(x, dequantize(w), b)
    """
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, ops.MatMul):
            _linear(edit, node)
        elif node.op == ops.Binary("add"):
            _biased(edit, node)
    return edit.result()


def _linear(edit: GraphRewriter, node: Node) -> None:
    made = edit.node(node.inputs[1])
    turned = made is not None and made.op == ops.Permute((1, 0))
    held = edit.node(made.inputs[0]) if made and turned else made
    if held is None or not isinstance(held.op, ops.Dequantize):
        return
    integers, outputs = edit.data(held.inputs[0]), 0 if turned else 1
    if integers is None or integers.ndim != 2 or held.op.axis not in (None, outputs):
        return
    name = edit.add_constant(f"{held.inputs[0]}.rows", integers if turned else integers.T)
    op = ops.Dequantize(held.op.dtype, None if held.op.axis is None else 0)
    weight = edit.insert(node, f"{held.name}.rows", op, name, *held.inputs[1:], path=node.path)
    edit.replace(node, ops.Linear(), node.inputs[0], weight)


def _biased(edit: GraphRewriter, node: Node) -> None:
    for name, other in (node.inputs, node.inputs[::-1]):
        layer = edit.private(name)
        fits = layer is not None and isinstance(layer.op, ops.Linear) and len(layer.inputs) == 2
        if layer and fits and edit.type(other).shape == layer.type.shape[-1:]:
            edit.replace(node, ops.Linear(), *layer.inputs, other)
            return
