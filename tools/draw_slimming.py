"""Draw docs/pictures/slim_*.svg for docs/slimming.md: `python tools/draw_slimming.py`.

The same library versions draw the same bytes, as in draw_identities.py, whose cells these are.
"""

from collections.abc import Callable

import numpy as np
from draw_identities import (
    BLUE,
    EMPTY,
    GREEN,
    GROUPS,
    INK,
    ORANGE,
    PURPLE,
    RED,
    draw_arrow,
    draw_box,
    draw_cells,
    new_figure,
    write_pictures,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import depthwise as dw
from depthwise.report.layers_picture import layers_figure
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.costs.layers import compare_layers
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Draft
from depthwise.slimming.moves.grouped import divide

GENERIC = dw.CompileOptions("x86-64-v3")  # the same times on every machine


def draw_chain(ax: Axes, title: str, boxes: list[tuple[str, str]], counts: list[str]) -> None:
    """Draw layers one below the other, with how many channels lie before, between and after."""
    ax.set_title(title, color=INK, fontsize=10)
    for i, (text, colour) in enumerate(boxes):
        y = 1.1 + 1.2 * i
        draw_box(ax, 2, y, (3.2, 0.55), text, colour)
        draw_arrow(ax, (2, y - 0.85 if i else 0.2), (2, y - 0.28))
    bottom = 1.1 + 1.2 * (len(boxes) - 1)
    draw_arrow(ax, (2, bottom + 0.28), (2, bottom + 0.9))
    for i, count in enumerate(counts):
        ax.text(2.15, 0.5 + 1.2 * i, count, color=INK, fontsize=9, va="center")
    ax.set_xlim(0.2, 3.8)
    ax.set_ylim(5, 0.1)


def draw_factors() -> Figure:
    """Draw what one convolution becomes: pairs, a sum of separable ones, a chain."""
    figure, axes = new_figure(5, 11, 3.2)
    kinds = (
        ("convolution", [("3x3", BLUE)], ["C", "K"]),
        ("channel pair", [("3x3", BLUE), ("1x1", ORANGE)], ["C", "r", "K"]),
        ("spatial pair", [("3x1", GREEN), ("1x3", GREEN)], ["C", "r", "K"]),
        ("T separable", [("depthwise 3x3", PURPLE), ("1x1", ORANGE)], ["C", "T · C", "K"]),
        (
            "bottleneck", [("1x1", ORANGE), ("3x3", BLUE), ("1x1", ORANGE)], ["C", "r", "q", "K"],
        ),
    )  # fmt: skip
    for ax, (title, boxes, counts) in zip(axes, kinds, strict=True):
        draw_chain(ax, title, boxes, counts)
    return figure


def draw_low_rank() -> Figure:
    """Draw a weight as the product of a narrow one and a low one."""
    figure, axes = new_figure(3, 7, 2.6)
    shapes = ((8, 12, BLUE, "W: 8 x 12 = 96"), (8, 3, ORANGE, "expand: 8 x 3"),
              (3, 12, GREEN, "reduce: 3 x 12"))  # fmt: skip
    for ax, (rows, columns, colour, title) in zip(axes, shapes, strict=True):
        draw_cells(ax, [[colour] * columns for _ in range(rows)])
        ax.set_title(title, color=INK, fontsize=10)
        ax.set_xlim(-0.1, 12.1)
        ax.set_ylim(8.1, -0.1)
    return figure


def draw_ghost() -> Figure:
    """Draw 8 filters, of which 4 stay, and what makes the other maps."""
    figure, axes = new_figure(2, 8, 2.8)
    pairs = {0: 5, 2: 1, 4: 7, 6: 3}  # a filter that stays: the map that is made of its own
    for ax, title in zip(axes, ("convolution: 8 filters", "Ghost module: 4 filters"), strict=True):
        ax.set_title(title, color=INK, fontsize=10)
        draw_box(ax, 4.25, 0.4, (7.6, 0.5), "input", EMPTY)
        ax.set_xlim(-0.1, 8.6)
        ax.set_ylim(4.4, 0)
    colours = {head: GROUPS[i] for i, head in enumerate(pairs)}
    colours |= {ghost: colours[head] for head, ghost in pairs.items()}
    for k in range(8):
        x = 0.75 + k
        draw_arrow(axes[0], (x, 0.65), (x, 1.75))
        draw_box(axes[0], x, 2, (0.7, 0.5), f"{k}", colours[k])
    for head, ghost in pairs.items():
        x = 0.75 + head
        draw_arrow(axes[1], (x, 0.65), (x, 1.75))
        draw_box(axes[1], x, 2, (0.7, 0.5), f"{head}", colours[head])
        draw_arrow(axes[1], (x + 0.1, 2.25), (x + 0.85, 3.25))
        draw_box(axes[1], x + 1, 3.5, (0.7, 0.5), f"{ghost}", colours[ghost])
        axes[1].text(x + 0.75, 2.65, "3x3", color=INK, fontsize=8)
    return figure


def draw_groups() -> Figure:
    """Draw how much each output takes of each input, and the same with groups side by side."""
    rng = np.random.default_rng(3)
    home = rng.permutation(16) % 4, rng.permutation(16) % 4
    energy = rng.uniform(0, 0.35, (16, 16))
    energy += (home[0][:, None] == home[1]) * rng.uniform(0.3, 1, (16, 16))
    inputs, outputs = divide(energy, 4)
    figure, axes = new_figure(3, 8.5, 3)
    sorted_ = energy[np.ix_(outputs.reshape(-1), inputs.reshape(-1))]
    inside = np.kron(np.eye(4), np.ones((4, 4)))
    titles = ("how much of each input\neach output takes", "channels in another order",
              "4 groups: what is left")  # fmt: skip
    for ax, values, title in zip(axes, (energy, sorted_, sorted_ * inside), titles, strict=True):
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1.3, extent=(0, 16, 16, 0))
        ax.set_title(title, color=INK, fontsize=10)
        if values is not energy:
            for i in range(0, 17, 4):
                ax.plot([i, i], [0, 16], color=INK, lw=0.6)
                ax.plot([0, 16], [i, i], color=INK, lw=0.6)
    return figure


