"""Borders of zeros around images: what convolutions need of them, and the calls that set them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from depthwise.compiler.fused_ops import Fused
from depthwise.compiler.lowering.areas import border_of_areas
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.schedule.aliases import Alias
from depthwise.compiler.schedule.border_calls import border_call
from depthwise.compiler.schedule.threads import Parts
from depthwise.graph import Graph, Node, Shape, ops
from depthwise.graph.ops import NO_PADDING, Padding
from depthwise.quantization.integer_ops import IntegerLayer


def find_borders(graph: Graph, homes: Mapping[str, Alias]) -> dict[str, Padding]:
    """Return, for each root, the border of zeros that the convolutions reading it rely on."""
    borders: dict[str, Padding] = {}
    for node in graph:
        if node.inputs and node.inputs[0] in homes:
            root = homes[node.inputs[0]].root
            needs = zip(borders.get(root, NO_PADDING), border_need(graph, node), strict=True)
            borders[root] = Padding(*(max(pair) for pair in needs))
    return borders


def find_border_values(graph: Graph, homes: Mapping[str, Alias]) -> dict[str, int]:
    """Return, for each root of bytes, what stands for 0 to the layers that read it."""
    return {
        homes[node.inputs[0]].root: node.op.zero
        for node in graph
        if isinstance(node.op, IntegerLayer) and node.inputs[0] in homes
    }


def border_need(graph: Graph, node: Node) -> Padding:
    """Return the zeros around its input that a convolution reads in place of its padding."""
    if isinstance(node.op, IntegerLayer):  # whose taps are all done everywhere
        return node.op.op.padding if isinstance(node.op.op, ops.Conv2d) else NO_PADDING
    op = node.op.op if isinstance(node.op, Fused) else node.op
    if not isinstance(op, ops.Conv2d | ops.ConvTranspose2d):
        return NO_PADDING
    x, weight = (graph.type(name).shape for name in node.inputs[:2])
    if isinstance(op, ops.Conv2d):
        return border_of_areas(op, x, weight, node.type.shape)
    return transposed_border(op, x, weight, node.type.shape)


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


def zero_borders(regions: Sequence[Parts], buffers: Sequence[Buffer]) -> list[Parts]:
    """Return the regions with calls that zero each border, before the first region to touch it.

    With threads the last of them does so in the region before.
    """
    filled: set[int] = set()
    result: list[Parts] = []
    for region in regions:
        fills = _fill_borders(region, buffers, filled)
        if fills and result and len(result[-1]) > 1:
            result[-1] = (*result[-1][:-1], (*result[-1][-1], *fills))
        elif fills:
            result += [((fill,),) for fill in fills]
        result.append(region)
    return result


def _fill_borders(region: Parts, buffers: Sequence[Buffer], filled: set[int]) -> list[KernelCall]:
    """Return the calls that zero the borders of buffers that a region is the first to touch."""
    fills: list[KernelCall] = []
    for step in (step for part in region for step in part):
        for buffer in sorted({view.buffer for view in step.views} - filled):
            filled.add(buffer)
            fills += fill_border(buffers[buffer], buffer, step)
    return fills


def fill_border(home: Buffer, buffer: int, step: KernelCall) -> list[KernelCall]:
    """Return the call that zeroes the border in a buffer, if there is one, ahead of a step.

    `home` says how images lie in the buffer of that number.
    """
    frame = home.frame
    if frame is None or frame.border == NO_PADDING:
        return []
    images, _, height, width = frame.shape
    arguments = {
        "images": images, "rows": height, "width": width, "channels": frame.pixel,
        **frame.border._asdict(), "y": replace(frame.view(buffer), offset=0),
    }  # fmt: skip
    return [border_call(home, arguments, step)]
