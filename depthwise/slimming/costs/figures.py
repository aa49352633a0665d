"""What a network costs and how right it is, beside the original."""

from torch import Tensor

from depthwise.calibration.scores import gives_scores
from depthwise.graph import Graph
from depthwise.report.slimming_record import Compared, Figures
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
    compared, agreement = _agreement(ours, theirs, gives_scores(original))
    rightness = {}
    if labels is not None:
        right = ours.flatten(1).argmax(1).numpy() == labels
        rightness = {"images": len(labels), "right": int(right.sum())}
    return Figures(
        macs=costs.macs, parameters=costs.parameters, weight_bytes=costs.weight_bytes,
        arena_bytes=costs.arena_bytes, milliseconds=costs.milliseconds, measured=False,
        agreement=agreement, compared=compared, **rightness,
    )  # fmt: skip


def _agreement(ours: Tensor, theirs: Tensor, scores: bool) -> tuple[Compared, float]:
    """Return what two networks agree on for the same images, and in which share of it.

    Maps of two channels and more are taken for scores of each pixel's class.
    """
    if scores or (ours.ndim == 4 and ours.shape[1] > 1):
        one, other = (each.argmax(1) if not scores else each.flatten(1).argmax(1)
                      for each in (ours, theirs))  # fmt: skip
        return ("classes" if scores else "pixels"), float((one == other).double().mean())
    apart = (ours - theirs).square().sum()
    spread = (theirs - theirs.mean(0)).square().sum().clamp(min=1e-12)
    return "values", max(0.0, 1 - float(apart / spread))
