"""Element-by-element operators in a row."""

from dataclasses import replace

from depthwise.compiler.fused_ops import Arithmetic, Epilogue, Fused, is_function
from depthwise.graph import Graph, Node
from depthwise.graph.ops import Activation, Binary
from depthwise.graph.rewrite import GraphRewriter


def fuse_arithmetic(graph: Graph) -> Graph:
    """Pass over memory once for arithmetic, the sum after it and its activation.

        z = a · b + r        ->   z = fused(a, b, r),  add
        z = act(a + b)       ->   z = fused(a, b),  after = act
        z = act(a · b + r)   ->   z = fused(a, b, r),  add, after = act

    Any arithmetic of two tensors that has an epilogue takes an activation, and so does a BatchNorm
    that could not be folded. Only where nothing else reads what lies between; the sum, where both
    its terms have its shape. After the passes that give sums and activations to convolutions.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, Activation) and not is_function(node.op):
            _take_activation(edit, node, node.op)
        elif node.op == Binary("add"):
            _take_sum(edit, node)
    return edit.result()


def _take_activation(edit: GraphRewriter, node: Node, activation: Activation) -> None:
    first = edit.private(node.inputs[0])
    if first is None:
        return
    op, epilogue = first.op, Epilogue()
    if isinstance(op, Fused):
        op, epilogue = op.op, op.epilogue
    if isinstance(op, Arithmetic) and not is_function(op) and epilogue.after is None:
        edit.replace(node, Fused(op, replace(epilogue, after=activation)), *first.inputs)


def _take_sum(edit: GraphRewriter, node: Node) -> None:
    if any(edit.type(term).shape != node.type.shape for term in node.inputs):
        return
    for term, other in (node.inputs, node.inputs[::-1]):
        product = edit.private(term)
        if product is not None and product.op == Binary("multiply"):
            fused = Fused(Binary("multiply"), Epilogue(add=True))
            edit.replace(node, fused, *product.inputs, other)
            return
