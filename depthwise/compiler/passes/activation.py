"""Activations after a convolution."""

from dataclasses import replace

from depthwise.compiler.fused_ops import Epilogue, Fused, is_function
from depthwise.graph import Graph
from depthwise.graph.ops import Activation, Convolution
from depthwise.graph.rewrite import GraphRewriter, with_bias


def fuse_activation(graph: Graph) -> Graph:
    """Apply an activation while the convolution's result is still in registers.

        z = act(conv(x, w, b))        ->   z = fused(x, w, b),  after = act
        z = act(conv(x, w, b) + r)    ->   z = fused(x, w, b, r),  after = act

    The second where fuse_residual has taken the sum. Only where nothing else reads what the
    convolution gives, it has no activation at that place yet, and epilogues hold such a function.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        conv = edit.private(node.inputs[0]) if isinstance(node.op, Activation) else None
        if conv is None or not isinstance(node.op, Activation) or is_function(node.op):
            continue
        if isinstance(conv.op, Convolution):
            fused = Fused(conv.op, Epilogue(after=node.op))
            edit.replace(node, fused, *with_bias(edit, conv), path=conv.path)
        elif isinstance(conv.op, Fused) and conv.op.epilogue.after is None:
            fused = replace(conv.op, epilogue=replace(conv.op.epilogue, after=node.op))
            edit.replace(node, fused, *conv.inputs, path=conv.path)
    return edit.result()
