"""Sums after a convolution."""

from depthwise.compiler.fused_ops import Epilogue, Fused, convolution
from depthwise.graph import Graph, Node
from depthwise.graph.ops import Binary, Convolution
from depthwise.graph.rewrite import GraphRewriter, with_bias


def fuse_residual(graph: Graph) -> Graph:
    """Add a residual while the convolution's result is still in registers.

        z = conv(x, w, b) + r         ->   z = fused(x, w, b, r),  add
        z = act(conv(x, w, b)) + r    ->   z = fused(x, w, b, r),  before = act, add

    Only where nothing else reads the left term and r has its shape. Of two convolutions the one
    computed last takes the sum, since the other's result is then there.
    """
    edit = GraphRewriter(graph)
    order = {node.name: position for position, node in enumerate(graph)}
    for node in edit:
        if node.op != Binary("add"):
            continue
        terms = [term for value in node.inputs if (term := _taker(edit, node, value))]
        if not terms:
            continue
        conv = max(terms, key=lambda term: order[term.name])
        residual = next(value for value in node.inputs if value != conv.name)
        if isinstance(conv.op, Fused):
            op, inputs, before = conv.op.op, conv.inputs, conv.op.epilogue.after
        else:
            op, inputs, before = conv.op, with_bias(edit, conv), None
        assert isinstance(op, Convolution)
        fused = Fused(op, Epilogue(before=before, add=True))
        edit.replace(node, fused, *inputs, residual, path=conv.path)
    return edit.result()


def _taker(edit: GraphRewriter, add: Node, value: str) -> Node | None:
    """Return the convolution that gives this term of the sum, if it can take the other in."""
    conv = edit.private(value)
    if conv is None or not convolution(conv.op):
        return None
    free = not (isinstance(conv.op, Fused) and conv.op.epilogue.add)
    same = all(edit.type(term).shape == add.type.shape for term in add.inputs)
    constant = any(edit.data(term) is not None for term in add.inputs)
    return conv if free and same and not constant else None
