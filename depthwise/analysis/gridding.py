"""Which positions of its receptive field a pixel after stacked dilated convolutions really reads.

Wang et al., "Understanding convolution for semantic segmentation", arXiv:1702.08502, section 3.2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from depthwise.graph import Graph, Node, Shape, ops

Positions = frozenset[int]  # along one axis, relative to the pixel that reads them
ITSELF: Positions = frozenset((0,))


class Coverage(NamedTuple):
    """Positions of one axis of the receptive field that are read, of how many."""

    covered: int
    total: int


def coverage(kernels: Sequence[int], dilations: Sequence[int]) -> Coverage:
    """Return how much of one axis a stack of convolutions of stride 1 reads.

    Raises ValueError for lists of different lengths or a number below 1.
    """
    if len(kernels) != len(dilations):
        raise ValueError(f"{len(kernels)} kernels and {len(dilations)} dilations: give one of each")
    if min((*kernels, *dilations), default=1) < 1:
        raise ValueError(f"kernels {kernels} and dilations {dilations} must be at least 1")
    positions = ITSELF
    for kernel, dilation in zip(kernels, dilations, strict=True):
        positions = _widen(positions, kernel, dilation)
    return measure(positions)


def measure(positions: Positions) -> Coverage:
    """Return how many positions there are, and how many from the first to the last."""
    return Coverage(len(positions), max(positions) - min(positions) + 1)


def _widen(positions: Positions, kernel: int, dilation: int, padding: int = 0) -> Positions:
    return frozenset(p - padding + tap * dilation for p in positions for tap in range(kernel))


def _shift(positions: Positions, distance: int) -> Positions:
    return frozenset(p + distance for p in positions)


class WindowedLayer(NamedTuple):
    """A convolution or pooling of the graph, as far as it matters here."""

    node: Node
    kernel: ops.Pair
    dilation: ops.Pair

    @property
    def dilated(self) -> bool:
        """Whether its taps leave pixels out."""
        return any(k > 1 and d > 1 for k, d in zip(self.kernel, self.dilation, strict=True))


@dataclass(frozen=True)
class Reach:
    """What a pixel reads of the grid that it stands on; `stack` is the widest way to there."""

    axes: tuple[Positions, Positions] = (ITSELF, ITSELF)
    stack: tuple[WindowedLayer, ...] = ()

    @property
    def coverages(self) -> tuple[Coverage, Coverage]:
        """The coverage of rows, and of columns."""
        return measure(self.axes[0]), measure(self.axes[1])

    @property
    def width(self) -> int:
        """Rows and columns from the first to the last."""
        return sum(c.total for c in self.coverages)

    @property
    def has_holes(self) -> bool:
        """Whether positions between the first and the last are not read."""
        return any(c.covered < c.total for c in self.coverages)

    def after(self, window: WindowedLayer, padding: ops.Padding) -> "Reach":
        """Return the reach after one more window."""
        before = padding.top, padding.left
        taps = zip(self.axes, window.kernel, window.dilation, before, strict=True)
        rows, columns = (_widen(*axis) for axis in taps)
        grown = max(window.kernel) > 1
        return Reach((rows, columns), (*self.stack, window) if grown else self.stack)


def gridded_stacks(graph: Graph) -> list[Reach]:
    """Return each stack of layers with a dilated one whose pixels read with holes, longest first.

    A stack is all that lies between two changes of resolution: holes count where it ends, so
    dense layers before, beside or after the dilated ones may fill them. No layer is in two.
    """
    stacks: list[Reach] = []
    reported: set[str] = set()
    ends = [end for end in _ends(graph) if end.has_holes]
    for end in sorted(ends, key=lambda end: -len(end.stack)):
        dilated = {window.node.name for window in end.stack if window.dilated}
        if not dilated & reported:
            stacks.append(end)
        reported |= dilated
    return stacks


def _ends(graph: Graph) -> list[Reach]:
    """Return the reach at every place where a grid ends: resampled, pooled away or returned."""
    readers, outputs = graph.readers(), {output.value for output in graph.outputs}
    reaches = dict.fromkeys(graph.inputs, Reach())
    ends = []
    for node in graph:
        window = _window(graph, node)
        if window:
            before = reaches[node.inputs[0]]
            reach = before.after(window, node.op.padding)  # type: ignore[union-attr]
            if node.op.stride != (1, 1):  # type: ignore[union-attr]
                # a pooling picks among pixels: it does not fill the holes in each
                ends.append(reach if isinstance(node.op, ops.Conv2d | ops.DeformConv2d) else before)
                reach = Reach()
        else:
            reach = _passed_on(graph, node, reaches)
        reaches[node.name] = reach
        reads = readers[node.name]
        goes_on = any(_window(graph, r) or _keeps_grid(graph, r, node.name) for r in reads)
        resized = any(isinstance(r.op, ops.Resize | ops.Resample) for r in reads)
        if node.name in outputs or resized or not goes_on:
            ends.append(reach)
    return ends


def _window(graph: Graph, node: Node) -> WindowedLayer | None:
    match node.op:
        case ops.Conv2d() | ops.DeformConv2d():
            height, width = graph.type(node.inputs[1]).shape[2:]
            return WindowedLayer(node, (height, width), node.op.dilation)
        case ops.MaxPool2d():
            return WindowedLayer(node, node.op.kernel, node.op.dilation)
        case ops.AvgPool2d():
            return WindowedLayer(node, node.op.kernel, (1, 1))
    return None


def _keeps_grid(graph: Graph, node: Node, name: str) -> bool:
    """Return whether a node's pixels stand where those of its input `name` stand."""
    here = node.type.shape
    same_plane = _plane(here) is not None and _plane(here) == _plane(graph.type(name).shape)
    match node.op:
        case ops.Pad():
            return True
        case ops.Slice(axis=2 | 3, step=step):
            return step == 1
        case ops.Permute(axes=axes):
            return same_plane and axes[-2:] == (len(axes) - 2, len(axes) - 1)
        case (
            ops.BatchNorm() | ops.GroupNorm() | ops.LayerNorm() | ops.Activation() | ops.PRelu()
            | ops.Binary() | ops.Softmax() | ops.Reshape() | ops.Slice() | ops.Expand()
            | ops.Gather(axis=1)
        ):  # fmt: skip
            return same_plane
        case ops.Concat(axis=axis):
            return same_plane and axis == 1
    return False


