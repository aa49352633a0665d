"""The parts of a convolution's picture: planes of elements, kernels, windows."""

from dataclasses import dataclass

import numpy as np

from depthwise.graph import ops
from depthwise.report.colours import (
    BLUE,
    GREEN,
    LIGHT_BLUE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
)
from depthwise.report.svg import rectangle, wire
from depthwise.report.windows import ConvStage, taps

CHANNELS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
MIXED = "mixed"  # what several channels are added up in

CSS = (
    "".join(f".c{i}{{fill:{colour};stroke:{colour}}}\n" for i, colour in enumerate(CHANNELS))
    + """.mixed{fill:#6B7480;stroke:#6B7480}
.soft{fill-opacity:.16;stroke-opacity:.45;stroke-width:.6}
.full{stroke:#FFFFFF;stroke-width:.8}
.grid{stroke:#8A929A;stroke-opacity:.45;stroke-width:.6}
.zeros{fill:none;stroke:#8A929A;stroke-width:.8;stroke-dasharray:2 2}
.frame{fill:none;stroke:#1B1F23;stroke-width:1.8}
.next{stroke-width:1;stroke-dasharray:3 2}
.move{stroke:#1B1F23;stroke-width:1}
.dot{fill:#1B1F23}
@media (prefers-color-scheme:dark){
"""
    + f".c0{{fill:{LIGHT_BLUE};stroke:{LIGHT_BLUE}}}\n"
    + """.mixed{fill:#A3ACB5;stroke:#A3ACB5}
.frame,.move{stroke:#F2F4F6} .dot{fill:#F2F4F6}
.full{stroke:#15181C}
.soft{fill-opacity:.22}
}
"""
)


@dataclass(frozen=True)
class PlaneLayout:
    """How a plane of elements lies on a grid: with `before` and `after` empty rows and columns.

    Neighbours are `step` cells apart: a transposed convolution puts zeros between them.
    """

    size: tuple[int, int]
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)

    @property
    def cells(self) -> tuple[int, int]:
        """The grid's rows and columns."""
        rows, columns = (
            b + (n - 1) * s + 1 + a
            for n, b, a, s in zip(self.size, self.before, self.after, self.step, strict=True)
        )
        return rows, columns

    def cell(self, y: float, x: float) -> tuple[float, float]:
        """Return the grid's row and column of an element."""
        return self.before[0] + y * self.step[0], self.before[1] + x * self.step[1]


def reach(stage: ConvStage) -> tuple[int, int]:
    """Return the rows and columns that a kernel spans with the gaps of its dilation."""
    height, width = (
        (size - 1) * step + 1 for size, step in zip(stage.kernel, stage.op.dilation, strict=True)
    )
    return height, width


def spread_of(stage: ConvStage) -> PlaneLayout:
    """Return how a stage's input is drawn: with the zeros that it is padded with."""
    op, size = stage.op, (stage.input[1], stage.input[2])
    before, after = (op.padding.top, op.padding.left), (op.padding.bottom, op.padding.right)
    if not isinstance(op, ops.ConvTranspose2d):
        return PlaneLayout(size, before, after)
    rows, columns = reach(stage)
    return PlaneLayout(
        size,
        (max(0, rows - 1 - before[0]), max(0, columns - 1 - before[1])),
        (max(0, rows - 1 - after[0]), max(0, columns - 1 - after[1])),
        op.stride,
    )


def window(stage: ConvStage, y: int, x: int) -> tuple[int, int]:
    """Return the grid's row and column where the window of an output element begins."""
    op, spread = stage.op, spread_of(stage)
    if isinstance(op, ops.ConvTranspose2d):
        # the plane may be cut where the output is padded by more than the window reaches
        cut = [
            n - 1 - p for n, p in zip(reach(stage), (op.padding.top, op.padding.left), strict=True)
        ]
        return y - cut[0] + spread.before[0], x - cut[1] + spread.before[1]
    return y * op.stride[0], x * op.stride[1]


