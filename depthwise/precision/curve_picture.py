"""A picture of a quantisation's curve: what each millisecond buys."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from depthwise.escaping import in_line
from depthwise.files.figures import count_up_in_powers, save_figure
from depthwise.precision.record import CurveFigures, QuantizationRecord
from depthwise.report.colours import BLUE, GREEN, VERMILION

LOWEST = 1e-7  # nats: what is lower is drawn there


def curve_picture(record: QuantizationRecord, path: Path) -> None:
    """Draw how far a network is from float32, and how often the class is the same, against time.

    Where there are no classes, decibels take their place.

    To `path`, an .svg or .png file; raises ValueError for another suffix.
    """
    assert record.curve is not None
    curve = record.curve
    save_figure(lambda: _figure(record.network, curve), path)


def _figure(network: str, curve: CurveFigures) -> Figure:
    figure = Figure(figsize=(7.6, 3.6), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    points = curve.points
    times = [point.milliseconds for point in points]
    nats = [max(point.nats, LOWEST) for point in points]
    left.plot(times, nats, "o-", color=BLUE, markersize=4, linewidth=1.2)
    for point, time, nat in zip(points, times, nats, strict=True):
        left.annotate(str(point.kept), (time, nat), (0, 5), textcoords="offset points",
                      ha="center", fontsize=7)  # fmt: skip
    count_up_in_powers(left)
    left.set_ylabel("divergence from float32, nats an image")
    if curve.whole.agreement is None:
        decibels = [point.decibels for point in points]
        right.plot(times, decibels, "o-", color=GREEN, markersize=4, linewidth=1.2)
        right.set_ylabel("signal to quantisation noise, dB")
    else:
        _shares(right, curve, times)
    for axis in (left, right):
        axis.axvline(curve.whole.milliseconds, color="#8C8C8C", linewidth=1, linestyle="--",
                     label=f"all in {curve.kept_in}")  # fmt: skip
        chosen = next(point for point in points if point.kept == curve.chosen)
        axis.axvline(chosen.milliseconds, color="#D0D0D0", linewidth=1, zorder=0,
                     label=f"{chosen.kept} kept, as saved")  # fmt: skip
        axis.set_xlabel("milliseconds, one image on one thread")
        axis.grid(color="#E5E5E5", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.suptitle(f"{in_line(network)}: how many layers are kept in {curve.kept_in}", fontsize=9)
    return figure


def _shares(axis: Axes, curve: CurveFigures, times: Sequence[float]) -> None:
    """Draw the shares of images in which the class is the same, and is right."""
    shares = [point.agreement or 0.0 for point in curve.points]
    axis.plot(times, shares, "o-", color=GREEN, markersize=4, linewidth=1.2,
              label="the same class as in float32")  # fmt: skip
    if curve.judged and curve.float_right is not None:
        rights = [(point.right or 0) / curve.judged for point in curve.points]
        axis.plot(times, rights, "s-", color=VERMILION, markersize=4, linewidth=1.2,
                  label="the right class")  # fmt: skip
        axis.axhline(curve.float_right / curve.judged, color=VERMILION, linewidth=0.8,
                     linestyle=":", label="the right class in float32")  # fmt: skip
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("share of the images")
