"""The trade-off, before anything is done: what each cost is estimated to do to the scores."""

from collections.abc import Sequence

from depthwise.report.slimming_record import CurvePoint, Measure, TradeoffCurve
from depthwise.slimming.knapsack import Knapsack
from depthwise.slimming.offers import Offer

POINTS = 24


def trace_curve(
    network: str, measure: Measure, original: float, offers: Sequence[Offer]
) -> TradeoffCurve:
    """Return the curve of the changes that a network is offered."""
    knapsack = Knapsack([offer.choice for offer in offers])
    points: list[CurvePoint] = []
    for places in knapsack.frontier(POINTS):
        cost = original - sum(offers[place].saving for place in places)
        damage = sum(max(0.0, offers[place].change.damage) for place in places)
        if 0 < cost < (points[-1].cost if points else original):
            points.append(CurvePoint(cost=cost, damage=damage, steps=len(places)))
    return TradeoffCurve(network=network, measure=measure, original=original, points=tuple(points))
