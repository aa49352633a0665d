"""Which values share a buffer: parts of a concatenation and slices of channels.

y = concat(a, b)   ->   a and b are written where y lies, nothing is copied
y = x[:, 3:7]      ->   y is read where x lies
"""

from dataclasses import dataclass

from depthwise.graph import Graph, Node, ops


@dataclass(frozen=True)
class Alias:
    """A value of rank 4 lies in the buffer of `root`, from its channel `channel` on."""

    root: str
    channel: int


def find_aliases(graph: Graph) -> dict[str, Alias]:
    """Return where each value of rank 4 lies; a root lies in itself."""
    parents = _parents(graph)
    homes = {}
    for name in (*graph.inputs, *(node.name for node in graph)):
        if len(graph.type(name).shape) == 4:
            root, channel = name, 0
            while root in parents:
                parent = parents[root]
                root, channel = parent.root, channel + parent.channel
            homes[name] = Alias(root, channel)
    return homes


def _parents(graph: Graph) -> dict[str, Alias]:
    parents: dict[str, Alias] = {}
    computed = {node.name: node for node in graph}
    for node in graph:
        if len(node.type.shape) != 4:
            continue
        if isinstance(node.op, ops.Slice) and node.op.axis == 1 and node.op.step == 1:
            if node.inputs[0] not in graph.constants:
                parents[node.name] = Alias(node.inputs[0], node.op.start)
        elif isinstance(node.op, ops.Concat) and node.op.axis == 1:
            channel = 0
            for name in node.inputs:
                movable = name in computed and not _is_view(computed[name])
                if movable and name not in parents:
                    parents[name] = Alias(node.name, channel)
                channel += graph.type(name).shape[1]
    return parents


def _is_view(node: Node) -> bool:
    return isinstance(node.op, ops.Slice | ops.Reshape)
