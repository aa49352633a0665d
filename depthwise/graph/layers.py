"""Which nodes are layers whose weights are known, as those that fit or round them take them."""

from depthwise.graph import Graph, Node, ops


def is_layer(graph: Graph, node: Node) -> bool:
    """Tell whether a node is a convolution or linear layer with constant weights."""
    return (
        isinstance(node.op, ops.Conv2d | ops.Linear)
        and node.inputs[0] not in graph.constants
        and all(name in graph.constants for name in node.inputs[1:])
    )
