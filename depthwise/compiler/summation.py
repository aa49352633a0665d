"""In what order convolutions of bfloat16 sum up: what kernel and simulator must have alike."""

from collections.abc import Mapping

from depthwise.compiler.fused_ops import convolution
from depthwise.compiler.schedule.aliases import Alias
from depthwise.graph import Graph, Node, ops

STEP = 32  # channels of a tap that are summed up before the sums are added to those before


def joins_taps(node: Node, graph: Graph, aliases: Mapping[str, Alias]) -> bool:
    """Tell whether a row of taps is one tap with the channels of all: those of few channels are.

    The pixels of the input then lie side by side, in a buffer of their own.
    """
    op, (x, weight) = convolution(node.op), node.inputs[:2]
    if not isinstance(op, ops.Conv2d) or op.groups > 1 or op.dilation[1] > 1:
        return False
    alone = x in aliases and aliases[x].root == x
    _, channels, _, columns = graph.type(weight).shape
    return alone and columns > 1 and channels * columns <= STEP
