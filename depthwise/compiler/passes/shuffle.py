"""Channel shuffles: arXiv:1707.01083, section 3.1."""

from typing import NamedTuple

import numpy as np

from depthwise.compiler.fused_ops import Fused, convolution
from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter


class Shuffle(NamedTuple):
    """Channel i of the result is channel order[i] of `source`."""

    source: str
    order: np.ndarray


def fold_shuffle(graph: Graph) -> Graph:
    """Shuffle the weights of a convolution, once and now, instead of its channels.

        y = shuffle(conv(x, w))   ->   y = conv(x, w'),  w'[i] = w[order[i]]
        y = conv(shuffle(x), w)   ->   y = conv(x, w'),  w'[:, order[i]] = w[:, i]

    The first where nothing else reads what the convolution gives; the second where convolutions
    alone read the shuffled value. A grouped convolution reads and writes channels that stand
    side by side: a shuffle between two of them stays.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        shuffle = _find(edit, node)
        if shuffle is None:
            continue
        conv = edit.private(shuffle.source)
        readers = edit.readers(node.name)
        if conv and _gives_any_order(edit, conv):
            _reorder(edit, node, conv, shuffle.order)
        elif not edit.is_output(node.name) and all(_takes(edit, r, node) for r in readers):
            for reader in readers:
                _read_unshuffled(edit, reader, shuffle)
    return edit.result()


def _find(edit: GraphRewriter, node: Node) -> Shuffle | None:
    """Return the shuffle that ends in `node`: reshape, permute, reshape."""
    permute = edit.private(node.inputs[0]) if isinstance(node.op, ops.Reshape) else None
    if permute is None or permute.op != ops.Permute((0, 2, 1, 3, 4)):
        return None
    split = edit.private(permute.inputs[0])
    if split is None or not isinstance(split.op, ops.Reshape):
        return None
    source = split.inputs[0]
    shape, (n, groups, each, *plane) = edit.type(source).shape, split.type.shape
    if not shape == node.type.shape == (n, groups * each, *plane):
        return None
    return Shuffle(source, np.arange(groups * each).reshape(groups, each).T.reshape(-1))


def _gives_any_order(edit: GraphRewriter, conv: Node) -> bool:
    """Return whether the outputs of a convolution may be reordered by its weights alone."""
    op = convolution(conv.op)
    alone = not (isinstance(conv.op, Fused) and conv.op.epilogue.add)
    known = all(edit.data(name) is not None for name in conv.inputs[1:3])
    return op is not None and getattr(op, "groups", 0) == 1 and alone and known


def _takes(edit: GraphRewriter, reader: Node, node: Node) -> bool:
    """Return whether a reader is a convolution that can take the channels in any order."""
    op = convolution(reader.op)
    whole = getattr(op, "groups", 0) == 1 and getattr(op, "offset_groups", 1) == 1
    once = reader.inputs[0] == node.name and reader.inputs.count(node.name) == 1
    return whole and once and edit.data(reader.inputs[1]) is not None


def _reorder(edit: GraphRewriter, node: Node, conv: Node, order: np.ndarray) -> None:
    """Let a convolution compute what `node` does, under its name: the one before is no more."""
    source, weight, *others = conv.inputs
    axis = 1 if isinstance(convolution(conv.op), ops.ConvTranspose2d) else 0
    taken = {weight: np.take(edit.numbers(weight), order, axis)}
    taken |= {name: edit.numbers(name)[order] for name in others[:1]}
    moved = [edit.add_constant(name, x, edit.type(name).dtype) for name, x in taken.items()]
    edit.replace(node, conv.op, source, *moved, *others[1:], path=conv.path)


def _read_unshuffled(edit: GraphRewriter, conv: Node, shuffle: Shuffle) -> None:
    _, weight, *others = conv.inputs
    axis = 0 if isinstance(convolution(conv.op), ops.ConvTranspose2d) else 1
    moved = np.take(edit.numbers(weight), np.argsort(shuffle.order), axis)
    moved_weight = edit.add_constant(weight, moved, edit.type(weight).dtype)
    edit.replace(conv, conv.op, shuffle.source, moved_weight, *others)
