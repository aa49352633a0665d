"""The head narrowed: what is read where only one pixel is left, on the way to the scores."""

from collections.abc import Iterator
from math import prod

from depthwise.graph import Graph, Node, ops
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves.channels import group_changes
from depthwise.slimming.statistics import Statistics

NAME = "head"


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield how many channels the head's layers could read: the last pointwise convolution's."""
    head = _head(draft.graph)
    for group in find_groups(draft.graph).groups.values():
        readers = {reader.node for reader in group.readers}
        if readers and readers <= head:
            yield from group_changes(draft, group, known, NAME)


def _head(graph: Graph) -> set[str]:
    """Return the layers from which the outputs follow without anything of more than one pixel."""
    nodes = {node.name: node for node in graph}
    found, seen = set(), set()
    open_ = [output.value for output in graph.outputs]
    while open_:
        node = nodes.get(open_.pop())
        if node is None or node.name in seen or not _is_one_pixel(graph, node):
            continue
        seen.add(node.name)
        if isinstance(node.op, ops.Conv2d | ops.Linear):
            found.add(node.name)
        open_ += node.inputs
    return found


def _is_one_pixel(graph: Graph, node: Node) -> bool:
    return all(
        len(shape) == 2 or (len(shape) == 4 and prod(shape[2:]) == 1)
        for shape in (graph.type(name).shape for name in graph.activations(node))
    )
