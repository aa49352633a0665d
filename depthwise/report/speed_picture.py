"""Multiply-adds saved against time saved: how much of a small network's promise a runtime keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, radians, tan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from depthwise.bench.peers import OURS, PEERS
from depthwise.bench.record import BenchRecord, NetworkResult, RuntimeRecord
from depthwise.files.figures import save_figure
from depthwise.report.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

REFERENCE = "resnet50"
TICKS = (1, 2, 5, 10, 20, 50, 100)
GREY = "#9A9A9A"  # of what is no measurement
SLANT = 35  # degrees, of the names of networks
APART, LONG = 11, 70  # points: from one of their lines to the next; their length

# Each runtime has a marker of its own beside its colour.
STYLES = {
    OURS.name: (VERMILION, "o"),
    "openvino": (BLUE, "s"),
    "onnxruntime": (GREEN, "^"),
    "ncnn": (PURPLE, "D"),
    "mnn": (ORANGE, "v"),
    "litert": (BLACK, "*"),
    "torch.compile": (SKY, "P"),
    "pytorch": ("#5A5A5A", "X"),
}


@dataclass(frozen=True)
class Saving:
    """A network in a runtime, against ResNet-50 in the same: MACs and time, as ratios.

    `disturbed` tells that one of the two was timed on a busy machine: then it is no measurement.
    """

    network: str
    macs: float
    time: float
    disturbed: bool = False


def savings(records: Sequence[NetworkResult]) -> dict[str, tuple[Saving, ...]]:
    """Return {runtime: its networks by MACs saved}, of the runtimes that ran ResNet-50.

    Ours is held against our ResNet-50 without Winograd, which does the multiply-adds that are
    counted; a peer against its own. Raises ValueError where ResNet-50 is missing, or is all.
    """
    by_name = {record.network: record for record in records}
    if REFERENCE not in by_name or len(by_name) < 2:
        found = ", ".join(by_name) or "none"
        raise ValueError(f"measured are {found}: give {REFERENCE} and smaller networks")
    reference = by_name.pop(REFERENCE)
    return {
        name: kept
        for name in (OURS.name, *(peer.name for peer in PEERS))
        if (kept := _savings_of(name, reference, tuple(by_name.values())))
    }


def _savings_of(
    name: str, reference: NetworkResult, records: Sequence[NetworkResult]
) -> tuple[Saving, ...]:
    base = reference.direct if name == OURS.name else _find(reference, name)
    if base is None or base.seconds is None:
        return ()
    found = []
    for record in records:
        runtime = _find(record, name)
        if runtime and runtime.seconds:
            time = base.seconds / runtime.seconds
            busy = bool(record.disturbed or reference.disturbed)
            found.append(Saving(record.network, reference.macs / record.macs, time, busy))
    return tuple(sorted(found, key=lambda saving: saving.macs))


def _find(record: NetworkResult, name: str) -> RuntimeRecord | None:
    return next((runtime for runtime in record.runtimes if runtime.name == name), None)


def speed_picture(records: Sequence[BenchRecord], path: Path) -> None:
    """Draw what was measured, all on as many threads, to `path`, an .svg or .png file.

    Raises ValueError for another suffix, for ResNet-50 alone or none, and for mixed threads.
    """
    threads = {record.threads for record in records}
    if len(threads) > 1:
        raise ValueError(f"measured on {sorted(threads)} threads: draw a picture of each")
    found = savings([network for record in records for network in record.networks])
    save_figure(lambda: _draw(found, records[0]), path)


def _draw(found: dict[str, tuple[Saving, ...]], record: BenchRecord) -> Figure:
    figure = Figure(figsize=(7.2, 5.6), layout="constrained", facecolor="white")
    axis = figure.subplots()
    points = [saving for kept in found.values() for saving in kept]
    left, right = min(p.macs for p in points) / 1.25, max(p.macs for p in points) * 1.9
    bottom = min(p.time for p in points) / 1.4
    top = max(*(p.time for p in points), right / 1.5) * 1.1
    axis.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    axis.plot([1, 1e4], [1, 1e4], color="#999999", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    _name_diagonal(axis)
    for name, kept in found.items():
        colour, marker = STYLES[name]
        good, spoilt = ([p for p in kept if p.disturbed == busy] for busy in (False, True))
        order = 3 if name == OURS.name else 2
        axis.plot(
            [p.macs for p in good], [p.time for p in good], color=colour, marker=marker,
            markersize=5, linewidth=2.2 if name == OURS.name else 1.1, zorder=order,
        )  # fmt: skip
        axis.plot(
            [p.macs for p in spoilt], [p.time for p in spoilt], color=GREY, marker=marker,
            markersize=5, fillstyle="none", linestyle="none", zorder=order,
        )  # fmt: skip
    _name_runtimes(axis, found)
    _name_networks(axis, found)
    _label_axes(axis, record, any(point.disturbed for point in points))
    return figure


def _name_diagonal(axis: Axes) -> None:
    """Write above the diagonal, in its upper half, where few points come."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    first, last = log(max(left, bottom)), log(min(right, top))
    at = exp(first + 0.6 * (last - first))
    axis.text(
        at, 1.06 * at, "the saving in theory", rotation=45, rotation_mode="anchor",
        transform_rotates_text=True, ha="center", color="#777777",
    )  # fmt: skip


