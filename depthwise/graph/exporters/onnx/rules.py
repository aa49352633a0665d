"""One rule for each operator of ours: how ONNX says it."""

from functools import singledispatch

from depthwise.errors import Unsupported
from depthwise.graph.exporters.onnx.writer import NodeWriter
from depthwise.graph.ops import Op, Opaque


@singledispatch
def write(op: Op, node: NodeWriter, *inputs: str) -> str:
    """Write op(inputs) and return the name of its result.

    Raises Unsupported for an operator that ONNX cannot say.
    """
    raise Unsupported(f"{type(op).__name__} has no form in ONNX: export the network as it was")


@write.register
def _(op: Opaque, node, *inputs):
    raise Unsupported(f"operator {op.operator} is not known to depthwise: it cannot be exported")
