"""Channel shuffles as an order of channels, of which any may be missing, and back."""

from dataclasses import replace

import numpy as np

from depthwise.graph import Graph, Node, TensorType, ops
from depthwise.graph.rewrite import GraphRewriter


def shuffles_to_gathers(graph: Graph) -> Graph:
    """Let what reshapes, permutes and reshapes channels back be one Gather of them.

        y = reshape(permute(reshape(x, N g c H W), 02134), N C H W)   ->   y = gather(x, order)

    A reshape needs as many channels in each row, a Gather does not.
    """  # fmt: skip
    edit = GraphRewriter(graph)
    for node in edit:
        permute = edit.private(node.inputs[0]) if isinstance(node.op, ops.Reshape) else None
        split = edit.private(permute.inputs[0]) if permute else None
        if split is None or permute is None or not isinstance(split.op, ops.Reshape):
            continue
        source = split.inputs[0]
        shape, parts = edit.type(source).shape, split.type.shape
        swapped = isinstance(permute.op, ops.Permute) and permute.op.axes == (
            0, 2, 1, *range(3, len(parts)),
        )  # fmt: skip
        rows = parts[1:3]
        if swapped and shape == node.type.shape == (parts[0], rows[0] * rows[1], *parts[3:]):
            order = np.arange(shape[1]).reshape(rows).T.reshape(-1)
            places = edit.add_constant(f"{node.name}.order", order)
            edit.replace(node, ops.Gather(1), source, places)
    return edit.result()


def gathers_to_shuffles(graph: Graph) -> Graph:
    """Let a Gather that shuffles channels be reshapes again, which compilers know how to fold."""
    nodes: list[Node] = []
    gone = set()
    for node in graph:
        rows = _rows(graph, node)
        if not rows:
            nodes.append(node)
            continue
        n, channels, *plane = node.type.shape
        split = TensorType((n, rows, channels // rows, *plane), node.type.dtype)
        swapped = TensorType((n, channels // rows, rows, *plane), node.type.dtype)
        axes = (0, 2, 1, *range(3, len(split.shape)))
        source, places = node.inputs
        gone.add(places)
        first, second = f"{node.name}.rows", f"{node.name}.columns"
        nodes += [
            Node(first, ops.Reshape(split.shape), (source,), split, node.path, node.line),
            Node(second, ops.Permute(axes), (first,), swapped, node.path, node.line),
            Node(
                node.name, ops.Reshape(node.type.shape), (second,), node.type, node.path, node.line
            ),
        ]
    constants = {name: known for name, known in graph.constants.items() if name not in gone}
    return replace(graph, constants=constants, nodes=tuple(nodes)) if gone else graph


def _rows(graph: Graph, node: Node) -> int:
    """Return the rows of the shuffle that a Gather of all channels is, 0 where it is none."""
    if node.op != ops.Gather(1) or node.inputs[1] != f"{node.name}.order":
        return 0
    order = graph.constants[node.inputs[1]].numbers
    size = graph.type(node.inputs[0]).shape[1]
    if order is None or len(order) != size or size < 2:
        return 0
    each = int(order[1])  # the second channel is the first of the second row
    if each < 1 or size % each:
        return 0
    shuffled = np.arange(size).reshape(-1, each).T.reshape(-1)
    return size // each if np.array_equal(order, shuffled) else 0
