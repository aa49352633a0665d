"""What all moves offer to do to a draft, each change with what it saves and what it excludes."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from depthwise.graph import Constant, Graph
from depthwise.progress import report_progress
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.knapsack import Choice
from depthwise.slimming.moves import Move
from depthwise.slimming.statistics import Statistics


@dataclass(frozen=True)
class Shortfall:
    """What is still to be saved.

    Attributes:
        cost: By the budget's measure.
        milliseconds: Of the time along with it; None where that does not count.
        unit: How much of the measure a millisecond counts for.
    """

    cost: float
    milliseconds: float | None = None
    unit: float = 0.0

    @property
    def most(self) -> float:
        """The larger of both, by the budget's measure."""
        return max(self.cost, self.unit * (self.milliseconds or 0.0))

    def worth(self, saving: float, milliseconds: float) -> float:
        """Return what a change counts for: the lesser of the shares that it saves of both.

        So what leaves vectors half empty, or takes a convolution from a fast algorithm to a slow
        one, is worth little or nothing. What nothing is missing of does not count.
        """
        if self.milliseconds is None:
            return saving
        pairs = ((saving, self.cost), (milliseconds, self.milliseconds))
        shares = [saved / missing for saved, missing in pairs if missing > 0]
        return self.most * min(shares, default=0.0)


@dataclass(frozen=True, eq=False)
class Offer:
    """A change with what it saves.

    Attributes:
        change: The change.
        saving: By the budget's measure.
        worth: What the knapsack counts it for; 0 or less where it saves nothing of the time.
        milliseconds: What it saves of the time.
        uses: The parts of weights that it changes, which no other change of a round may.
    """

    change: Change
    saving: float
    worth: float
    milliseconds: float
    uses: frozenset[Hashable]

    @property
    def choice(self) -> Choice:
        """It as the knapsack takes it."""
        return Choice(self.worth, self.change.damage, self.uses)


def find_offers(
    draft: Draft, known: Statistics, moves: Mapping[str, Move], prices: Prices, times: Prices,
    missing: Shortfall,
) -> list[Offer]:  # fmt: skip
    """Return every change that saves something of the cost and leaves alone what is frozen."""
    found: list[Offer] = []
    with report_progress("pricing changes", len(moves)) as advance:
        for move in moves.values():
            for change in move(draft, known):
                after = change.apply(draft).graph
                saving = prices.saving(draft.graph, after)
                if saving <= 0 or not np.isfinite(change.damage) or not draft.keeps_frozen(after):
                    continue
                saved = times.saving(draft.graph, after)
                uses = used(draft.graph, after)
                found.append(Offer(change, saving, missing.worth(saving, saved), saved, uses))
            advance(1)
    return found


def used(before: Graph, after: Graph) -> frozenset[Hashable]:
    """Return the parts of weights that a change changes: an axis that it cuts, else all axes.

    Vectors (biases, normalisations) are left out: what cuts channels of a layer may move the mean
    of the next, whose own channels can still be cut. So are weights whose numbers only change
    places: other changes find their channels again. A change of the input's size excludes all
    others, for it changes what each of them saves.
    """
    found: set[Hashable] = set()
    whole = before.inputs != after.inputs
    for name, known in before.constants.items():
        if len(known.type.shape) < 2:
            continue
        then = after.constants.get(name)
        shape = known.type.shape
        if then is known and not whole:
            continue
        if then is None or whole or len(then.type.shape) != len(shape):
            found |= {(name, 0), (name, 1)}
            continue
        axes = [a for a in range(len(shape)) if shape[a] != then.type.shape[a]]
        if axes:
            found |= {(name, min(axis, 1)) for axis in axes}
        elif then.data is not known.data and not _has_same_numbers(then, known):
            found |= {(name, 0), (name, 1)}
    return frozenset(found or {("", 0)})


def _has_same_numbers(one: Constant, other: Constant) -> bool:
    """Tell whether constants of one shape have the same numbers, in any order."""
    assert one.data is not None
    assert other.data is not None
    if np.array_equal(one.data, other.data):
        return True
    # nothing but an order of channels gives the same sum of squares to the last digits
    before, after = (np.square(data, dtype=np.float64).sum() for data in (one.data, other.data))
    close = bool(np.isclose(before, after, rtol=1e-12))
    return close and np.array_equal(np.sort(one.data, None), np.sort(other.data, None))
