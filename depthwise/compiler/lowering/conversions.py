"""Where element types change: at the inputs and the outputs, and between layers."""

from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.lower import COMPUTED, lower
from depthwise.graph import Node, ops


@lower.register
def _(op: ops.Cast, node: Node, b: LoweringBuilder) -> None:
    """Convert what is computed with; what becomes an output is converted as it is written."""
    x = b.read(node.inputs[0])
    if op.dtype in COMPUTED:
        b.copy(x, b.write(node))
    else:
        b.alias(node, x)
