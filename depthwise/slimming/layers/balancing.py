"""Factors of one layer made equally large, so that they can be trained together.

Between two layers with nothing between them a channel may be scaled by anything, and by its inverse
where it is read. What a move or a fit leaves there can be thousands of times as large on one side
as on the other; each side's gradient is in proportion to the other's weights, so that any learning
rate is then too large for the one and too small for the other. With equal norms gradient descent
moves both alike (Arora et al., arXiv:1802.06509), and their decay is least.
"""

from collections.abc import Iterator

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter

SWEEPS = 24  # over all pairs: in a chain of three the one in the middle is in two of them


def balance_factors(graph: Graph) -> Graph:
    """Return an equal network in which both sides of each channel between factors are as large.

    That is the norm of the weights that give it, and of those that read it. Factors are two
    convolutions, or two linear layers, of which the second alone reads the first, and whose
    weights nothing else reads.
    """
    edit = GraphRewriter(graph)
    pairs = list(_pairs(edit))
    for _ in range(SWEEPS):
        for first, second in pairs:
            _balance(edit, first, second)
    return edit.result()


def _pairs(edit: GraphRewriter) -> Iterator[tuple[Node, Node]]:
    for second in edit:
        first = edit.private(second.inputs[0]) if second.inputs else None
        if first is None or not isinstance(second.op, ops.Conv2d | ops.Linear):
            continue
        if isinstance(first.op, type(second.op)) and _alone(edit, first) and _alone(edit, second):
            yield first, second


def _alone(edit: GraphRewriter, node: Node) -> bool:
    """Tell whether a layer's weights are constants that it alone reads."""
    return all(map(edit.is_unshared, node.inputs[1:]))


def _balance(edit: GraphRewriter, first: Node, second: Node) -> None:
    weight, then = (edit.numbers(node.inputs[1]) for node in (first, second))
    groups = second.op.groups if isinstance(second.op, ops.Conv2d) else 1
    # by the group that reads it, (groups, outputs of one, inputs of one, taps)
    read = then.reshape(groups, len(then) // groups, then.shape[1], -1)
    given = np.linalg.norm(weight.reshape(len(weight), -1), axis=1)
    taken = np.linalg.norm(read, axis=(1, 3)).reshape(-1)
    both = (given > 0) & (taken > 0)
    scale = np.sqrt(np.where(both, taken, 1.0) / np.where(both, given, 1.0))
    edit.set_constant(first.inputs[1], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    for name in first.inputs[2:]:
        edit.set_constant(name, edit.numbers(name) * scale)
    own = read / scale.reshape(groups, 1, -1, 1)
    edit.set_constant(second.inputs[1], own.reshape(then.shape))
