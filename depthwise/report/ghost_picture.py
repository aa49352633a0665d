"""The feature maps of a layer, framed by the group that one of them could make the others of."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from depthwise.analysis.ghosts import KERNEL_SIZE, Ghost, Ghosts
from depthwise.escaping import counted, in_line
from depthwise.files.figures import save_figure
from depthwise.report.colours import BLUE, GREEN, LIGHT_BLUE, ORANGE, PURPLE, SKY, VERMILION

ACROSS = 8  # maps in a row
MOST = 64  # maps in a picture: eight rows can still be told apart
CELL, CAPTION, GAP = 1.06, 0.2, 0.1  # inches: a map's side, the line below it, what lies between
MARGIN, HEAD = 0.28, 0.86  # inches
FRAME = 3.2  # points
STYLES = ("solid", (0, (3.2, 1.2)), (0, (1, 0.9)))  # of frames: what sets colours apart that repeat


@dataclass(frozen=True)
class PageColours:
    """The colours of a light or a dark page."""

    paper: str
    ink: str
    dim: str
    groups: tuple[str, ...]


LIGHT = PageColours("#FFFFFF", "#1F2328", "#6E7781", (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY))
DARK = PageColours(
    "#14181D", "#E8EAED", "#9AA4AE", (VERMILION, LIGHT_BLUE, GREEN, PURPLE, ORANGE, SKY)
)


@dataclass(frozen=True)
class FramedMap:
    """One map: its channel, how it is framed (None: it belongs to no group), and what it is."""

    map: int
    frame: tuple[str, object] | None
    caption: str
    is_parent: bool = False
    is_dead: bool = False


def ghost_picture(
    maps: np.ndarray, ghosts: Ghosts, title: str, path: Path, is_dark: bool = False
) -> None:
    """Draw the maps (C, H, W) of a layer, group by group, into `path`, a .png or .svg file.

    The groups stand first, the largest before the others, an intrinsic map before its ghosts; then
    the maps without ghosts, then the dead ones. Each is drawn from its least value, black, to its
    largest. Of more than MOST maps the first are drawn. Raises ValueError for another suffix.
    """
    page = DARK if is_dark else LIGHT
    cells = list(_cells(ghosts, page))
    save_figure(lambda: _draw(maps, cells, (in_line(title), _summary(ghosts, cells)), page), path)


def _cells(ghosts: Ghosts, page: PageColours) -> Iterator[FramedMap]:
    """Yield the maps in the order in which they are drawn."""
    colours = len(page.groups)
    for number, (parent, children) in enumerate(ghosts.groups.items()):
        if not children:
            yield FramedMap(parent, None, "")
            continue
        style = STYLES[number // colours % len(STYLES)]
        frame = (page.groups[number % colours], style)
        yield FramedMap(parent, frame, counted(len(children), "ghost"), is_parent=True)
        for ghost in children:
            yield FramedMap(ghost.map, frame, _made(ghost))
    for dead in ghosts.dead:
        yield FramedMap(dead, None, "dead", is_dead=True)


def _made(ghost: Ghost) -> str:
    """Return how a ghost is made, and what is left of it."""
    scale = f"{ghost.weights[0][0]:.2g}".replace("-", "−")
    how = f"{scale} ×" if ghost.operation == "affine" else f"{KERNEL_SIZE}×{KERNEL_SIZE} of"
    return f"{how} {ghost.parent}, {ghost.residual:.0%} left"


def _summary(ghosts: Ghosts, cells: list[FramedMap]) -> str:
    ratio = f"s = {ghosts.ratio:.2f}" if ghosts.ratio else "nothing to be made"
    made = counted(len(ghosts.ghosts), "ghost")
    text = (
        f"{ghosts.maps} maps: {len(ghosts.intrinsic)} intrinsic, {made} ({ghosts.affine} affine, "
        f"{len(ghosts.ghosts) - ghosts.affine} by a {KERNEL_SIZE}×{KERNEL_SIZE} filter), "
        f"{len(ghosts.dead)} dead\n"
        f"{ghosts.cheap_share:.0%} could be made cheaply, {ratio}; of a ghost at most "
        f"{ghosts.tolerance:.0%} of its deviation is left"
    )
    return text + (f"; the first {MOST} are drawn" if len(cells) > MOST else "")


def _draw(
    maps: np.ndarray, cells: list[FramedMap], texts: tuple[str, str], page: PageColours
) -> Figure:
    drawn = cells[:MOST]
    columns, rows = min(ACROSS, len(drawn)), ceil(len(drawn) / ACROSS)
    width = 2 * MARGIN + max(ACROSS, columns) * (CELL + GAP) - GAP
    height = MARGIN + HEAD + rows * (CELL + CAPTION + GAP)
    figure = Figure(figsize=(width, height), facecolor=page.paper)
    title, summary = texts
    left, top = MARGIN / width, 1 - MARGIN / height
    figure.text(left, top, title, color=page.ink, fontsize=11, fontweight="bold", va="top")
    below = top - 0.24 / height
    figure.text(left, below, summary, color=page.dim, fontsize=8, va="top", linespacing=1.35)
    for place, cell in enumerate(drawn):
        row, column = divmod(place, ACROSS)
        x = MARGIN + column * (CELL + GAP)
        y = height - MARGIN - HEAD - row * (CELL + CAPTION + GAP) - CELL + GAP
        axes = figure.add_axes((x / width, y / height, CELL / width, CELL / height))
        _draw_map(axes, maps[cell.map], cell, page)
    return figure


def _draw_map(axes: Axes, map: np.ndarray, cell: FramedMap, page: PageColours) -> None:
    axes.set_axis_off()
    if cell.is_dead:
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.plot([0, 1], [0, 1], color=page.dim, linewidth=0.6)
    else:
        axes.imshow(map, cmap="gray", aspect="auto", interpolation="nearest")
    colour, style = cell.frame or (page.dim, "solid")
    thick = FRAME if cell.frame else 0.6
    axes.add_patch(
        Rectangle(
            (0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False, linewidth=thick,
            edgecolor=colour, linestyle=style, joinstyle="miter",
        )
    )  # fmt: skip
    badge = {"facecolor": colour if cell.frame else page.paper, "edgecolor": "none", "pad": 1.6}
    axes.text(
        0.035, 0.965, str(cell.map), transform=axes.transAxes, ha="left", va="top", fontsize=8,
        color="#FFFFFF" if cell.frame else page.ink, fontweight="bold" if cell.is_parent else None,
        bbox=badge,
    )  # fmt: skip
    axes.text(
        0.5, -0.045, cell.caption, transform=axes.transAxes, ha="center", va="top", fontsize=6.6,
        color=page.ink if cell.frame else page.dim,
        fontweight="bold" if cell.is_parent else None,
    )  # fmt: skip
