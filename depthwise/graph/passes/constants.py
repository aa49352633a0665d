"""What depends on constants alone."""

from depthwise.graph import Graph
from depthwise.graph.interpret import compute
from depthwise.graph.rewrite import GraphRewriter


def fold_constants(graph: Graph) -> Graph:
    """Compute once and now what reads constants only.

        y = exp(c)   ->   the constant y

    A returned value stays a node: the outputs of a library are computed.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        data = [edit.data(name) for name in node.inputs]
        known = [array for array in data if array is not None]
        if known and len(known) == len(data) and not edit.is_output(node.name):
            edit.replace_with_constant(node, compute(node.op, node.type, *known))
    return edit.result()
