"""A picture of what slimming did to each layer: multiply-adds and time, before and after."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from depthwise.analysis.units import in_seconds, in_units
from depthwise.escaping import in_line
from depthwise.files.figures import save_figure
from depthwise.report.colours import BLUE
from depthwise.report.slimming_record import LayerChange, LayerFigures, SlimmingRecord

ROW, MARGINS = 0.21, 1.1  # inches, of a layer and of what stands above and below
GREY = "#C9CED3"
LONGEST = 52  # letters of what was done
FEWEST_TICKS = 3


def layers_picture(record: SlimmingRecord, path: Path) -> None:
    """Draw each layer's multiply-adds and estimated time, before and after, and what was done.

    To `path`, an .svg or .png file; raises ValueError for another suffix.
    """
    save_figure(lambda: layers_figure(record.network, record.budget, record.layers), path)


def layers_figure(network: str, budget: str, layers: Sequence[LayerChange]) -> Figure:
    """Return the figure of what became of a network's layers under a budget."""
    figure = Figure(
        figsize=(10.5, MARGINS + ROW * len(layers)), layout="constrained", facecolor="white"
    )
    macs, times = figure.subplots(1, 2, sharey=True)
    _bars(macs, layers, lambda each: each.macs, "multiply-adds", in_units)
    _bars(times, layers, lambda each: 1e-3 * each.milliseconds, "estimated time, one thread",
          in_seconds)  # fmt: skip
    macs.set_yticks(range(len(layers)), [_named(layer) for layer in layers], fontsize=7)
    macs.set_ylim(len(layers) - 0.4, -0.6)
    beside = times.get_yaxis_transform()
    for place, layer in enumerate(layers):
        times.text(1.02, place, _shortened(layer.done), fontsize=6.5, va="center",
                   transform=beside)  # fmt: skip
    handles, labels = macs.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, ncols=2, fontsize=8)
    figure.suptitle(in_line(f"{network}, to {budget}"), fontsize=9, x=0.02, ha="left")
    return figure


def _bars(
    axis: Axes, layers: Sequence[LayerChange], value: Callable[[LayerFigures], float], said: str,
    spelled: Callable[[float], str],
) -> None:  # fmt: skip
    places = range(len(layers))
    now = [value(layer.after) if layer.after else 0.0 for layer in layers]
    axis.barh(places, [value(layer.before) for layer in layers], 0.8, color=GREY, label="before")
    axis.barh(places, now, 0.45, color=BLUE, label="after")
    axis.set_xlabel(said, fontsize=8)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: spelled(x) if x else "0"))
    axis.locator_params(axis="x", nbins=FEWEST_TICKS + 1)
    axis.grid(axis="x", color="#E5E5E5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=7)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _named(layer: LayerChange) -> str:
    """Return a layer's path and the shape of what it gives, before and after where they differ."""
    shapes = [layer.before.shape, *([layer.after.shape] if layer.after else [])]
    said = dict.fromkeys("×".join(map(str, shape)) for shape in shapes)
    return in_line(f"{layer.path}   {' → '.join(said)}")


def _shortened(text: str) -> str:
    text = in_line(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