def _name_runtimes(axis: Axes, found: dict[str, tuple[Saving, ...]]) -> None:
    """Write each runtime after its last point, moved apart where two would meet."""
    ends = sorted(found.items(), key=lambda item: item[1][-1].time)
    lowest = 0.0
    low, high = axis.get_ylim()
    step = (high / low) ** 0.036  # the height of a line of text
    for name, kept in ends:
        y = max(kept[-1].time, lowest * step)
        lowest = y
        axis.annotate(
            name, (kept[-1].macs, y), (7, 0), textcoords="offset points", va="center",
            color=GREY if all(p.disturbed for p in kept) else STYLES[name][0],
            fontweight="bold" if name == OURS.name else "normal",
        )  # fmt: skip


def _name_networks(axis: Axes, found: dict[str, tuple[Saving, ...]]) -> None:
    """Write each network once, below the lowest of its points, aslant: neighbours stay apart.

    One that would begin within the line of text before it is moved below that line.
    """
    lowest: dict[str, Saving] = {}
    for kept in found.values():
        for saving in kept:
            if saving.network not in lowest or saving.time < lowest[saving.network].time:
                lowest[saving.network] = saving
    last_x, last_y = -LONG, 0.0  # where the name before begins, in points
    for name, saving in sorted(lowest.items(), key=lambda item: item[1].macs):
        x, y = axis.transData.transform((saving.macs, saving.time)) * 72 / axis.figure.dpi
        line = last_y - (x - last_x) * tan(radians(SLANT))
        down = y - line + APART if x - last_x < LONG and abs(y - line) < APART else 0.0
        last_x, last_y = x, y - down
        axis.annotate(
            name.rpartition(":")[2].replace("_", " "), (saving.macs, saving.time), (2, -5 - down),
            textcoords="offset points", ha="left", va="top", rotation=-SLANT,
            rotation_mode="anchor", color="#333333", fontsize=7,
        )  # fmt: skip


def _label_axes(axis: Axes, record: BenchRecord, busy: bool) -> None:
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(FixedLocator(TICKS))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        side.set_minor_locator(NullLocator())
    axis.set_xlabel("fewer multiply-adds than ResNet-50")
    axis.set_ylabel("faster than ResNet-50 in the same runtime, ours without Winograd")
    threads = "one thread" if record.threads == 1 else f"{record.threads} threads"
    title = f"float32, batch 1, {threads}, {record.machine.processor}"
    head = "GREY AND HOLLOW: NOT A MEASUREMENT, the machine was busy\n" if busy else ""
    axis.set_title(f"{head}{title}", fontsize=8)
    axis.grid(color="#E8E8E8", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[["top", "right"]].set_visible(False)
