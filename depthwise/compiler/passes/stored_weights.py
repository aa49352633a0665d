"""Weights in float16 of layers that wait for their weights, which are computed in float32."""

from math import prod

import numpy as np

from depthwise.compiler.fused_ops import Fused, convolution
from depthwise.compiler.passes.narrow import with_biases
from depthwise.graph import Graph, Node, ops
from depthwise.graph.dtypes import FLOAT16, FLOAT32
from depthwise.graph.rewrite import GraphRewriter

PIXELS = 2  # at most, for which a layer reads all of its weights
LARGEST = 65504.0  # number of float16


def store_weights(graph: Graph) -> Graph:
    """Store weights in float16 where a layer has one or two pixels: linear layers, gates.

    y = linear(x, w, b)   ->   y = fused(x, w', b)   (w' is float16, all else float32)

    Each weight is rounded once. Layers with a weight that float16 cannot hold stay as they are.
    """
    edit = GraphRewriter(with_biases(graph))
    for node in edit:
        if not isinstance(node.op, Fused) or not _waits_for_weights(node):
            continue
        name = node.inputs[1]
        weight, type_ = edit.data(name), edit.type(name)
        fits = type_.dtype == FLOAT32.name and type_.shape[2:] in ((), (1, 1))
        if weight is None or not fits or not np.abs(weight).max(initial=0.0) <= LARGEST:
            continue
        stored = edit.add_constant(f"{name}.{FLOAT16.name}", weight, FLOAT16.name)
        edit.replace(node, node.op, node.inputs[0], stored, *node.inputs[2:], path=node.path)
    return edit.result()


def _waits_for_weights(node: Node) -> bool:
    op, shape = convolution(node.op), node.type.shape
    if node.type.dtype != FLOAT32.name:
        return False
    if isinstance(op, ops.Linear):
        return prod(shape[:-1]) <= PIXELS
    # without padding a window of one tap reads what lies under it
    pointwise = isinstance(op, ops.Conv2d) and op.groups == 1 and not any(op.padding)
    return pointwise and shape[0] * prod(shape[2:]) <= PIXELS
