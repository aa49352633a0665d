"""Which elements of its input a convolution's output reads, and with which weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import floor

import numpy as np

from depthwise.analysis.cost import Layer
from depthwise.graph import Graph, Node, Shape, ops

CONVOLUTIONS = (ops.Conv2d, ops.ConvTranspose2d, ops.DeformConv2d)
Convolution = ops.Conv2d | ops.ConvTranspose2d | ops.DeformConv2d

# How far each tap of the drawn deformable window moves: this map of its place (y, x), a turn and a
# stretch. A trained layer predicts other offsets for every element; an untrained one none.
TURN = ((1.1, -0.5), (0.45, 1.0))


@dataclass(frozen=True)
class ConvStage:
    """One convolution: its operator, shapes without the batch, and what it costs.

    `weight` is (K, C / groups, R, S), of a transposed convolution (C, K / groups, R, S).
    """

    op: Convolution
    weight: Shape
    input: Shape
    output: Shape
    layer: Layer

    @property
    def kernel(self) -> tuple[int, int]:
        """Its kernel's height and width in taps."""
        return self.weight[2], self.weight[3]

    def connected(self, k: int) -> range:
        """Return the input channels that output channel `k` reads."""
        size = self.input[0] // self.op.groups
        first = k // (self.output[0] // self.op.groups) * size
        return range(first, first + size)


@dataclass(frozen=True)
class Tap:
    """A weight (r, s) of a kernel and the place (y, x) in the input that it is multiplied with.

    Whole numbers but for a deformable convolution; the place may be outside the image.
    """

    r: int
    s: int
    y: float
    x: float

    def elements(self) -> Iterator[tuple[int, int]]:
        """Yield the elements that are read: between elements bilinear, so up to four."""
        top, left = floor(self.y), floor(self.x)
        for y in (top, top + 1) if self.y > top else (top,):
            for x in (left, left + 1) if self.x > left else (left,):
                yield y, x


def find_stages(graph: Graph, layers: tuple[Layer, ...]) -> tuple[ConvStage, ...]:
    """Return the convolutions of a graph in order, each reading the one before it.

    The convolution that predicts a deformable one's offsets is no stage. Raises ValueError where
    there is no convolution, or more than a chain of them.
    """
    nodes = [node for node in graph if isinstance(node.op, CONVOLUTIONS)]
    if any(isinstance(node.op, ops.DeformConv2d) for node in nodes):
        nodes = [node for node in nodes if isinstance(node.op, ops.DeformConv2d)]
    if not nodes or any(isinstance(node.op, ops.Resize | ops.Resample) for node in graph):
        raise ValueError("windows are drawn of convolutions alone: here is none, or a resize")
    costs = {layer.name: layer for layer in layers}
    stages = tuple(_stage(graph, node, costs[node.name]) for node in nodes)
    for before, stage in pairwise(stages):
        if before.output != stage.input:
            raise ValueError(
                f"{stage.layer.path} reads {stage.input}, not {before.output} of "
                f"{before.layer.path}: windows are drawn of chains of convolutions"
            )
    return stages


def _stage(graph: Graph, node: Node, layer: Layer) -> ConvStage:
    assert isinstance(node.op, CONVOLUTIONS)
    shapes = [graph.type(name).shape for name in node.inputs]
    return ConvStage(node.op, shapes[1], shapes[0][1:], node.type.shape[1:], layer)


def taps(stage: ConvStage, y: int, x: int) -> list[Tap]:
    """Return the taps whose products make up the output elements at (y, x) of all channels."""
    op, (height, width) = stage.op, stage.kernel
    found = []
    for r in range(height):
        for s in range(width):
            place = _place(op, (r, s), (y, x))
            if place is not None:
                found.append(Tap(r, s, *place))
    if isinstance(op, ops.DeformConv2d):
        return [_moved(tap, stage) for tap in found]
    return found


def _place(op: Convolution, tap: tuple[int, int], at: tuple[int, int]) -> tuple[int, int] | None:
    """Return the input place that a tap at an output place reads, None between two of them."""
    place = []
    start = (op.padding.top, op.padding.left)
    for t, i, stride, pad, step in zip(tap, at, op.stride, start, op.dilation, strict=True):
        if isinstance(op, ops.ConvTranspose2d):
            spread = i + pad - t * step  # the place among elements spread `stride` apart
            if spread % stride:
                return None
            place.append(spread // stride)
        else:
            place.append(i * stride - pad + t * step)
    return place[0], place[1]


def _moved(tap: Tap, stage: ConvStage) -> Tap:
    """Return a tap moved as TURN moves it around its kernel's middle."""
    rest = [
        (t - (size - 1) / 2) * step
        for t, size, step in zip((tap.r, tap.s), stage.kernel, stage.op.dilation, strict=True)
    ]
    moved = [row[0] * rest[0] + row[1] * rest[1] for row in TURN]
    return Tap(tap.r, tap.s, tap.y + moved[0] - rest[0], tap.x + moved[1] - rest[1])


def read_by(stage: ConvStage, wanted: np.ndarray) -> np.ndarray:
    """Return which input elements (C, H, W) the `wanted` output elements (K, H', W') read."""
    read = np.zeros(stage.input, bool)
    _, height, width = stage.input
    for k, y, x in np.argwhere(wanted).tolist():
        for tap in taps(stage, y, x):
            for row, column in tap.elements():
                if 0 <= row < height and 0 <= column < width:
                    read[stage.connected(k), row, column] = True
    return read


def trace_back(
    stages: tuple[ConvStage, ...], channel: int, at: tuple[int, int]
) -> list[np.ndarray]:
    """Return masks: of the first stage's input, then of each stage's output, read by one element.

    The last mask is that element. Raises ValueError where the last output has no such element.
    """
    channels, height, width = stages[-1].output
    if not (channel < channels and 0 <= at[0] < height and 0 <= at[1] < width):
        raise ValueError(f"there is no element {at}: the output is {height}×{width}")
    mask = np.zeros(stages[-1].output, bool)
    mask[channel, at[0], at[1]] = True
    masks = [mask]
    for stage in reversed(stages):
        masks.insert(0, read_by(stage, masks[0]))
    return masks
