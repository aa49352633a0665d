"""Concatenations of what is concatenated already."""

from depthwise.graph import Graph, Node
from depthwise.graph.ops import Concat
from depthwise.graph.rewrite import GraphRewriter


def nest_concat(graph: Graph) -> Graph:
    """Let a concatenation read the one that already holds its first parts.

        y = concat(a, b);  z = concat(a, b, c)   ->   y = concat(a, b);  z = concat(y, c)

    Then y lies within z, and a and b are written once for both: DenseNets concatenate all that
    they have computed before each layer.
    """
    edit = GraphRewriter(graph)
    order = {node.name: position for position, node in enumerate(graph)}
    for node in reversed(list(edit)):  # while the earlier ones still name all their parts
        if isinstance(node.op, Concat):
            earlier = [y for y in _prefixes(edit, node) if order[y.name] < order[node.name]]
            if earlier:
                y = max(earlier, key=lambda y: len(y.inputs))
                edit.replace(node, node.op, y.name, *node.inputs[len(y.inputs) :])
    return edit.result()


def _prefixes(edit: GraphRewriter, node: Node) -> list[Node]:
    """Return the concatenations whose parts are the first of `node`, which has more."""
    return [
        reader
        for reader in edit.readers(node.inputs[0])
        if reader.op == node.op
        and 1 < len(reader.inputs) < len(node.inputs)
        and reader.inputs == node.inputs[: len(reader.inputs)]
    ]
