"""In what order convolutions of 16-bit types sum up: what kernel and simulator must have alike."""

from collections.abc import Mapping
from math import ceil

from depthwise.compiler.fused_ops import convolution
from depthwise.compiler.schedule.aliases import Alias
from depthwise.graph import Graph, Node, ops
from depthwise.graph.dtypes import BFLOAT16, DType

TILE = 32  # channels that a tile of AMX takes
MOST = 64  # channels of a step of float16, whose sums may be halves
JOINED = 32  # channels of a row of taps that is taken for one


def step_channels(channels: int, element: DType) -> int:
    """Return how many channels of a tap are summed up before the sums are added to those before.

    Of bfloat16 32 are, all where there are fewer; of float16 as many in each step, at most 64. The
    last step has the rest.
    """
    if element == BFLOAT16:
        return min(channels, TILE)
    return 2 * ceil(channels / 2 / ceil(channels / MOST))


def joins_taps(node: Node, graph: Graph, aliases: Mapping[str, Alias]) -> bool:
    """Tell whether a row of taps is one tap with the channels of all: those of few channels are.

    The pixels of the input then lie side by side, in a buffer of their own.
    """
    op, (x, weight) = convolution(node.op), node.inputs[:2]
    if not isinstance(op, ops.Conv2d) or op.groups > 1 or op.dilation[1] > 1:
        return False
    alone = x in aliases and aliases[x].root == x
    _, channels, _, columns = graph.type(weight).shape
    return alone and columns > 1 and channels * columns <= JOINED
