"""Where element types change: at the inputs and the outputs, inside all is float32."""

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.lower import lower
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import FLOAT32


@lower.register
def _(op: ops.Cast, node: Node, b: LoweringBuilder) -> None:
    """Convert an input as it is read; what becomes an output is converted as it is written."""
    x = b.read(node.inputs[0])
    if op.dtype == FLOAT32.name:
        b.copy(x, b.write(node))
    else:
        b.alias(node, x)
