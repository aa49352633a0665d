"""Which values share a buffer: parts of a concatenation, slices of channels, and their borders.

y = concat(a, b)   ->   a and b are written where y lies, nothing is copied
y = x[:, 3:7]      ->   y is read where x lies
"""

from collections.abc import Mapping
from dataclasses import dataclass

from depthwise.compiler.fused_ops import Fused
from depthwise.graph import Graph, Node, Shape, ops
from depthwise.graph.ops import Padding

NO_BORDER = Padding(0, 0, 0, 0)


# Pixels that lie a multiple of 512 bytes apart meet in few sets of the first cache: a 3x3 depthwise
# convolution of 14x14x512 ran at 26 % of the multiply-add peak, with 16 floats between at 83 %.
CROWDED, APART = 128, 16  # floats


def pixel_stride(channels: int, pixels: int) -> int:
    """Return how many floats apart the pixels of an image of so many channels are to lie."""
    crowded = channels % CROWDED == 0 and pixels > 1
    return channels + APART if crowded else channels


@dataclass(frozen=True)
class Alias:
    """A value of rank 4 lies in the buffer of `root`, from its channel `channel` on."""

    root: str
    channel: int


def find_aliases(graph: Graph) -> dict[str, Alias]:
    """Return where each value of rank 4 lies; a root lies in itself."""
    parents = _parents(graph)
    homes = {}
    for name in (*graph.inputs, *(node.name for node in graph)):
        if len(graph.type(name).shape) == 4:
            root, channel = name, 0
            while root in parents:
                parent = parents[root]
                root, channel = parent.root, channel + parent.channel
            homes[name] = Alias(root, channel)
    return homes


def _parents(graph: Graph) -> dict[str, Alias]:
    parents: dict[str, Alias] = {}
    computed = {node.name: node for node in graph}
    for node in graph:
        if len(node.type.shape) != 4:
            continue
        if isinstance(node.op, ops.Slice) and node.op.axis == 1 and node.op.step == 1:
            if node.inputs[0] not in graph.constants:
                parents[node.name] = Alias(node.inputs[0], node.op.start)
        elif isinstance(node.op, ops.Concat) and node.op.axis == 1:
            channel = 0
            for name in node.inputs:
                movable = name in computed and not _is_view(computed[name])
                if movable and name not in parents:
                    parents[name] = Alias(node.name, channel)
                channel += graph.type(name).shape[1]
    return parents


def _is_view(node: Node) -> bool:
    return isinstance(node.op, ops.Slice | ops.Reshape)


def find_borders(graph: Graph, homes: Mapping[str, Alias]) -> dict[str, Padding]:
    """Return, for each root, the border of zeros that the convolutions reading it rely on."""
    borders: dict[str, Padding] = {}
    for node in graph:
        if node.inputs and node.inputs[0] in homes:
            root = homes[node.inputs[0]].root
            needs = zip(borders.get(root, NO_BORDER), border_need(graph, node), strict=True)
            borders[root] = Padding(*(max(pair) for pair in needs))
    return borders


def border_need(graph: Graph, node: Node) -> Padding:
    """Return the zeros around its input that a convolution reads in place of its padding."""
    op = node.op.op if isinstance(node.op, Fused) else node.op
    if isinstance(op, ops.Conv2d):
        return op.padding
    if isinstance(op, ops.ConvTranspose2d):
        x, weight = (graph.type(name).shape for name in node.inputs[:2])
        return transposed_border(op, x, weight, node.type.shape)
    return NO_BORDER


def transposed_border(op: ops.ConvTranspose2d, x: Shape, weight: Shape, output: Shape) -> Padding:
    """Return how far the phases of a transposed convolution read around their input."""
    sides: list[int] = []
    befores = (op.padding.top, op.padding.left)
    for axis in (0, 1):
        stride, dilation = op.stride[axis], op.dilation[axis]
        kernel, before, length = weight[2 + axis], befores[axis], output[2 + axis]
        reads = [
            (position + before - tap * dilation) // stride
            for position in (*range(min(stride, length)), *range(max(0, length - stride), length))
            for tap in range(kernel)
            if (position + before - tap * dilation) % stride == 0
        ]
        last = x[2 + axis] - 1
        sides += [max(0, -min(reads, default=0)), max(0, max(reads, default=0) - last)]
    top, last_row, left, last_column = sides
    return Padding(top, last_row, left, last_column)
