"""What a network costs and how right it is, beside the original."""

from depthwise.graph import Graph
from depthwise.report.slimming_record import Figures
from depthwise.slimming.costs.measuring import run_graph
from depthwise.slimming.costs.prices import Prices
from depthwise.training.calibration_data import CalibrationData


def figures_of(graph: Graph, original: Graph, times: Prices, data: CalibrationData) -> Figures:
    """Return the figures of a network, its time an estimate.

    Whether it names classes as the original does, and rightly, is told on validation images where
    there are labels, else on held-out ones.
    """
    costs = times.all(graph)
    images, labels = data.validation or (data.held, None)
    ours, theirs = run_graph(graph, images), run_graph(original, images)
    ours, theirs = (each.flatten(1).argmax(1).numpy() for each in (ours, theirs))
    rightness = {}
    if labels is not None:
        rightness = {"images": len(labels), "right": int((ours == labels).sum())}
    return Figures(
        macs=costs.macs, parameters=costs.parameters, weight_bytes=costs.weight_bytes,
        arena_bytes=costs.arena_bytes, milliseconds=costs.milliseconds, measured=False,
        agreement=float((ours == theirs).mean()), **rightness,
    )  # fmt: skip
