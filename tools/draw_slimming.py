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
    draw_arrow,
    draw_box,
    draw_cells,
    new_figure,
    write_pictures,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from depthwise.slimming.moves.grouped import divide


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


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "slim_factors": draw_factors,
    "slim_low_rank": draw_low_rank,
    "slim_ghost": draw_ghost,
    "slim_groups": draw_groups,
    "slim_smaller": draw_smaller,
}


if __name__ == "__main__":
    write_pictures(DRAWINGS)
