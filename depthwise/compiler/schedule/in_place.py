"""Which nodes may write their value over their first input."""

from collections.abc import Mapping

from depthwise.compiler.fused_ops import Fused, takes_plane_mean
from depthwise.compiler.schedule.aliases import Alias
from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import NO_PADDING, Padding

ELEMENTWISE = (ops.Activation, ops.Binary, ops.BatchNorm, ops.PRelu)


def find_overwriting(
    graph: Graph, aliases: Mapping[str, Alias], borders: Mapping[str, Padding]
) -> frozenset[str]:
    """Return the nodes that may write over their first input, if nothing else lies in its buffer.

    Each works element by element, is the last to read that input, and neither value is an output
    of the network, a part of a concatenation, or in need of a border that the other lacks.
    """
    readers = graph.readers()
    outputs = {output.value for output in graph.outputs}
    done: set[str] = set()
    found = set()
    for node in graph:
        if _is_elementwise(node) and _reads_last(node, readers[node.inputs[0]], done):
            name = node.inputs[0]
            same_type = node.type == graph.type(name)
            roots = all(aliases[each].root == each for each in (name, node.name) if each in aliases)
            borders_agree = borders.get(node.name, NO_PADDING) == borders.get(name, NO_PADDING)
            if same_type and roots and borders_agree and not outputs & {name, node.name}:
                found.add(node.name)
        done.add(node.name)
    return frozenset(found)


def _is_elementwise(node: Node) -> bool:
    op = node.op.op if isinstance(node.op, Fused) else node.op
    return isinstance(op, ELEMENTWISE)


def _reads_last(node: Node, readers: list[Node], done: set[str]) -> bool:
    """Tell whether a node is the last to read its first input, and reads it once.

    Means of its planes may have read it before: they are not streamed, so that no band of rows is
    written over that is still to be read.
    """
    others = [reader for reader in readers if not takes_plane_mean(reader)]
    means_done = all(reader.name in done for reader in readers if takes_plane_mean(reader))
    return others == [node] and means_done and node.inputs.count(node.inputs[0]) == 1
