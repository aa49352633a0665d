"""Accuracy against cost: what a network's width and the images' resolution buy."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, Formatter, FuncFormatter, NullLocator

from depthwise.escaping import in_line
from depthwise.files.figures import save_figure
from depthwise.report.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from depthwise.training.tradeoff_points import Point, Points

# Each resolution has a marker of its own beside its colour.
STYLES = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK), "os^Dv*P", strict=True))
DIGITS = (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)  # the first that give enough ticks
FEWEST_TICKS = 3
SAME = 1.02  # the ratio up to which two points stand above each other


@dataclass(frozen=True)
class Panel:
    """One of the charts beside each other: what it holds accuracy against."""

    title: str
    measure: Callable[[Point], float]
    formatter: Callable[[], Formatter] = EngFormatter


PANELS = (
    Panel("multiply-adds (MACs)", lambda point: point.combination.cost.macs),
    Panel("parameters", lambda point: point.combination.cost.params),
    Panel(
        "milliseconds an image",
        lambda point: point.milliseconds,
        lambda: FuncFormatter(lambda value, _: f"{value:g}"),
    ),
)


def tradeoff_picture(points: Points, path: Path) -> None:
    """Draw accuracy against cost to `path`, an .svg or .png file: a line for each resolution.

    Raises ValueError for another suffix.
    """
    save_figure(lambda: _draw(points), path)


def _draw(found: Points) -> Figure:
    figure = Figure(figsize=(10.5, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for axis, panel in zip(axes, PANELS, strict=True):
        _draw_panel(axis, panel, found.points)
    axes[0].set_ylabel(f"accuracy on the {found.split} split, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(_title(found), fontsize=9)
    return figure


def _title(found: Points) -> str:
    trainings = max(len(point.right) for point in found.points)
    bars = "bars: 95 % intervals (Wilson)"
    if trainings > 1:
        bars = f"means of {trainings} trainings, a dot each; {bars}"
    busy = f"\nTIMES ARE NO MEASUREMENT: {found.disturbed}" if found.disturbed else ""
    return (
        f"{in_line(found.network)} on {in_line(found.data)}, each point labelled with its width; "
        f"{bars}\ntimes: the compiled library, float32, one image, one thread, "
        f"{found.processor}{busy}"
    )


def _draw_panel(axis: Axes, panel: Panel, points: tuple[Point, ...]) -> None:
    sides = sorted({point.combination.side for point in points}, reverse=True)
    for place, side in enumerate(sides):
        colour, marker = STYLES[place % len(STYLES)]
        line = sorted((p for p in points if p.combination.side == side), key=panel.measure)
        x, y = [panel.measure(point) for point in line], [100 * point.accuracy for point in line]
        low, high = zip(*(point.interval for point in line), strict=True)
        bars = [
            [accuracy - 100 * edge for accuracy, edge in zip(y, low, strict=True)],
            [100 * edge - accuracy for accuracy, edge in zip(y, high, strict=True)],
        ]
        axis.errorbar(
            x, y, bars, color=colour, marker=marker, markersize=4.5, linewidth=1.2,
            elinewidth=0.7, capsize=2, label=f"{side} pixels",
        )  # fmt: skip
        for point in line:
            if len(point.right) > 1:
                each = [100 * accuracy for accuracy in point.accuracies]
                axis.plot([panel.measure(point)] * len(each), each, ".", color=colour, markersize=2)
    _label_widths(axis, panel, points)
    axis.set_xlabel(panel.title)
    _scale(axis, panel, [panel.measure(point) for point in points])
    axis.grid(color="#E5E5E5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[["top", "right"]].set_visible(False)


def _scale(axis: Axes, panel: Panel, values: list[float]) -> None:
    """Give a chart a logarithmic scale around the values, whose ticks are a few round numbers."""
    low, high = min(values) / 1.15, max(values) * 1.3  # on the right are the labels
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    powers = [10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1)]
    choices = [
        [power * digit for power in powers for digit in digits if low <= power * digit <= high]
        for digits in DIGITS
    ]
    ticks = next((ticks for ticks in choices if len(ticks) >= FEWEST_TICKS), choices[-1])
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(panel.formatter())


def _label_widths(axis: Axes, panel: Panel, points: tuple[Point, ...]) -> None:
    """Write each point's width beside it, once where points of one width stand above each other."""
    labelled: list[tuple[float | None, float]] = []
    for point in sorted(points, key=lambda point: -point.accuracy):
        width, x = point.combination.width, panel.measure(point)
        above = any(width == other and 1 / SAME < x / at < SAME for other, at in labelled)
        if width is None or above:
            continue
        labelled.append((width, x))
        axis.annotate(
            f"{width:g}", (x, 100 * point.accuracy), (4, 4), textcoords="offset points",
            fontsize=7, color="#333333",
        )  # fmt: skip
