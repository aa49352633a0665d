"""A convolution as a picture: input planes, the kernels between, output planes, sliding windows.

One language for all kinds: a row an input channel, a column an output channel, and a kernel where
the two are connected.
"""

from dataclasses import dataclass
from math import prod
from textwrap import wrap

import numpy as np
from torch import nn

from depthwise.analysis.cost import Cost, cost_of_graph
from depthwise.analysis.cost import cost as cost_of
from depthwise.graph import Graph, ops
from depthwise.report.planes import (
    CSS,
    MIXED,
    PlaneLayout,
    channel_style,
    draw_kernel,
    draw_plane,
    draw_window,
    reach,
    spread_of,
    used_taps,
)
from depthwise.report.svg import document, rectangle, text_width, wire, words
from depthwise.report.windows import ConvStage, find_stages, trace_back

WIDTH, MARGIN = 440, 14
GAP = 9  # pixels between planes
LARGEST, SMALLEST = 13.0, 2.5  # pixels of an element
MOST = 8  # channels
TALLEST = 200  # elements of a column, with the zeros around them
LETTERS = 62  # characters of a line


@dataclass(frozen=True)
class Sheet:
    """Where a stage's planes and kernels stand."""

    stage: ConvStage
    unit: float
    top: float

    @property
    def row(self) -> float:
        """The height of an input channel's row."""
        return max(spread_of(self.stage).cells[0], reach(self.stage)[0]) * self.unit + GAP

    @property
    def column(self) -> float:
        """The width of an output channel's column."""
        return max(self.stage.output[2], reach(self.stage)[1]) * self.unit + GAP

    @property
    def first(self) -> float:
        """The x where the first column begins."""
        label = text_width(_input(self.stage), 11)
        return MARGIN + max(label, spread_of(self.stage).cells[1] * self.unit) + 2 * GAP

    @property
    def bottom(self) -> float:
        """The y where the last row ends."""
        return self.top + self.row * self.stage.input[0]

    def middle(self, c: int) -> float:
        """Return the y of a row's middle."""
        return self.top + (c + 0.5) * self.row - GAP / 2

    def centre(self, k: int) -> float:
        """Return the x of a column's middle."""
        return self.first + (k + 0.5) * self.column - GAP / 2


