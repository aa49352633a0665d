"""The cost of a network as a picture: a row a layer, in the network's order."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from depthwise.analysis.cost import Cost, Layer
from depthwise.analysis.count import CONVENTION
from depthwise.analysis.units import in_units
from depthwise.escaping import in_line
from depthwise.files.figures import save_figure
from depthwise.report.colours import COLOURS, colour_name

GOOD_ROWS = 30  # these fill a page and can be read
ROW_HEIGHT = 0.19  # inches
LONGEST = 80  # characters of a name: beside longer ones there is no room for bars


@dataclass(frozen=True)
class Row:
    """The layers whose paths begin alike."""

    label: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Bar:
    """One of the bars beside each other: what it measures, its heading and its unit."""

    heading: str
    unit: str
    measure: Callable[[Layer], int]


BARS = (
    Bar("multiply-adds (MACs)", "", lambda layer: layer.macs or 0),
    Bar("parameters", "", lambda layer: layer.params),
    Bar("bytes read and written", "B", lambda layer: layer.bytes_read + layer.bytes_written),
)


def cost_picture(cost: Cost, path: Path) -> None:
    """Write the cost of each layer to `path`, an .svg or .png file.

    Layers of a large network are put together by the beginnings of their paths. Raises ValueError
    for another suffix, and for a network that has no layers.
    """
    rows = group_layers(cost.layers)
    if not rows:
        raise ValueError(f"{cost.network or 'the network'} has no layers to draw")
    save_figure(lambda: _draw(cost, rows), path)


def group_layers(layers: tuple[Layer, ...]) -> tuple[Row, ...]:
    """Return the rows: layers by the beginning of their paths, cut where about GOOD_ROWS are left.

    What has no multiply-adds joins the row before it where it stands beside it in the network (a
    normalisation after its convolution) or around it. What costs nothing, a view, is left out.
    """
    drawn = [layer for layer in layers if any(bar.measure(layer) for bar in BARS)]
    deepest = max((layer.path.count(".") + 1 for layer in drawn), default=1)
    choices = [_rows_at(drawn, depth) for depth in range(deepest, 0, -1)]
    return min(choices, key=lambda rows: abs(log(max(1, len(rows)) / GOOD_ROWS)))


def _rows_at(layers: list[Layer], depth: int) -> tuple[Row, ...]:
    """Return the rows of layers whose paths agree in their first `depth` names."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        label = ".".join(layer.path.split(".")[:depth]) or layer.name
        groups.setdefault(label, []).append(layer)
    rows: list[Row] = []
    for label, members in groups.items():
        without_macs = not any(layer.macs for layer in members)
        if rows and without_macs and _stands_by(rows[-1].label, label, members[0].path):
            rows[-1] = Row(rows[-1].label, (*rows[-1].layers, *members))
        else:
            rows.append(Row(label, tuple(members)))
    return tuple(rows)


def _stands_by(before: str, label: str, path: str) -> bool:
    """Return whether a row is the neighbour of the one before it, or the module around it."""
    beside = before.rpartition(".")[0] == label.rpartition(".")[0]
    return beside or not path or before.startswith(f"{label}.")


def _draw(cost: Cost, rows: tuple[Row, ...]) -> Figure:
    height = ROW_HEIGHT * len(rows) + 1.9
    figure = Figure(figsize=(10, height), layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(BARS), sharey=True)
    for axis, bar in zip(axes, BARS, strict=True):
        _draw_bars(axis, bar, rows)
    axes[0].set_yticks(range(len(rows)), [in_line(row.label, LONGEST) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)  # the first layer on top
    shapes = ", ".join("x".join(map(str, shape)) for shape in cost.input_shapes)
    figure.suptitle(
        f"{in_line(cost.network or 'network', LONGEST)} on {shapes}\n"
        f"{in_units(cost.macs)} MACs, {in_units(cost.params)} parameters "
        f"({in_units(cost.weight_bytes, 'B')}), "
        f"{in_units(cost.bytes_read + cost.bytes_written, 'B')} read and written\n"
        f"{CONVENTION} MACs",
        fontsize=9,
    )
    kinds = {colour_name(layer.kind) for row in rows for layer in row.layers}
    handles = [Patch(color=COLOURS[name], label=name) for name in COLOURS if name in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw_bars(axis: Axes, bar: Bar, rows: tuple[Row, ...]) -> None:
    """Draw a bar a row, stacked by kind, with its share of the total where that is 1 % or more."""
    ends = [0] * len(rows)
    for name, colour in COLOURS.items():
        lengths = [
            sum(bar.measure(x) for x in row.layers if colour_name(x.kind) == name) for row in rows
        ]
        if any(lengths):
            axis.barh(range(len(rows)), lengths, 0.8, ends, color=colour)
            ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    total = sum(ends) or 1
    for y, end in enumerate(ends):
        if end / total >= 0.01:
            axis.annotate(
                f"{end / total:.0%}", (end, y), (2, 0), textcoords="offset points",
                va="center", fontsize=6, color="#444444",
            )  # fmt: skip
    axis.set_title(bar.heading, fontsize=8)
    axis.set_xlim(0, 1.12 * max(*ends, 1))
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(EngFormatter(bar.unit))
    axis.grid(axis="x", color="#E5E5E5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
