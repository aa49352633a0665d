"""Operators that change nothing."""

from math import inf

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import NO_PADDING
from depthwise.graph.rewrite import GraphRewriter


def drop_identity(graph: Graph) -> Graph:
    """Drop what changes nothing; let two moves in a row be one.

        y = clamp(relu6(x), 0, inf)             ->   y = relu6(x)
        y = permute(permute(x, 0231), 0312)     ->   y = x
        y = reshape(reshape(x, s), t)           ->   y = reshape(x, t)

    So also for whole slices, pads by nothing, pooling and resizing that keep each pixel, and sums
    and products with 0 and 1. An input that is returned as it is stays a node.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        moved = _join(edit, node)
        same = _same(edit, moved)
        computed = same is not None and edit.node(same) is not None
        if same is not None and (computed or not edit.is_output(node.name)):
            edit.bypass(moved, same)
    return edit.result()


def _join(edit: GraphRewriter, node: Node) -> Node:
    """Let the second of two reshapes, or of two permutes, read what the first one reads."""
    first = edit.private(node.inputs[0])
    if first is None:
        return node
    match node.op, first.op:
        case ops.Reshape(), ops.Reshape():
            edit.replace(node, node.op, first.inputs[0])
        case ops.Permute(axes=outer), ops.Permute(axes=inner):
            edit.replace(node, ops.Permute(tuple(inner[axis] for axis in outer)), first.inputs[0])
        case _:
            return node
    joined = edit.node(node.name)
    assert joined is not None
    return joined


def _same(edit: GraphRewriter, node: Node) -> str | None:
    """Return the value that a node passes on as it is, None if it changes it."""
    if isinstance(node.op, ops.Binary):
        return _unchanged_term(edit, node)
    source = node.inputs[0]
    size = edit.type(source).shape
    if size != node.type.shape:
        return None
    keeps = False
    match node.op:
        # of one shape: nothing was cut, added or repeated, and Reshape keeps the order
        case ops.Reshape() | ops.Slice(step=1) | ops.Expand() | ops.AdaptivePool2d():
            keeps = True
        case ops.Concat():
            keeps = len(node.inputs) == 1
        case ops.Pad(pads=pads):
            keeps = all(pad == (0, 0) for pad in pads)
        case ops.Permute(axes=axes):
            moved = [axis for axis in axes if size[axis] > 1]
            keeps = moved == sorted(moved)
        case ops.Reduce(axes=axes, keep=True):
            keeps = all(size[axis] == 1 for axis in axes)
        case ops.Resize(step=steps):
            keeps = all(n == 1 or step == 1 for n, step in zip(size[2:], steps, strict=True))
        case ops.MaxPool2d(kernel=(1, 1), padding=pad):
            keeps = pad == NO_PADDING
        case ops.AvgPool2d(kernel=(1, 1), padding=pad, divisor=divisor):
            keeps = pad == NO_PADDING and divisor in (None, 1)
        case ops.Activation():
            keeps = _is_inside(edit, node.op, source)
    return source if keeps else None


NEUTRAL = {"add": 0.0, "subtract": 0.0, "multiply": 1.0, "divide": 1.0}


def _unchanged_term(edit: GraphRewriter, node: Node) -> str | None:
    """Return x of x + 0, x - 0, x · 1 and x / 1."""
    assert isinstance(node.op, ops.Binary)
    neutral = NEUTRAL.get(node.op.function)
    a, b = node.inputs
    pairs = [(a, b)] if node.op.function in ("subtract", "divide") else [(a, b), (b, a)]
    for source, other in pairs:
        data = edit.data(other)
        if data is not None and neutral is not None and np.all(data == neutral):
            return source if edit.type(source).shape == node.type.shape else None
    return None


# what a function's results lie between
RANGES = {
    "relu": (0.0, inf), "relu6": (0.0, 6.0), "abs": (0.0, inf), "exp": (0.0, inf),
    "sqrt": (0.0, inf), "softplus": (0.0, inf), "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}  # fmt: skip


def _is_inside(edit: GraphRewriter, op: ops.Activation, source: str) -> bool:
    """Return whether op only cuts to bounds that its input is within, or is a power of 1."""
    if op.function == "power":
        return op.parameters == (1.0,)
    if op.function not in ("relu", "relu6", "clamp"):
        return False
    low, high = _range(op)
    first = edit.node(source)
    least, most = _range(first.op) if first else (-inf, inf)
    return low <= least and most <= high


def _range(op: ops.Op) -> tuple[float, float]:
    """Return the least and the greatest number that op can give, as far as we know."""
    if not isinstance(op, ops.Activation):
        return -inf, inf
    if op.function == "clamp":
        return op.parameters[0], op.parameters[1]
    return RANGES.get(op.function, (-inf, inf))