def conv_picture(graph: Graph, title: str, about: str, at: tuple[int, int] | None = None) -> str:
    """Return a chain of convolutions as SVG text; `about` says in a sentence what they do.

    One element of the last output is marked, at row and column `at` (the middle without it), and
    every element and weight that it is made of. Raises ValueError where there is no such chain, no
    such element, or more than can be seen.
    """
    cost = cost_of_graph(graph, title)
    stages = find_stages(graph, cost.layers)
    unit = min(_unit(stage) for stage in stages)
    last = stages[-1].output
    masks = trace_back(stages, last[0] // 2, at or (last[1] // 2, last[2] // 2))
    shapes = [words(MARGIN, 28, title, 16, "ink bold")]
    y = 46.0
    for line in wrap(about, LETTERS):
        shapes.append(words(MARGIN, y, line, 11, "dim"))
        y += 15
    for i, (stage, read, wanted) in enumerate(zip(stages, masks, masks[1:], strict=False)):
        sheet = Sheet(stage, unit, y + 46)
        shapes += _draw_stage(sheet, i, len(stages), read, wanted)
        y = sheet.bottom + stage.output[1] * unit + 2 * GAP
        for line in _captions(stage, read, wanted):
            y += 15
            shapes.append(words(MARGIN, y, line, 11))
        y += 12
    for line in _totals(graph, cost, stages):
        y += 15
        shapes.append(words(MARGIN, y, line, 11, "ink bold"))
    y += 6
    for line in _key(stages):
        y += 15
        shapes.append(words(MARGIN, y, line, 11, "dim"))
    return document(WIDTH, y + MARGIN, f"{title}: {about}", shapes, CSS)


def _unit(stage: ConvStage) -> float:
    """Return the pixels of an element for which a stage fits the page."""
    channels, columns = stage.input[0], stage.output[0]
    cells = columns * max(stage.output[2], reach(stage)[1])
    room = WIDTH - 2 * MARGIN - (columns + 2) * GAP
    beside = (room - text_width(_input(stage), 11)) / cells
    unit = min(LARGEST, beside, room / (cells + spread_of(stage).cells[1]))
    rows = max(stage.output[1], reach(stage)[0], spread_of(stage).cells[0])
    if unit < SMALLEST or max(channels, columns) > MOST or rows > TALLEST:
        raise ValueError(
            f"{channels} to {columns} channels of {stage.input[1]}×{stage.input[2]} elements are "
            f"more than can be seen: at most {MOST} channels, and a few small ones read best"
        )
    return unit


def _draw_stage(
    sheet: Sheet, number: int, count: int, read: np.ndarray, wanted: np.ndarray
) -> list[str]:
    stage, unit = sheet.stage, sheet.unit
    step = f"{number + 1}. " if count > 1 else ""
    shapes = [
        words(MARGIN, sheet.top - 24, f"{step}{_name(stage)}", 12, "ink bold"),
        words(MARGIN, sheet.top - 7, _input(stage), 11, "dim"),
        words(sheet.first, sheet.top - 7, _kernels(stage), 11, "dim"),
    ]
    shapes += _draw_wires(sheet, wanted)
    spread = spread_of(stage)
    places = {(y, x) for _, y, x in np.argwhere(wanted).tolist()}
    for c in range(stage.input[0]):
        top = sheet.middle(c) - spread.cells[0] * unit / 2
        shapes += draw_plane(MARGIN, top, unit, spread, channel_style(c), read[c])
        if len(places) == 1 and read[c].any():
            shapes += draw_window(MARGIN, top, unit, stage, *places)
    for k in range(stage.output[0]):
        shapes += _draw_column(sheet, k, wanted[k])
    shapes.append(words(MARGIN, sheet.bottom + stage.output[1] * unit / 2 + 4, "output", 11, "dim"))
    shapes.append(
        words(
            MARGIN, sheet.bottom + stage.output[1] * unit / 2 + 18, _sizes(stage.output), 11, "dim"
        )
    )
    return shapes


def _draw_wires(sheet: Sheet, wanted: np.ndarray) -> list[str]:
    """Return the lines from input planes to kernels and on to output planes."""
    stage, shapes = sheet.stage, []
    right = MARGIN + spread_of(stage).cells[1] * sheet.unit
    for c in range(stage.input[0]):
        columns = [k for k in range(stage.output[0]) if c in stage.connected(k)]
        y = sheet.middle(c)
        shapes.append(wire((right, y), (sheet.centre(columns[-1]), y), style="grid"))
    for k in range(stage.output[0]):
        x, top = sheet.centre(k), sheet.middle(stage.connected(k)[0])
        style = "wire" if wanted[k].any() else "grid"
        shapes.append(wire((x, top), (x, sheet.bottom), style=style))
    return shapes


def _draw_column(sheet: Sheet, k: int, wanted: np.ndarray) -> list[str]:
    """Return an output channel's kernels and its plane."""
    stage, unit, shapes = sheet.stage, sheet.unit, []
    rows, columns = reach(stage)
    used = used_taps(stage, wanted)
    for c in stage.connected(k):
        left, top = sheet.centre(k) - columns * unit / 2, sheet.middle(c) - rows * unit / 2
        shapes += draw_kernel(left, top, unit, stage, channel_style(c), used)
        if wanted.any():
            shapes.append(rectangle(left, top, columns * unit, rows * unit, "frame"))
    inputs = stage.connected(k)
    style = channel_style(inputs[0]) if len(inputs) == 1 else MIXED
    size = (stage.output[1], stage.output[2])
    left = sheet.centre(k) - size[1] * unit / 2
    return shapes + draw_plane(left, sheet.bottom, unit, PlaneLayout(size), style, wanted)


def _input(stage: ConvStage) -> str:
    return f"input {_sizes(stage.input)}"


def _sizes(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]}×{shape[2]}"


