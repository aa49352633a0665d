"""Padding as a step of its own."""

from dataclasses import replace
from math import inf

from depthwise.graph import Graph, ops
from depthwise.graph.ops import NO_PADDING, Padding
from depthwise.graph.rewrite import GraphRewriter


def fold_padding(graph: Graph) -> Graph:
    """Let a convolution or pooling pad by itself, unequally on opposite sides if need be.

        y = conv(pad(x, p), w, padding=q)   ->   y = conv(x, w, padding=p + q)

    Zeros before convolutions, and before an average that counts its padding or has none; minus
    infinity before a maximum. Not before a pooling that rounds its size up: where its last window
    starts depends on which of the pixels are padding.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        pad = edit.private(node.inputs[0])
        if pad is None or not isinstance(pad.op, ops.Pad):
            continue
        op = _padded(node.op, pad.op)
        if op is not None:
            edit.replace(node, op, pad.inputs[0], *node.inputs[1:])
    return edit.result()


def _padded(op: ops.Op, pad: ops.Pad) -> ops.Op | None:
    """Return op with `pad` as part of its own padding, None where it cannot have it."""
    no_planes = len(pad.pads) != 4 or pad.pads[:2] != ((0, 0), (0, 0))
    if no_planes or pad.mode != "constant" or min(map(min, pad.pads)) < 0:
        return None
    sides = (*pad.pads[2], *pad.pads[3])
    match op:
        case ops.Conv2d(padding=own) | ops.DeformConv2d(padding=own) if pad.value == 0:
            return replace(op, padding=_sum(own, sides))
        case ops.AvgPool2d(padding=own, ceil=False) if pad.value == 0:
            if op.count_padding or own == NO_PADDING or op.divisor is not None:
                return replace(op, padding=_sum(own, sides), count_padding=True)
        case ops.MaxPool2d(padding=own, ceil=False) if pad.value == -inf:
            return replace(op, padding=_sum(own, sides))
    return None


def _sum(own: Padding, sides: tuple[int, ...]) -> Padding:
    return Padding(*(a + b for a, b in zip(own, sides, strict=True)))
