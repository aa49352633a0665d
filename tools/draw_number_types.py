"""Draw docs/pictures/number_types.svg for docs/precision.md: `python tools/draw_number_types.py`.

The same library versions draw the same bytes.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from draw_identities import BLUE, GREEN, INK, LINE, RED, write_pictures
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STEP = 6 / 255  # of bytes that hold what ReLU6 gives

Rounding = Callable[[np.ndarray], np.ndarray]


def through(type_: torch.dtype) -> Rounding:
    """Return what rounds float64 to a type of PyTorch's."""
    return lambda x: torch.from_numpy(x).to(type_).to(torch.float64).numpy()


def to_bytes(x: np.ndarray) -> np.ndarray:
    """Round to a uint8 by one scale, from 0 to 6."""
    return np.clip(np.rint(x / STEP), 0, 255) * STEP


TYPES: dict[str, tuple[Rounding, str]] = {
    "float32": (through(torch.float32), INK),
    "float16": (through(torch.float16), BLUE),
    "bfloat16": (through(torch.bfloat16), GREEN),
    "uint8, 0 to 6": (to_bytes, RED),
}


def draw_errors(ax: Axes) -> None:
    """Draw by how much numbers are rounded at most, from each power of 2 to the next."""
    edges = 2.0 ** np.arange(-34, 35)
    for rounding, colour in TYPES.values():
        worst = []
        for low, high in pairwise(edges):
            x = np.linspace(low, high, 4000)[:-1]
            worst.append(np.max(np.abs(rounding(x) - x) / x))
        ax.loglog(edges[:-1], np.minimum(worst, 1), color=colour, lw=1.8, drawstyle="steps-post")
    ax.set_ylim(1e-8, 2)
    ax.set_xlim(1e-10, 1e10)
    ax.set_xlabel("number", color=INK)
    ax.set_ylabel("largest error, of the number", color=INK)
    for name, x, y in (
        ("float32", 1e-9, 1.1e-7), ("bfloat16", 1e-9, 7e-3), ("float16", 1e-1, 1.6e-4),
        ("uint8, 0 to 6", 2e1, 0.3),
    ):  # fmt: skip
        ax.text(x, y, name, color=TYPES[name][1], fontsize=9)
    ax.set_title("lost: 1 is all of it", color=INK, fontsize=11)


def draw_numbers(ax: Axes) -> None:
    """Draw the numbers from 5 to 7 that there are, in types short enough to see them."""
    x = np.linspace(5, 7, 200_001)
    for row, name in enumerate(("float16", "bfloat16", "uint8, 0 to 6")):
        rounding, colour = TYPES[name]
        numbers = np.unique(rounding(x))
        numbers = numbers[numbers >= x[0]]
        ends = np.array([[-row - 0.3], [-row + 0.3], [np.nan]])
        ax.plot(np.repeat(numbers, 3), np.tile(ends[:, 0], len(numbers)), color=colour, lw=0.6)
        ax.text(5, -row + 0.37, f"{name}: {len(numbers)}", color=colour, fontsize=9)
    ax.axvline(6, color=LINE, lw=1, ls=":")
    ax.text(6.03, -2.1, "where ReLU6 ends", color=INK, fontsize=9)
    ax.set_xlim(4.97, 7.03)
    ax.set_ylim(-2.4, 0.7)
    ax.set_yticks([])
    ax.set_xlabel("number", color=INK)
    ax.set_title("numbers that there are from 5 to 7", color=INK, fontsize=11)


def draw() -> Figure:
    """Draw both beside each other."""
    figure = Figure(figsize=(9.5, 3.6), facecolor="white", layout="constrained")
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    draw_errors(left)
    draw_numbers(right)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=9)
    right.spines["left"].set_visible(False)
    return figure


if __name__ == "__main__":
    write_pictures({"number_types": draw})