def _name(stage: ConvStage) -> str:
    op = stage.op
    parts = [f"{stage.layer.kind} {stage.kernel[0]}×{stage.kernel[1]}"]
    if op.stride != (1, 1):
        parts.append(f"stride {op.stride[0]}")
    if op.dilation != (1, 1):
        parts.append(f"dilation {op.dilation[0]}")
    if stage.layer.kind == "grouped":
        parts.append(f"{op.groups} groups")
    return ", ".join(parts)


def _kernels(stage: ConvStage) -> str:
    count = sum(len(stage.connected(k)) for k in range(stage.output[0]))
    return f"{count} kernels"


def _captions(stage: ConvStage, read: np.ndarray, wanted: np.ndarray) -> list[str]:
    """Return what the marked elements read, and what the stage costs."""
    layer, count = stage.layer, int(wanted.sum())
    channels = int(read.any(axis=(1, 2)).sum())
    subject = "the marked element reads" if count == 1 else f"the {count} marked elements read"
    where = f"{channels} channel{'s' if channels > 1 else ''}"
    transposed = isinstance(stage.op, ops.ConvTranspose2d)
    each = (layer.macs or 0) // prod(stage.input if transposed else stage.output)
    element = "input" if transposed else "output"
    factors = " × ".join(map(str, stage.weight))
    product = f"{factors} = " if prod(stage.weight) == layer.params else ""
    return [
        f"{subject} {int(read.sum())} elements of {where}",
        f"{product}{layer.params:,} weights",
        f"{layer.macs:,} MACs, {each} for each {element} element",
    ]


def _key(stages: tuple[ConvStage, ...]) -> list[str]:
    """Return what the frames and dots of these stages mean."""
    operators = [stage.op for stage in stages]
    lines = ["kernels: a row an input channel, a column an output channel"]
    if any(isinstance(op, ops.DeformConv2d) for op in operators):
        return [
            *lines,
            "arrows: from a tap at rest to where it looks; between elements",
            "it reads four of them. Offsets are predicted from the image,",
            "others for each element: those drawn are an example",
        ]
    lines.append("frame: the window of the marked element; dashed: the next one's")
    if any(isinstance(op, ops.ConvTranspose2d) for op in operators):
        lines.append("empty: zeros put between the elements and around them")
    elif any(spread_of(stage).cells != stage.input[1:] for stage in stages):
        lines.append("dotted: zeros put around the image")
    return lines


def _totals(graph: Graph, cost: Cost, stages: tuple[ConvStage, ...]) -> list[str]:
    """Return the sums of several convolutions, and what a standard one would cost."""
    convolutions = [layer for layer in cost.layers if layer.macs]
    drawn = {stage.layer.name for stage in stages}
    lines = [
        f"offsets: {layer.kind}, to {layer.output_shape[1]} channels, {layer.params:,} parameters"
        for layer in convolutions
        if layer.name not in drawn
    ]
    channels = graph.type(graph.outputs[0].value).shape[1]
    if any(isinstance(node.op, ops.Concat) for node in graph):
        maps = " and ".join(f"{stage.output[0]} of step {i + 1}" for i, stage in enumerate(stages))
        cut = f", cut to {channels}" if channels < sum(stage.output[0] for stage in stages) else ""
        lines.append(f"output: the maps {maps}{cut}")
    if len(convolutions) > 1:
        params, macs = (
            sum(getattr(layer, name) for layer in convolutions) for name in ("params", "macs")
        )
        lines.append(f"in all {params:,} parameters, {macs:,} MACs")
    first = stages[0]
    if len(stages) > 1 or first.op.groups > 1:
        same = _standard(first, channels)
        kernel = f"{first.kernel[0]}×{first.kernel[1]}"
        lines.append(f"standard {kernel}: {same.params:,} weights, {same.macs:,} MACs")
    return lines


def _standard(stage: ConvStage, channels: int) -> Cost:
    """Return the cost of a stage without groups, to as many output channels."""
    op = stage.op
    kind = nn.ConvTranspose2d if isinstance(op, ops.ConvTranspose2d) else nn.Conv2d
    padding = (op.padding.top, op.padding.left)
    net = kind(
        stage.input[0], channels, stage.kernel, op.stride, padding,
        dilation=op.dilation, bias=False, device="meta",
    )  # fmt: skip
    return cost_of(net, (1, *stage.input))
