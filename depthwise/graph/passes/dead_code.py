"""What nothing reads."""

from depthwise.graph import Graph
from depthwise.graph.rewrite import GraphRewriter


def remove_dead_code(graph: Graph) -> Graph:
    """Drop the nodes and constants that no output depends on.

        y = conv(x, w);  z = relu(x);  return y   ->   y = conv(x, w);  return y
    """  # fmt: skip
    edit = GraphRewriter(graph)
    for name in [*(node.name for node in graph), *graph.constants]:
        edit.drop_if_unread(name)
    return edit.result()
