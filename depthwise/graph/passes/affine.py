"""Arithmetic with constants around a convolution."""

from depthwise.graph import Graph, Node
from depthwise.graph.ops import Convolution
from depthwise.graph.passes.scale import (
    find_arithmetic,
    find_batchnorm,
    scale_inputs,
    scale_outputs,
)
from depthwise.graph.rewrite import GraphRewriter


def fold_affine(graph: Graph) -> Graph:
    """Move sums and products with one number a channel into the weights beside them.

        z = conv(x, w, b) · s + t   ->   z = conv(x, w · s, b · s + t)
        z = conv(x · s + t, w, b)   ->   z = conv(x, w · s, b + sum of w · t)

    Before a convolution a BatchNorm is such arithmetic too; there, an offset t needs a
    convolution without padding, whose zeros it would not reach.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, Convolution):
            _fold_before(edit, node)
        else:
            _fold_behind(edit, node)
    return edit.result()


def _fold_behind(edit: GraphRewriter, node: Node) -> None:
    scale = find_arithmetic(edit, node)
    conv = edit.private(scale.source) if scale else None
    if scale and conv and isinstance(conv.op, Convolution):
        inputs = scale_outputs(edit, conv, scale)
        if inputs:
            edit.replace(node, conv.op, *inputs, path=conv.path)


def _fold_before(edit: GraphRewriter, conv: Node) -> None:
    while source := edit.private(conv.inputs[0]):
        scale = find_arithmetic(edit, source) or find_batchnorm(edit, source)
        inputs = scale_inputs(edit, conv, scale) if scale else None
        if scale is None or inputs is None:
            return
        edit.replace(conv, conv.op, scale.source, *inputs[1:])
        replaced = edit.node(conv.name)
        assert replaced is not None
        conv = replaced