def channel_style(c: int) -> str:
    """Return the class of an input channel's colour."""
    return f"c{c % len(CHANNELS)}"


def draw_plane(
    left: float, top: float, unit: float, spread: PlaneLayout, style: str, marked: np.ndarray
) -> list[str]:
    """Return a plane of elements: `marked` (H, W) ones in full colour."""
    rows, columns = spread.cells
    shapes = [rectangle(left, top, columns * unit, rows * unit, "page")]
    if spread.cells != spread.size:
        shapes.append(rectangle(left, top, columns * unit, rows * unit, "zeros"))
    for y, x in np.ndindex(*spread.size):
        row, column = spread.cell(y, x)
        shade = "full" if marked[y, x] else "soft"
        place = (left + column * unit, top + row * unit)
        shapes.append(rectangle(*place, unit, unit, f"{style} {shade}"))
    return shapes


def draw_kernel(
    left: float, top: float, unit: float, stage: ConvStage, style: str, used: set[tuple[int, int]]
) -> list[str]:
    """Return a kernel, its `used` taps in full colour; a transposed one as applied: turned."""
    (height, width), (down, across) = stage.kernel, stage.op.dilation
    turned = isinstance(stage.op, ops.ConvTranspose2d)
    rows, columns = reach(stage)
    shapes = [rectangle(left, top, columns * unit, rows * unit, "page")]
    if stage.op.dilation != (1, 1):
        shapes.append(rectangle(left, top, columns * unit, rows * unit, "zeros"))
    for r in range(height):
        for s in range(width):
            row, column = (height - 1 - r, width - 1 - s) if turned else (r, s)
            shade = "full" if (r, s) in used else "soft"
            place = (left + column * across * unit, top + row * down * unit)
            shapes.append(rectangle(*place, unit, unit, f"{style} {shade}"))
    return shapes


def used_taps(stage: ConvStage, wanted: np.ndarray) -> set[tuple[int, int]]:
    """Return the taps (r, s) that meet the image for one of the `wanted` (H', W') outputs."""
    _, height, width = stage.input
    return {
        (tap.r, tap.s)
        for y, x in np.argwhere(wanted).tolist()
        for tap in taps(stage, y, x)
        if any(0 <= row < height and 0 <= column < width for row, column in tap.elements())
    }


def draw_window(
    left: float, top: float, unit: float, stage: ConvStage, at: tuple[int, int]
) -> list[str]:
    """Return the frame of an output element's window, and dashed that of the next one.

    A deformable convolution has no frame: arrows from where its taps rest to where they look.
    """
    if isinstance(stage.op, ops.DeformConv2d):
        return _draw_moves(left, top, unit, stage, at)
    rows, columns = reach(stage)
    shapes = []
    places = [((at[0], at[1] + 1), "frame next"), (at, "frame")]
    for (y, x), style in places:
        if x < stage.output[2]:
            row, column = window(stage, y, x)
            corner = (left + column * unit, top + row * unit)
            shapes.append(rectangle(*corner, columns * unit, rows * unit, style))
    return shapes


def _draw_moves(
    left: float, top: float, unit: float, stage: ConvStage, at: tuple[int, int]
) -> list[str]:
    op, spread, shapes = stage.op, spread_of(stage), []
    for tap in taps(stage, *at):
        rest = (
            at[0] * op.stride[0] - op.padding.top + tap.r * op.dilation[0],
            at[1] * op.stride[1] - op.padding.left + tap.s * op.dilation[1],
        )
        (y, x), (y2, x2) = (spread.cell(*place) for place in (rest, (tap.y, tap.x)))
        start = (left + (x + 0.5) * unit, top + (y + 0.5) * unit)
        end = (left + (x2 + 0.5) * unit, top + (y2 + 0.5) * unit)
        shapes += [
            wire(start, end, style="move"),
            f'<circle cx="{end[0]:.5g}" cy="{end[1]:.5g}" r="{0.19 * unit:.3g}" class="dot"/>',
        ]
    return shapes
