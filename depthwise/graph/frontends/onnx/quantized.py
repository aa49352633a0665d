"""Quantised networks: conversions from and to integers (QDQ), and operators on integers (QLinear).

An operator on integers is read as what it stands for: its operands as real numbers, the operator,
its result as integers. Those of ONNX Runtime's own domain are those that its quantiser writes.
"""

from functools import reduce
from typing import Any

from onnx.helper import tensor_dtype_to_np_dtype

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.convolution import convolve
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.pooling import average_pool
from depthwise.graph.frontends.onnx.rules import refuse, rule

RUNTIME = "com.microsoft"
UNKNOWN_TYPES = ("int4", "uint4", "int2", "uint2", "float8", "float4")


@rule("QuantizeLinear")
def _(
    n: Operands, *, axis=1, saturate=1, output_dtype=0, block_size=0, precision=0
):  # fmt: skip
    del saturate, precision  # of small floating types
    refuse(block_size, "it has a scale for each block of elements")
    dtype = str(tensor_dtype_to_np_dtype(output_dtype)) if output_dtype else "uint8"
    return quantize(n, n[0], 1, axis, n.dtype(2) if n.has(2) else dtype)


@rule("DequantizeLinear")
def _(n: Operands, *, axis=1, block_size=0, output_dtype=0):
    del output_dtype  # which is that of the scale
    refuse(block_size, "it has a scale for each block of elements")
    return dequantize(n, 0, axis)


def quantize(n: Operands, x: Value, scale: int, axis: int = 1, dtype: str | None = None) -> Value:
    """Return x as integers, by the operands `scale` and the one after it, the zero point."""
    refuse_small(dtype := dtype or n.dtype(scale + 1))
    op = ops.Quantize(dtype, _axis(n, x, scale, axis))
    return n.emit(op, x, n[scale], *n.optional(scale + 1))


def dequantize(n: Operands, index: int, axis: int = 1) -> Value:
    """Return an operand of integers as real numbers; its scale and zero point come after it."""
    refuse_small(n.dtype(index))
    x, scale = n[index], index + 1
    op = ops.Dequantize(n.dtype(scale), _axis(n, x, scale, axis))
    return n.emit(op, x, n[scale], *n.optional(scale + 1))


def refuse_small(dtype: str) -> None:
    """Refuse integers of fewer than 8 bits, and other types that the graph has no name for."""
    refuse(dtype.startswith(UNKNOWN_TYPES), f"it quantises to {dtype}, where the graph has 8 bits")


def _axis(n: Operands, x: Value, scale: int, axis: int) -> int | None:
    """Return the axis with a scale for each position, None where there is one for all."""
    return n.axis(x, axis) if n.shape(scale) and n.shape(scale) != (1,) else None


@rule("QLinearConv")
def _(n: Operands, **attributes):
    """The bias counts in units of both scales."""
    x, weight = dequantize(n, 0), dequantize(n, 3, axis=0)
    bias = []
    if n.has(8):
        unit = n.constant(n.array(1) * n.array(4), like=n[1])
        per_channel = 0 if unit.type.size > 1 else None
        bias = [n.emit(ops.Dequantize(n.dtype(1), per_channel), n[8], unit)]
    return quantize(n, convolve(n, x, weight, bias, **attributes), 6)


@rule("QLinearMatMul")
def _(n: Operands):
    a, b = dequantize(n, 0, axis=-2), dequantize(n, 3, axis=-1)
    refuse(a.rank < 2 or b.rank < 2, "it multiplies by a vector")
    return quantize(n, n.emit(ops.MatMul(), a, b), 6)


@rule(f"{RUNTIME}.QGemm")
def _(n: Operands, *, transA=0, transB=0, alpha=1.0):
    """The bias counts in units of both scales and alpha; without a scale the result stays real."""
    refuse(transA, "its first operand is transposed")
    x, weight = dequantize(n, 0), dequantize(n, 3, axis=0 if transB else 1)
    weight = weight if transB else n.permute(weight, 1, 0)
    y = n.emit(ops.Linear(), x, weight)
    y = y if alpha == 1 else n.binary("multiply", y, alpha)
    if n.has(6):
        unit = n.constant(alpha * n.array(1) * n.array(4), like=n[1])
        columns = len(n.shape(6)) - 1 if unit.type.size > 1 else None
        bias = n.emit(ops.Dequantize(n.dtype(1), columns), n[6], unit)
        y = n.binary("add", y, bias)
    return quantize(n, y, 7) if n.has(7) else y


@rule(f"{RUNTIME}.QLinearAveragePool")
def _(n: Operands, *, channels_last=0, **attributes):
    refuse(channels_last, "its channels are last")
    return quantize(n, average_pool(n, dequantize(n, 0), **attributes), 3)


@rule(f"{RUNTIME}.QLinearSoftmax")
def _(n: Operands, *, axis=-1, opset=13):
    x = dequantize(n, 0)
    axis = n.axis(x, axis)
    refuse(opset < 13 and axis != x.rank - 1, "it is over several axes")
    return quantize(n, n.emit(ops.Softmax(axis), x), 3)


@rule(f"{RUNTIME}.QLinearAdd", f"{RUNTIME}.QLinearMul")
def _(n: Operands):
    function: Any = "add" if n.node.op_type == "QLinearAdd" else "multiply"
    return quantize(n, n.binary(function, dequantize(n, 0), dequantize(n, 3)), 6)


@rule(f"{RUNTIME}.QLinearSigmoid", f"{RUNTIME}.QLinearLeakyRelu")
def _(n: Operands, *, alpha=0.01):
    x = dequantize(n, 0)
    leaky = n.node.op_type == "QLinearLeakyRelu"
    y = n.unary("leaky_relu", x, alpha) if leaky else n.unary("sigmoid", x)
    return quantize(n, y, 3)


@rule(f"{RUNTIME}.QLinearGlobalAveragePool")
def _(n: Operands, *, channels_last=0):
    x = dequantize(n, 0)
    axes = tuple(range(1, x.rank - 1) if channels_last else range(2, x.rank))
    return quantize(n, n.emit(ops.Reduce("mean", axes, True), x), 3)


@rule(f"{RUNTIME}.QLinearConcat")
def _(n: Operands, *, axis):
    parts = [dequantize(n, index) for index in range(2, len(n), 3)]
    joined = reduce(lambda x, y: n.emit(ops.Concat(n.axis(x, axis)), x, y), parts)
    return quantize(n, joined, 0)
