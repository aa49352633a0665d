"""Matplotlib's figures as files."""

import warnings
from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter


def save_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Write the figure that `draw` returns to `path`, an .svg or .png file.

    Text stays text, and the same figure gives the same bytes. Raises ValueError for another suffix.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"{path}: a picture ends in .svg or .png")
    # without parse_math a $ in a name begins no formula
    with rc_context({
        "svg.fonttype": "none", "svg.hashsalt": "depthwise", "font.size": 8,
        "text.parse_math": False,
    }):  # fmt: skip
        figure = draw()
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a name may be in any script
            figure.savefig(path, dpi=150, metadata=metadata)


def count_up_in_powers(axis: Axes) -> None:
    """Let what goes up a plot do so in powers of ten, its ticks plain numbers.

    Those of matplotlib are formulas, which `save_figure` writes as they are spelled.
    """
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
