"""A graph for another number of images than it was captured with."""

from dataclasses import replace
from math import prod

from depthwise.graph import ops
from depthwise.graph.check import check
from depthwise.graph.exporters.torch.axes import Axes, Axis, OpenSize, trace_axes
from depthwise.graph.exporters.torch.axes_rules import axes_of
from depthwise.graph.graph import Graph, Node, TensorType


def with_images(graph: Graph, count: int) -> Graph:
    """Return a graph that takes so many images at once, and does with each what it did before.

    Raises ValueError where it computes with several images at once, or groups them by a number
    that does not divide `count`.
    """
    axes, fixed = trace_axes(graph, axes_of)
    if fixed:
        raise ValueError(f"the network takes no other number of images: {fixed}")
    before = next(iter(graph.inputs.values())).shape[0]
    if before == count:
        return graph

    def resized(name: str, type_: TensorType) -> TensorType:
        return replace(type_, shape=_sizes(axes[name], before, count))

    def remade(node: Node) -> Node:
        type_ = resized(node.name, node.type)
        op = node.op
        if isinstance(op, ops.Reshape | ops.Expand):
            op = replace(op, shape=type_.shape)
        return replace(node, op=op, type=type_)

    inputs = {name: resized(name, type_) for name, type_ in graph.inputs.items()}
    return check(replace(graph, inputs=inputs, nodes=tuple(map(remade, graph))))


def _sizes(axes: Axes, before: int, count: int) -> tuple[int, ...]:
    return tuple(_size(axis, before, count) for axis in axes)


def _size(axis: Axis, before: int, count: int) -> int:
    """Return an axis's size with `count` images in place of those before."""
    size = prod(part.captured if isinstance(part, OpenSize) else part for part in axis)
    if not any(isinstance(part, OpenSize) and part.is_batch for part in axis):
        return size
    if size * count % before:
        raise ValueError(f"{count} images: the network groups {before} of them; take a multiple")
    return size * count // before
