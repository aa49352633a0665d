"""Taps of convolutions that read padding alone."""

from dataclasses import replace

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import Padding
from depthwise.graph.rewrite import GraphRewriter


def drop_padding_taps(graph: Graph) -> Graph:
    """Leave out the outer taps of a convolution that read nothing but padding.

        y = conv(x, w, padding=p, dilation=d)   ->   y = conv(x, w', padding=p')

    with w' the taps that reach a pixel of x, and p' smaller by what the others reached beyond: 3x3
    taps 36 pixels apart on a map of 33x33 are 1x1 without padding. A tap stays where its weights
    are not finite, for a product of such a weight and zero is no number.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, ops.Conv2d) and (weight := edit.data(node.inputs[1])) is not None:
            _shorten(edit, node, node.op, weight)
    return edit.result()


def _shorten(edit: GraphRewriter, node: Node, op: ops.Conv2d, weight: np.ndarray) -> None:
    """Replace a convolution by the one of the taps that it needs, if there are others."""
    top, bottom, left, right = op.padding
    befores, afters = (top, left), (bottom, right)
    image, output = edit.type(node.inputs[0]).shape, node.type.shape
    kept, before, after = [], [], []
    for axis in (0, 1):
        step, taps = op.dilation[axis], weight.shape[2 + axis]
        last = (output[2 + axis] - 1) * op.stride[axis]  # where the last output's window starts
        first = [tap * step - befores[axis] for tap in range(taps)]  # that each tap reads
        low = sum(place + last < 0 for place in first)
        high = sum(place >= image[2 + axis] for place in first)
        low, high = min(low, befores[axis] // step), min(high, afters[axis] // step)
        if low + high >= taps:  # nothing is read: there is no tap to keep for it
            low = high = 0
        kept.append(slice(low, taps - high))
        before.append(befores[axis] - low * step)
        after.append(afters[axis] - high * step)
    some = weight[:, :, kept[0], kept[1]]
    if some.size == weight.size or not np.isfinite(weight).all():
        return
    padding = Padding(before[0], after[0], before[1], after[1])
    name = edit.add_constant(node.inputs[1], some)
    edit.replace(node, replace(op, padding=padding), node.inputs[0], name, *node.inputs[2:])
    edit.drop_if_unread(node.inputs[1])
