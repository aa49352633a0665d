"""Multiply-adds of each operator, and what sort of layer it is.

Convention: MACs of convolutions, linear layers and matrix products; a bias, a normalisation, an
activation or a pooling counts nothing, as in the papers. FLOPs are 2 x MACs.
"""

from functools import singledispatch
from math import prod

from depthwise.graph import Graph, Node, Shape, ops

CONVENTION = "multiply-adds (MACs) of convolutions and linear layers, batch included; FLOPs = 2 x"


def count_macs(graph: Graph, node: Node) -> int | None:
    """Return the MACs of one node, None where they cannot be counted."""
    if isinstance(node.op, ops.Opaque):
        return None
    return _macs(node.op, node.type.shape, *(graph.type(name).shape for name in node.inputs))


def count_all_macs(graph: Graph) -> int:
    """Return the MACs of a network, those that cannot be counted left out."""
    return sum(count_macs(graph, node) or 0 for node in graph)


@singledispatch
def _macs(op: ops.Op, output: Shape, *inputs: Shape) -> int:  # noqa: ARG001
    return 0


@_macs.register
def _(op: ops.Conv2d | ops.DeformConv2d, output, x, weight, *_):  # noqa: ARG001
    # bilinear sampling of a deformable convolution is not counted, nor is any interpolation
    return prod(weight[1:]) * prod(output)


@_macs.register
def _(op: ops.ConvTranspose2d, output, x, weight, *_):  # noqa: ARG001
    # each *input* pixel is multiplied with the whole kernel
    return prod(weight[1:]) * prod(x)


@_macs.register
def _(op: ops.Linear, output, x, weight, *_):  # noqa: ARG001
    return weight[1] * prod(output)


@_macs.register
def _(op: ops.MatMul, output, a, b):  # noqa: ARG001
    return a[-1] * prod(output)


@_macs.register
def _(op: ops.Recurrent, output, x, weight_ih, weight_hh, *rest):  # noqa: ARG001
    # what multiplies states element by element is not counted
    project = rest[-1] if len(rest) > 4 else ()
    return prod(x[:2]) * (prod(weight_ih) + prod(weight_hh) + (prod(project) if project else 0))


def kind(graph: Graph, node: Node) -> str:
    """Return the field's name for a layer: pointwise, depthwise, grouped, normalisation, ..."""
    op = node.op
    if isinstance(op, ops.Conv2d):
        return _conv_kind(op, graph.type(node.inputs[1]).shape)
    return KINDS[type(op)]


def _conv_kind(op: ops.Conv2d, weight: Shape) -> str:
    if op.groups > 1:
        return "depthwise" if weight[1] == 1 else "grouped"
    if weight[2:] == (1, 1):
        return "pointwise"
    return "dilated" if op.dilation != (1, 1) else "standard"


KINDS: dict[type, str] = {
    ops.ConvTranspose2d: "transposed",
    ops.DeformConv2d: "deformable",
    ops.DeformRoIPool: "pooling",
    ops.Linear: "linear",
    ops.Recurrent: "recurrent",
    ops.MatMul: "matrix product",
    ops.BatchNorm: "normalisation",
    ops.GroupNorm: "normalisation",
    ops.LayerNorm: "normalisation",
    ops.LocalResponseNorm: "normalisation",
    ops.MaxPool2d: "pooling",
    ops.AvgPool2d: "pooling",
    ops.AdaptivePool2d: "pooling",
    ops.Reduce: "pooling",
    ops.Activation: "activation",
    ops.PRelu: "activation",
    ops.Softmax: "activation",
    ops.Binary: "arithmetic",
    ops.Compare: "arithmetic",
    ops.Where: "arithmetic",
    ops.Concat: "movement",
    ops.Slice: "movement",
    ops.Gather: "movement",
    ops.Pad: "movement",
    ops.Resize: "resize",
    ops.Resample: "resize",
    ops.GridSample: "sampling",
    ops.Reshape: "view",
    ops.Permute: "movement",
    ops.Expand: "movement",
    ops.Cast: "conversion",
    ops.Quantize: "conversion",
    ops.Dequantize: "conversion",
    ops.ArgReduce: "selection",
    ops.TopK: "selection",
    ops.Cumulate: "arithmetic",
    ops.MaxPoolIndices: "pooling",
    ops.MaxUnpool2d: "pooling",
    ops.TakeAlong: "movement",
    ops.Opaque: "unknown",
}