def draw_smaller() -> Figure:
    """Draw a kernel of 25 taps and the 9 that stay."""
    figure, axes = new_figure(2, 4.5, 2.3)
    inner = [[BLUE if 0 < y < 4 and 0 < x < 4 else ORANGE for x in range(5)] for y in range(5)]
    left = [[BLUE if 0 < y < 4 and 0 < x < 4 else EMPTY for x in range(5)] for y in range(5)]
    for ax, colours, title in zip(
        axes, (inner, left), ("5x5: 25 taps", "3x3: 9, fitted anew"), strict=True
    ):
        draw_cells(ax, colours)
        ax.set_title(title, color=INK, fontsize=10)
    return figure


CUT = ORANGE  # channels that go


def draw_weight(
    ax: Axes, size: tuple[int, int], cut: tuple[set[int], set[int]], title: str
) -> None:
    """Draw a weight, a row an output channel, of which rows and columns are cut."""
    rows, columns = cut
    draw_cells(ax, [[CUT if k in rows or c in columns else BLUE for c in range(size[1])]
                    for k in range(size[0])])  # fmt: skip
    ax.set_title(title, color=INK, fontsize=9)
    ax.set_xlim(-0.1, 8.1)
    ax.set_ylim(8.1, -0.1)


def draw_channels() -> Figure:
    """Draw which rows and columns of weights go where channels of a residual sum are cut."""
    figure, axes = new_figure(4, 9.5, 2.6)
    gone: set[int] = {2, 5}
    draw_weight(axes[0], (8, 3), (gone, set()), "the stem writes x:\nrows go")
    draw_weight(axes[1], (6, 8), (set(), gone), "a branch reads x:\ncolumns go")
    draw_weight(axes[2], (8, 6), (gone, set()), "it writes what is\nadded to x: rows go")
    draw_weight(axes[3], (5, 8), (set(), gone), "the next layer reads\nthe sum: columns go")
    return figure


def draw_block(ax: Axes, branch: bool) -> None:
    """Draw a residual block, or what is left where its branch is removed."""
    ax.set_title("residual block" if branch else "without its branch", color=INK, fontsize=9)
    draw_arrow(ax, (1, 0.1), (1, 3.55))
    ax.text(1, 4.05, "+", color=INK, fontsize=12, ha="center", va="center")
    draw_arrow(ax, (1, 4.4), (1, 5.1))
    if branch:
        draw_arrow(ax, (1, 0.5), (2.6, 1.05))
        draw_box(ax, 2.9, 1.4, (1.9, 0.55), "1x1", ORANGE)
        draw_box(ax, 2.9, 2.2, (1.9, 0.55), "3x3", PURPLE)
        draw_box(ax, 2.9, 3.0, (1.9, 0.55), "1x1", ORANGE)
        draw_arrow(ax, (2.6, 3.3), (1.25, 3.95))
    else:
        draw_box(ax, 2.9, 3.0, (1.9, 0.55), "its mean", EMPTY)
        draw_arrow(ax, (2.6, 3.3), (1.25, 3.95))
    ax.set_xlim(0, 4.2)
    ax.set_ylim(5.3, 0)


