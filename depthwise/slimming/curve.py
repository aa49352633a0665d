"""The trade-off, before anything is done: what each cost is estimated to do to the scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from depthwise.slimming.budget import Budget, Measure, say
from depthwise.slimming.knapsack import Knapsack
from depthwise.slimming.offers import Offer

POINTS = 40


@dataclass(frozen=True)
class CurvePoint:
    """One choice of changes.

    Attributes:
        cost: What is left, by the curve's measure.
        damage: Estimated, in nats an image.
        steps: How many changes it takes.
    """

    cost: float
    damage: float
    steps: int


@dataclass(frozen=True)
class TradeoffCurve:
    """Costs that one choice among all changes can reach, the largest first, and their damage.

    It is estimated: changes are measured one at a time, and none is made on top of another. The
    search makes them in rounds, goes further, and measures what comes of it.

    Attributes:
        network: What was looked at.
        measure: Of the costs.
        original: The cost as it is.
        points: From the cheapest change to all of them.
    """

    network: str
    measure: Measure
    original: float
    points: tuple[CurvePoint, ...]

    def budget(self, number: int) -> Budget:
        """Return a point, counted from 1, as a budget. Raises ValueError where there is none."""
        if not 1 <= number <= len(self.points):
            raise ValueError(f"point {number}: the curve has points 1 to {len(self.points)}")
        return Budget.of(self.measure, self.points[number - 1].cost)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return a row of text for each point: its cost, its share, its damage, its changes."""
        return [
            (
                say(self.measure, point.cost), f"{100 * point.cost / self.original:.1f}",
                f"{point.damage:.4f}", str(point.steps),
            )
            for point in self.points
        ]  # fmt: skip


def trace_curve(
    network: str, measure: Measure, original: float, offers: Sequence[Offer]
) -> TradeoffCurve:
    """Return the curve of the changes that a network is offered."""
    knapsack = Knapsack([offer.choice for offer in offers])
    points = []
    for places in knapsack.frontier(POINTS):
        saved = sum(offers[place].saving for place in places)
        damage = sum(max(0.0, offers[place].change.damage) for place in places)
        if saved < original:  # savings of changes that meet do not quite add up
            points.append(CurvePoint(original - saved, damage, len(places)))
    return TradeoffCurve(network, measure, original, tuple(points))
