"""Flattening before a linear layer."""

from depthwise.compiler.fused_ops import FlattenChannelsLast, convolution
from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter


def fold_flatten(graph: Graph) -> Graph:
    """Flatten planes in the order in which they are stored, and permute the weights to it.

        y = linear(reshape(x, (N, C · H · W)), w)
                                    ->   y = linear(flatten_channels_last(x), w'),
        w'[k, (y, x, c)] = w[k, (c, y, x)]

    Only where linear layers alone read the flattened value. Planes of one pixel, and single
    channels, lie in the right order as they are.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        shape = edit.type(node.inputs[0]).shape
        if not isinstance(node.op, ops.Reshape) or len(shape) != 4:
            continue
        n, c, h, w = shape
        reordered = node.type.shape == (n, c * h * w) and c > 1 and h * w > 1
        readers = edit.readers(node.name)
        if reordered and all(_reads(edit, r, node) for r in readers) and readers:
            for reader in readers:
                _permute(edit, reader, (c, h, w))
            edit.replace(node, FlattenChannelsLast(), node.inputs[0])
    return edit.result()


def _reads(edit: GraphRewriter, reader: Node, node: Node) -> bool:
    """Return whether the reader is a linear layer whose weight we know and x is the node."""
    linear = isinstance(convolution(reader.op), ops.Linear)
    once = reader.inputs[0] == node.name and reader.inputs.count(node.name) == 1
    return (
        linear
        and once
        and not edit.is_output(node.name)
        and edit.data(reader.inputs[1]) is not None
    )


def _permute(edit: GraphRewriter, linear: Node, planes: tuple[int, int, int]) -> None:
    source, old, *rest = linear.inputs
    weight = edit.numbers(old)
    moved = weight.reshape(-1, *planes).transpose(0, 2, 3, 1).reshape(weight.shape)
    new = edit.add_constant(old, moved, edit.type(old).dtype)
    edit.replace(linear, linear.op, source, new, *rest)
