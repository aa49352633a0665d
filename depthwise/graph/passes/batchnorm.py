"""Batch normalisation after a convolution."""

from depthwise.graph import Graph
from depthwise.graph.ops import Convolution
from depthwise.graph.passes.scale import find_batchnorm, scale_outputs
from depthwise.graph.rewrite import GraphRewriter


def fold_batchnorm(graph: Graph) -> Graph:
    """Move a BatchNorm into the weights of the convolution or linear layer that feeds it.

        z = batchnorm(conv(x, w, b))   ->   z = conv(x, w · s, (b - mean) · s + beta)

    with s = gamma / sqrt(variance + eps), in double precision. Only where nothing else reads what
    the convolution gives.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        scale = find_batchnorm(edit, node)
        conv = edit.private(scale.source) if scale else None
        if scale is None or conv is None or not isinstance(conv.op, Convolution):
            continue
        inputs = scale_outputs(edit, conv, scale)
        if inputs:
            edit.replace(node, conv.op, *inputs, path=conv.path)
    return edit.result()
