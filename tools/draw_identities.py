"""Draw docs/pictures/*.svg for docs/identities.md: `python tools/draw_identities.py`.

The same library versions draw the same bytes: no date, no random identifiers, fixed seeds.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from depthwise.layers.identities import (
    dilation_offsets,
    grouped_as_standard,
    insert_zeros,
    relu_and_back,
    relu_losses,
    separable_as_standard,
    spiral,
)

mpl.use("svg")
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

# Okabe and Ito's colours, which the colour-blind can tell apart
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
GROUPS = (BLUE, ORANGE, GREEN, PURPLE)
INK, LINE, EMPTY = "#222222", "#999999", "#F2F2F2"


def new_figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a white figure of `width` x `height` inches and its row of bare axes."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for ax in axes:
        ax.set_axis_off()
        ax.set_aspect("equal")
    return figure, axes


def draw_cells(ax: Axes, colours: list[list[str]], labels: list[list[str]] | None = None) -> None:
    """Fill ax with unit squares, the first row on top; labels are written into them."""
    rows, columns = len(colours), len(colours[0])
    for y in range(rows):
        for x in range(columns):
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=colours[y][x], edgecolor=LINE, lw=0.7))
            if labels and labels[y][x]:
                dark = colours[y][x] not in (EMPTY, "white", ORANGE)
                ink = "white" if dark else INK
                ax.text(x + 0.5, y + 0.5, labels[y][x], ha="center", va="center", color=ink)
    ax.set_xlim(-0.05, columns + 0.05)
    ax.set_ylim(rows + 0.05, -0.05)


def draw_grouped() -> Figure:
    """Draw which pairs of output and input channels have a kernel."""
    figure, axes = new_figure(3, 7.5, 2.9)
    for ax, groups, name in zip(
        axes, (1, 2, 6), ("standard", "2 groups", "depthwise"), strict=True
    ):
        weight = grouped_as_standard(torch.ones(6, 6 // groups, 1, 1), groups)[:, :, 0, 0]
        per_group = 6 // groups
        colours = [
            [GROUPS[k // per_group % 4] if weight[k, c] else EMPTY for c in range(6)]
            for k in range(6)
        ]
        draw_cells(ax, colours)
        ax.set_title(f"{name}: {int(weight.sum())} kernels", color=INK, fontsize=11)
        ax.text(3, 6.5, "input channels", ha="center", va="center", color=INK)
        ax.text(-0.5, 3, "output channels", ha="center", va="center", rotation=90, color=INK)
        ax.set_xlim(-0.9, 6.1)
        ax.set_ylim(6.9, -0.1)
    return figure


def draw_kernels(ax: Axes, kernels: np.ndarray, limit: float) -> None:
    """Draw (K, C, R, S) kernels as a K x C table of little images."""
    outs, ins, rows, columns = kernels.shape
    for k in range(outs):
        for c in range(ins):
            left, top = c * (columns + 0.7), k * (rows + 0.7)
            extent = (left, left + columns, top + rows, top)
            ax.imshow(kernels[k, c], cmap="PuOr", vmin=-limit, vmax=limit, extent=extent)
            ax.add_patch(Rectangle((left, top), columns, rows, fill=False, edgecolor=INK, lw=0.8))
    ax.set_xlim(-0.2, ins * (columns + 0.7) - 0.5)
    ax.set_ylim(outs * (rows + 0.7) - 0.5, -0.2)


def draw_separable() -> Figure:
    """Draw a depthwise and a pointwise weight beside the standard kernels they amount to."""
    generator = torch.Generator().manual_seed(4)
    spatial = torch.randn(3, 1, 3, 3, generator=generator)
    mix = torch.tensor([[1.0, -0.6, 0.3], [0.4, 1.0, -1.0], [-1.0, 0.2, 0.7], [0.5, 0.9, 1.0]])
    figure, (left, middle, right) = new_figure(3, 8, 3.6)
    draw_kernels(left, spatial.transpose(0, 1).numpy(), 2)
    left.set_title("depthwise: 27 weights", color=INK, fontsize=11)
    colours = [["white"] * 3 for _ in range(4)]
    draw_cells(middle, colours, [[f"{value:g}" for value in row] for row in mix.tolist()])
    middle.set_title("pointwise: 12 weights", color=INK, fontsize=11)
    middle.set_xlim(-1, 4)
    for ax in (left, middle, right):
        ax.set_anchor("N")
    both = separable_as_standard(spatial, mix[:, :, None, None])
    draw_kernels(right, both.numpy(), 2)
    right.set_title("standard: 108, made of 39", color=INK, fontsize=11)
    return figure


def draw_box(
    ax: Axes, x: float, y: float, size: tuple[float, float], text: str, colour: str
) -> None:
    """Draw a labelled box around (x, y)."""
    width, height = size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.12"
    ax.add_patch(
        FancyBboxPatch(corner, width, height, style, facecolor=colour, edgecolor=INK, lw=0.8)
    )
    ink = INK if colour in (EMPTY, ORANGE, "white") else "white"
    ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=9)


def draw_arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow from start to end."""
    style = {"arrowstyle": "-|>", "color": INK, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def draw_inception() -> Figure:
    """Draw the three forms of the Inception module, from left to right."""
    figure, axes = new_figure(3, 9, 3.3)
    titles = ("towers", "one 1x1, then segments", "extreme: a segment a map")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, color=INK, fontsize=11)
        draw_box(ax, 3, 0.3, (2, 0.5), "input", EMPTY)
        draw_box(ax, 3, 4.5, (2.4, 0.5), "concatenate", EMPTY)
        ax.set_xlim(-0.1, 6.1)
        ax.set_ylim(4.85, -0.05)
    for x, colour in zip((1, 3, 5), GROUPS, strict=False):
        draw_box(axes[0], x, 1.7, (1.5, 0.5), "1x1", colour)
        for ax in axes[:2]:
            draw_box(ax, x, 3.1, (1.5, 0.5), "3x3", colour)
            draw_arrow(ax, (x, 3.35), (3 + (x - 3) * 0.4, 4.25))
        draw_arrow(axes[0], (3 + (x - 3) * 0.3, 0.55), (x, 1.45))
        draw_arrow(axes[0], (x, 1.95), (x, 2.85))
        draw_arrow(axes[1], (x, 1.95), (x, 2.85))
    for ax in axes[1:]:
        draw_box(ax, 3, 1.7, (5.5, 0.5), "1x1", RED)
        draw_arrow(ax, (3, 0.55), (3, 1.45))
    for i in range(6):
        x = 0.5 + i
        draw_box(axes[2], x, 3.1, (0.75, 0.5), "3x3", GROUPS[i // 2])
        draw_arrow(axes[2], (x, 1.95), (x, 2.85))
        draw_arrow(axes[2], (x, 3.35), (3 + (x - 3) * 0.4, 4.25))
    return figure


def draw_zeros() -> Figure:
    """Draw zeros between a kernel's taps (dilated) and between an image's pixels (transposed)."""
    figure, axes = new_figure(4, 9, 2.7)
    kernel = torch.arange(1.0, 10).view(3, 3)
    spread = F.pad(insert_zeros(torch.arange(1.0, 5).view(2, 2), 2), (2, 2, 2, 2))
    pictures = (
        (kernel, BLUE, "kernel"),
        (insert_zeros(kernel, 2), BLUE, "dilation 2: 5x5 kernel"),
        (spread, ORANGE, "stride 2: 2x2 image, spread"),
        (kernel.flip(0, 1), BLUE, "... and the kernel, turned"),
    )  # fmt: skip
    for ax, (values, colour, title) in zip(axes, pictures, strict=True):
        colours = [[colour if v else EMPTY for v in row] for row in values.tolist()]
        labels = [[f"{v:g}" for v in row] for row in values.tolist()]
        draw_cells(ax, colours, labels)
        ax.set_title(title, color=INK, fontsize=10)
    return figure


def draw_deformable() -> Figure:
    """Draw where the nine taps look: at rest, moved as dilation would, moved freely."""
    figure, axes = new_figure(3, 8, 3)
    turned = np.array([[1.3, -0.9], [0.6, 0.8]])  # of (y, x): a turn and a stretch
    rest = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    offsets = (
        dilation_offsets(3, 1).view(9, 2).numpy(),
        dilation_offsets(3, 2).view(9, 2).numpy(),
        rest @ turned.T - rest,
    )
    titles = ("offsets 0: standard", "whole offsets: dilation 2", "free offsets: turned, stretched")
    for ax, moved, title in zip(axes, offsets, titles, strict=True):
        draw_cells(ax, [["white"] * 7 for _ in range(7)])
        starts, ends = rest + 3.5, rest + moved + 3.5
        for start, end in zip(starts, ends, strict=True):
            if (start != end).any():
                draw_arrow(ax, tuple(start[::-1]), tuple(end[::-1]))
        ax.plot(starts[:, 1], starts[:, 0], "o", color=GREEN, ms=5)
        ax.plot(ends[:, 1], ends[:, 0], "s", color=BLUE, ms=6)
        ax.set_title(title, color=INK, fontsize=11)
    return figure


def draw_norms() -> Figure:
    """Draw, of 3 images with 4 channels, which share one mean and one variance."""
    figure, axes = new_figure(4, 9, 2.6)
    sets: dict[str, Callable[[int, int], int]] = {
        "batch: N, H, W": lambda _, c: c,
        "layer: C, H, W": lambda n, _: n,
        "group: C/2, H, W": lambda n, c: 2 * n + c // 2,
        "instance: H, W": lambda n, c: 4 * n + c,
    }
    for ax, (title, find) in zip(axes, sets.items(), strict=True):
        colours = [[BLUE if find(n, c) == 0 else EMPTY for c in range(4)] for n in range(3)]
        draw_cells(ax, colours)
        ax.set_title(title, color=INK, fontsize=11)
        ax.text(2, 3.4, "channels", ha="center", va="center", color=INK)
        ax.text(-0.4, 1.5, "images", ha="center", va="center", rotation=90, color=INK)
        ax.set_xlim(-0.7, 4.1)
        ax.set_ylim(3.7, -0.1)
    return figure


def draw_fold() -> Figure:
    """Draw convolution and BatchNorm, and the one convolution that they become."""
    figure, (ax,) = new_figure(1, 7.5, 1.5)
    draw_box(ax, 1.9, 0.5, (1.8, 0.7), "conv  w, b", BLUE)
    draw_box(ax, 5.5, 0.5, (4, 0.7), "BatchNorm  mean, var, γ, β", ORANGE)
    draw_box(ax, 11.4, 0.5, (4.4, 0.7), "conv  w·s, (b − mean)·s + β", BLUE)
    for x, length in ((0.3, 0.7), (2.8, 0.7), (7.5, 0.6), (8.6, 0.6), (13.6, 0.6)):
        draw_arrow(ax, (x, 0.5), (x + length, 0.5))
    ax.text(8.35, 0.5, "=", ha="center", va="center", color=INK, fontsize=14)
    ax.text(
        7.2, 1.25, "s = γ / √(var + ε), a number for each output channel", ha="center", color=INK
    )
    ax.set_xlim(0.2, 14.3)
    ax.set_ylim(1.5, 0)
    return figure


def draw_relu() -> Figure:
    """Draw what ReLU in n dimensions leaves of a spiral in a plane."""
    losses = relu_losses()
    figure, axes = new_figure(len(losses) + 1, 10, 2.3)
    points, generator = spiral(120), torch.Generator().manual_seed(2)
    colour = np.linspace(0, 1, len(points))
    draw_points(axes[0], points, colour, "the spiral")
    for ax, loss in zip(axes[1:], losses, strict=True):
        embed = torch.randn(2, loss.dimensions, generator=generator, dtype=points.dtype)
        title = f"n = {loss.dimensions}\nmean error {loss.error:.2f}"
        draw_points(ax, relu_and_back(points, embed), colour, title)
    return figure


def draw_points(ax: Axes, points: torch.Tensor, colour: np.ndarray, title: str) -> None:
    """Draw (M, 2) points, coloured along the way, to the same scale in x and y."""
    ax.scatter(*points.T.numpy(), c=colour, cmap="cividis", vmax=1.25, s=9, lw=0)  # no pale end
    reach = 1.1 * points.abs().max().item()
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_title(title, color=INK, fontsize=10)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "grouped": draw_grouped,
    "separable": draw_separable,
    "inception": draw_inception,
    "zeros": draw_zeros,
    "deformable": draw_deformable,
    "norms": draw_norms,
    "fold": draw_fold,
    "relu": draw_relu,
}


def write_pictures(drawings: dict[str, Callable[[], Figure]]) -> None:
    """Write each picture to the documentation's folder, under its name."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "depthwise", "font.size": 9}):
        for name, draw in drawings.items():
            path, metadata = PICTURES / f"{name}.svg", {"Date": None, "Creator": None}
            draw().savefig(path, metadata=metadata, bbox_inches="tight", pad_inches=0.12)


if __name__ == "__main__":
    write_pictures(DRAWINGS)
