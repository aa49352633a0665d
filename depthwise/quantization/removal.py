"""A quantised network in real numbers again, its weights what its integers stand for."""

from depthwise.graph import Graph
from depthwise.graph.ops import Dequantize, Quantize
from depthwise.graph.passes.constants import fold_constants
from depthwise.graph.rewrite import GraphRewriter


def remove_quantization(graph: Graph) -> Graph:
    """Return a network without Quantize nodes: no value is rounded any more.

    y = Dequantize(Quantize(x))   ->   x
    w = Dequantize(integers)      ->   the constant w
    """
    edit = GraphRewriter(graph)
    for node in edit:
        made = edit.node(node.inputs[0]) if node.inputs else None
        if isinstance(node.op, Dequantize) and made and isinstance(made.op, Quantize):
            edit.bypass(node, made.inputs[0])
    return fold_constants(edit.result())