def draw_gate(ax: Axes, gate: bool) -> None:
    """Draw a squeeze-and-excitation gate, or the numbers that take its place."""
    ax.set_title("gate" if gate else "without it", color=INK, fontsize=9)
    draw_arrow(ax, (1, 0.1), (1, 3.55))
    ax.text(1, 4.0, "·", color=INK, fontsize=18, ha="center", va="center")
    draw_arrow(ax, (1, 4.4), (1, 5.1))
    boxes = (
        [("mean", GREEN), ("C to r", BLUE), ("r to C", BLUE)] if gate else [("mean gate", EMPTY)]
    )
    if gate:
        boxes = [("mean", GREEN), ("C to r", BLUE), ("r to C", BLUE)]
        draw_arrow(ax, (1, 0.5), (2.6, 1.05))
    for i, (text, colour) in enumerate(boxes):
        draw_box(ax, 2.9, 3.0 - 0.8 * (len(boxes) - 1 - i), (1.9, 0.55), text, colour)
    draw_arrow(ax, (2.6, 3.3), (1.25, 3.95))
    ax.set_xlim(0, 4.2)
    ax.set_ylim(5.3, 0)


def draw_activation(ax: Axes) -> None:
    """Draw h-swish, and the scaled and shifted ReLU that comes nearest for normal inputs."""
    x = np.linspace(-4, 3, 200)
    smooth, ramp = x * np.clip(x + 3, 0, 6) / 6, np.maximum(x, 0)
    drawn = np.random.default_rng(0).standard_normal(100_000)
    y, r = drawn * np.clip(drawn + 3, 0, 6) / 6, np.maximum(drawn, 0)
    scale, shift = np.polyfit(r, y, 1)
    ax.plot(x, smooth, color=BLUE, lw=1.6)
    ax.plot(x, scale * ramp + shift, color=RED, lw=1.6, ls="--")
    ax.plot([-4, 3], [0, 0], color=INK, lw=0.5)
    ax.text(-3.9, 2.1, "h-swish", color=BLUE, fontsize=8)
    ax.text(-3.9, 1.5, f"{scale:.2f} · ReLU {shift:+.2f}", color=RED, fontsize=8)
    ax.set_title("activation", color=INK, fontsize=9)
    ax.set_xlim(-4, 3)
    ax.set_ylim(-1, 3)


def draw_parts() -> Figure:
    """Draw a branch that is removed, a gate that is, and an activation that becomes a ReLU."""
    figure, axes = new_figure(5, 11, 2.9)
    draw_block(axes[0], branch=True)
    draw_block(axes[1], branch=False)
    draw_gate(axes[2], gate=True)
    draw_gate(axes[3], gate=False)
    draw_activation(axes[4])
    return figure


def draw_resolution() -> Figure:
    """Draw the planes of a network, on images of a side and of three quarters of it."""
    figure, axes = new_figure(2, 6.5, 1.9)
    for ax, side in zip(axes, (32, 24), strict=True):
        left = 0.0
        for step, colour in zip((1, 2, 4, 8), GROUPS, strict=True):
            size = side / step / 8
            draw_box(ax, left + size / 2, 4 - size / 2, (size, size), "", colour)
            ax.text(left + size / 2, 4.5, f"{side // step}", color=INK, fontsize=8, ha="center")
            left += size + 0.8
        macs = (side / 32) ** 2
        ax.set_title(f"{side} x {side}: {macs:.0%} of the MACs", color=INK, fontsize=9)
        ax.set_xlim(-0.2, 10.5)
        ax.set_ylim(4.9, -0.2)
    return figure


def draw_head() -> Figure:
    """Draw the last layers of a network, where one pixel is left, and the same narrowed."""
    figure, axes = new_figure(2, 6.5, 1.7)
    for ax, width, title in zip(axes, (1280, 640), ("head", "narrowed"), strict=True):
        ax.set_title(title, color=INK, fontsize=9)
        boxes = (("mean", GREEN), ("960 to " + f"{width}", BLUE), (f"{width} to K", ORANGE))
        for i, (text, colour) in enumerate(boxes):
            draw_box(ax, 1.4 + 3.2 * i, 1, (2.4, 0.8), text, colour)
            draw_arrow(ax, (3.2 * i - 0.55, 1), (3.2 * i + 0.15, 1))
        ax.set_xlim(-0.7, 9.3)
        ax.set_ylim(1.8, 0.2)
    return figure


def draw_layers() -> Figure:
    """Draw each layer of a ResNet-20 before and after its width is made 0.6 of what it is."""
    graph = dw.open("resnet20_cifar").graph
    after = narrow(Draft(graph), 0.6).graph
    layers = compare_layers(graph, after, Prices("milliseconds", GENERIC), ())
    return layers_figure("resnet20_cifar", "0.6 of its width", layers)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "slim_factors": draw_factors,
    "slim_low_rank": draw_low_rank,
    "slim_ghost": draw_ghost,
    "slim_groups": draw_groups,
    "slim_smaller": draw_smaller,
    "slim_channels": draw_channels,
    "slim_parts": draw_parts,
    "slim_resolution": draw_resolution,
    "slim_head": draw_head,
    "slim_layers": draw_layers,
}


if __name__ == "__main__":
    write_pictures(DRAWINGS)