def _passed_on(graph: Graph, node: Node, reaches: dict[str, Reach]) -> Reach:
    """Return the reach after a node without a window: all that its inputs on this grid read."""
    kept = [n for n in graph.activations(node) if _keeps_grid(graph, node, n)]
    if not kept:
        return Reach()
    met = _union(reaches[name] for name in kept)
    rows, columns = met.axes
    match node.op:
        case ops.Pad(pads=(*_, (top, _), (left, _))):
            rows = _shift(rows, -top if len(node.type.shape) > 3 else 0)
            columns = _shift(columns, -left)
        case ops.Slice(axis=axis, start=start) if axis == len(node.type.shape) - 1:
            columns = _shift(columns, start)
        case ops.Slice(axis=2, start=start):
            rows = _shift(rows, start)
    return Reach((rows, columns), met.stack)


def _plane(shape: Shape) -> ops.Pair | None:
    """Return (H, W), None where there are no pixels: (N, C, W) is a plane of one row."""
    if len(shape) < 3:
        return None
    return (1, shape[2]) if len(shape) == 3 else (shape[-2], shape[-1])


def _union(reaches: Iterable[Reach]) -> Reach:
    all_ = list(reaches)
    rows, columns = (frozenset().union(*(r.axes[i] for r in all_)) for i in (0, 1))
    return Reach((rows, columns), max(all_, key=lambda r: r.width).stack)
