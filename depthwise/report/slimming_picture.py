"""Pictures of slimming: what cost is worth what damage, and what became of each layer."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from depthwise.escaping import in_line
from depthwise.files.figures import count_up_in_powers, save_figure
from depthwise.report.colours import BLUE, GREEN, VERMILION
from depthwise.report.slimming_record import RoundRecord, TradeoffCurve, say_cost

LOWEST = 1e-7  # nats: what is estimated lower is drawn there


def curve_picture(curve: TradeoffCurve, rounds: Sequence[RoundRecord], path: Path) -> None:
    """Draw estimated damage against cost, and what rounds came to, if there were any.

    To `path`, an .svg or .png file; raises ValueError for another suffix.
    """
    save_figure(lambda: _draw(curve, rounds), path)


def _draw(curve: TradeoffCurve, rounds: Sequence[RoundRecord]) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    axis = figure.subplots()
    costs = [point.cost / curve.original for point in curve.points]
    damages = [max(point.damage, LOWEST) for point in curve.points]
    axis.plot(costs, damages, "o-", color=BLUE, markersize=3, linewidth=1.2,
              label="estimated, one choice of changes")  # fmt: skip
    if rounds:
        reached = [each.after / curve.original for each in rounds]
        for label, values, colour in (
            ("estimated, round by round", _summed(rounds), GREEN),
            ("measured on held-out images", [each.divergence for each in rounds], VERMILION),
        ):
            shown = [max(value, LOWEST) for value in values]
            axis.plot(reached, shown, "s-", color=colour, markersize=4, linewidth=1.2, label=label)
    _dress(axis, curve)
    return figure


def _summed(rounds: Sequence[RoundRecord]) -> list[float]:
    return [sum(each.damage for each in rounds[: place + 1]) for place in range(len(rounds))]


def _dress(axis: Axes, curve: TradeoffCurve) -> None:
    count_up_in_powers(axis)
    axis.invert_xaxis()
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    whole = say_cost(curve.measure, curve.original)
    axis.set_xlabel(f"what is left of {whole}")
    axis.set_ylabel("divergence of the scores, nats an image")
    axis.set_title(in_line(curve.network), fontsize=9)
    axis.grid(color="#E5E5E5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
