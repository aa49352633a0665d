"""What each axis of each value consists of: the images of a batch, a size of the image, or neither.

A graph is of inputs of fixed sizes. For a module to take others, each size that a graph states
(of a Reshape, say) is traced back to where it comes from: to the number of images, to the height
or width of a value, or to the network itself, as a number of channels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

from depthwise.errors import DepthwiseError
from depthwise.graph.graph import Graph, Node, Shape, TensorType


@dataclass(frozen=True)
class OpenSize:
    """A size that is known when a network is run: that of an axis of a value, by a divisor.

    `captured` is what it is in the graph; `is_batch` tells that it counts images.
    """

    value: str
    axis: int
    captured: int
    divisor: int = 1
    is_batch: bool = False


AxisPart = int | OpenSize
Axis = tuple[AxisPart, ...]  # in row-major order, the first outermost
Axes = tuple[Axis, ...]


class MixedImages(DepthwiseError):  # noqa: N818  (it is caught where the network is made)
    """A node computes with several images of a batch at once, so that their number is fixed."""


@dataclass(frozen=True)
class TracedNode:
    """A node while axes are traced: the types of what it reads, and the shape that it has."""

    node: Node
    types: tuple[TensorType, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each value that the node reads."""
        return tuple(type_.shape for type_ in self.types)

    @property
    def shape(self) -> Shape:
        """The shape of the node's result in the graph."""
        return self.node.type.shape

    def mixed(self, how: str) -> MixedImages:
        """Return what to raise where the node does something with several images."""
        name = type(self.node.op).__name__
        where = f" in module {self.node.path!r}" if self.node.path else ""
        return MixedImages(f"{self.node.name} ({name}{where}) {how}")

    def made(self, axis: int, *sources: Axis) -> Axis:
        """Return an axis of the result whose size follows from that of others."""
        if any(map(is_open, sources)):
            return (OpenSize(self.node.name, axis, self.shape[axis]),)
        return (self.shape[axis],)

    def batch_within(self, axes: Axes, allowed: Iterable[int], how: str) -> None:
        """Raise MixedImages where images lie side by side along an axis that is not allowed."""
        allowed = tuple(allowed)
        if any(is_batch(axis) and i not in allowed for i, axis in enumerate(axes)):
            raise self.mixed(how)


def captured(axis: Axis) -> int:
    """Return the size of an axis in the graph."""
    return prod(part.captured if isinstance(part, OpenSize) else part for part in axis)


def is_open(axis: Axis) -> bool:
    """Tell whether an axis may have another size than in the graph."""
    return any(isinstance(part, OpenSize) for part in axis)


def is_batch(axis: Axis) -> bool:
    """Tell whether the images of a batch lie along an axis, alone or with other things."""
    return any(isinstance(part, OpenSize) and part.is_batch for part in axis)


def fixed(shape: Shape) -> Axes:
    """Return axes that have the sizes of the graph whatever is given."""
    return tuple((size,) for size in shape)


def trace_axes(
    graph: Graph, rule: Callable[[TracedNode, tuple[Axes, ...]], Axes]
) -> tuple[dict[str, Axes], str]:
    """Return the axes of every value, and why the number of images is fixed, if it is.

    The first axis of each input counts images where all inputs have as many; third and later ones
    are sizes of images.
    """
    counts = {type_.shape[:1] for type_ in graph.inputs.values()}
    if len(counts) == 1 and counts != {()}:
        try:
            return _trace(graph, rule, batch=True), ""
        except MixedImages as error:
            return _trace(graph, rule, batch=False), str(error)
    return _trace(graph, rule, batch=False), "its inputs have different first axes"


def _trace(graph: Graph, rule: Callable[..., Axes], *, batch: bool) -> dict[str, Axes]:
    first = next(iter(graph.inputs), "")
    axes = {name: fixed(constant.type.shape) for name, constant in graph.constants.items()}
    for name, type_ in graph.inputs.items():
        shape = type_.shape
        images = (OpenSize(first, 0, shape[0], is_batch=True),) if batch else shape[:1]
        sides = (OpenSize(name, axis, shape[axis]) for axis in range(2, len(shape)))
        axes[name] = tuple((part,) for part in (*images, *shape[1:2], *sides))
    for node in graph:
        types = tuple(graph.type(name) for name in node.inputs)
        found = rule(TracedNode(node, types), tuple(axes[name] for name in node.inputs))
        assert tuple(map(captured, found)) == node.type.shape, (node, found)
        axes[node.name] = found
    for output in graph.outputs:
        if any(is_batch(axis) and len(axis) > 1 for axis in axes[output.value]):
            raise MixedImages(
                f"it returns {output.value}, in which images lie along one axis with other things"
            )
    return axes
