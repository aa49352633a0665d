"""Conversions between element types in ONNX."""

from depthwise.graph import ops
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.frontends.onnx.element_types import element_type


@write.register
def _(op: ops.Cast, node, x):
    return node.add("Cast", x, to=element_type(op.dtype))


@write.register
def _(op: ops.Quantize, node, x, scale, *zero_point):
    axis = {} if op.axis is None else {"axis": op.axis}
    target = element_type(op.dtype)  # which the zero point has too, where there is one
    return node.add("QuantizeLinear", x, scale, *zero_point, output_dtype=target, **axis)


@write.register
def _(op: ops.Dequantize, node, x, scale, *zero_point):
    axis = {} if op.axis is None else {"axis": op.axis}
    return node.add("DequantizeLinear", x, scale, *zero_point, **axis)
