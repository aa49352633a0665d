"""The least that a layer has to do, whoever does it: the multiply-adds, and the bytes that move."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from depthwise.compiler.fused_ops import Fused
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer
from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import Op, Pair
from depthwise.hardware import Machine
from depthwise.hardware.record import LEVELS
from depthwise.quantization.integer_ops import IntegerLayer

FILLED = 0.9  # of the lanes

MOVING = (
    ops.Slice, ops.Gather, ops.Permute, ops.Expand, ops.Reshape, ops.Pad, ops.Concat, ops.Resize,
)  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """What a layer cannot be faster than, in seconds, and why."""

    seconds: float
    reason: str


def bound(macs: int, size: int, calls: int, filled: float, machine: Machine, peak: float) -> Bound:
    """Return the roofline of `calls` alike: arithmetic at `peak` FLOP/s, or `size` bytes that move.

    The reason is "tail" where it is arithmetic of which a tenth or more is done on lanes that hold
    nothing.
    """
    moving = calls * seconds_to_move(size / calls, machine)
    arithmetic = 2 * macs / peak
    if moving > arithmetic / filled:
        return Bound(max(moving, arithmetic), f"bandwidth, {machine.level(size // calls)}")
    return Bound(max(moving, arithmetic), "tail" if filled < FILLED else "arithmetic")


def seconds_to_move(size: float, machine: Machine) -> float:
    """Return how long one core reads `size` bytes at best: each from the nearest cache with room.

    Of more than L1 holds, only the rest has to come from L2, and so on.
    """
    seconds, within = 0.0, 0
    for level, cache in zip(LEVELS, machine.caches, strict=False):
        here = min(size, cache - within)
        seconds += here / (1e9 * machine.gigabytes(level))
        size, within = size - here, cache
    return seconds + size / (1e9 * machine.gigabytes("memory"))


def products(step: KernelCall) -> int | None:
    """Return the multiply-adds of one call, outputs of whole lanes aside; None of other kernels.

    Winograd's are those between its transforms, fewer than the layer is counted with.
    """
    count = step.row.products
    return count(step.arguments) if count else None


def bytes_moved(
    graph: Graph, node: Node, steps: Sequence[KernelCall], buffers: Sequence[Buffer]
) -> int:
    """Return the bytes that a node reads, weights among them, or writes: the more of the two.

    A core reads and writes at once, so that no more is certain. `steps` are the calls that compute
    it, in a plan's `buffers`: one may read less than the node does, as a mean of totals that were
    left to it.
    """
    passed = sum(
        buffers[view.buffer].element.bytes * prod(view.shape)
        for step in steps
        for view in {*step.views}
    )
    return min(passed, max(_bytes_read(graph, node), node.type.bytes))


def own_operator(node: Node) -> Op:
    """Return what a node computes, without what is fused into it or its form in integers."""
    return node.op.op if isinstance(node.op, Fused | IntegerLayer) else node.op


def _bytes_read(graph: Graph, node: Node) -> int:
    op = own_operator(node)
    inputs = [graph.type(name) for name in dict.fromkeys(node.inputs)]
    read = sum(type.bytes for type in inputs)
    if isinstance(op, MOVING):
        return min(read, node.type.bytes)
    if isinstance(op, ops.DeformConv2d | ops.DeformRoIPool | ops.GridSample):
        return read - inputs[0].bytes  # where it looks, only its places know
    if (window := _window(graph, node, op)) is not None:
        image = inputs[0]
        seen = _share_seen(window, image.shape[2:], node.type.shape[2:])
        return read - image.bytes + int(image.bytes * seen)
    return read


def _window(graph: Graph, node: Node, op: Op) -> tuple[Pair, Pair, Pair, Pair] | None:
    """Return kernel, stride, dilation and first padding of what slides; None of other operators."""
    match op:
        case ops.Conv2d():
            height, width = graph.type(node.inputs[1]).shape[2:]
            kernel, dilation = (height, width), op.dilation
        case ops.MaxPool2d():
            kernel, dilation = op.kernel, op.dilation
        case ops.AvgPool2d():
            kernel, dilation = op.kernel, (1, 1)
        case _:
            return None
    return kernel, op.stride, dilation, (op.padding.top, op.padding.left)


def _share_seen(
    window: tuple[Pair, Pair, Pair, Pair], image: tuple[int, ...], output: tuple[int, ...]
) -> float:
    """Return the share of an image's pixels that a window sees: strides leave some out."""
    share = 1.0
    for kernel, stride, dilation, padding, size, steps in zip(*window, image, output, strict=True):
        seen = {
            i * stride + tap * dilation - padding for i in range(steps) for tap in range(kernel)
        }
        share *= len(seen & set(range(size))) / size
    return share
