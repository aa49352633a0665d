"""The multiple-choice knapsack: which changes save enough and do the least damage together.

At most one of the choices that use the same thing may be taken: of several changes at one place,
or of two that write the same weights. A price on what is saved (Lagrange's multiplier) turns the
problem into one of choosing what is worth most, which is solved greedily and by exchanges; the
price is found by bisection, and what it leaves or overshoots is mended by exchanges. Where choices
at different places exclude nothing, each price's choice is exact (Sinha and Zoltners, "The
multiple-choice knapsack problem", Operations Research 27(3), 1979).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

PRICES = 48  # halvings of the range of prices
SWAPS = 200  # exchanges, at most, that mend a choice
EXACT = 1e-9  # of a saving: what sums of floats may be off by


@dataclass(frozen=True)
class Choice:
    """What may be taken: how much it saves, the damage it does, and what no other may use then."""

    saving: float
    damage: float
    uses: frozenset[Hashable]


class Knapsack:
    """Choices of which some exclude each other."""

    def __init__(self, choices: Sequence[Choice]):
        self._savings = np.array([choice.saving for choice in choices])
        # what does less than no damage would be taken at any price: noise of an estimate
        self._damages = np.maximum([choice.damage for choice in choices], 0.0)
        self._excludes = _exclusions(choices)

    @property
    def most(self) -> float:
        """The most that can be saved, as far as exchanges find it."""
        return float(self._savings @ self._pack(self._savings)) if len(self._savings) else 0.0

    def solve(self, saving: float) -> list[int] | None:
        """Return the places of choices that save at least `saving` together, of little damage.

        None where all that can be taken saves less.
        """
        if not len(self._savings):
            return None if saving > 0 else []
        enough = saving * (1 - EXACT)
        most = self._pack(self._savings)
        if self._savings @ most < enough:
            return None
        found = [most]
        low, high = self._prices()
        for _ in range(PRICES):
            price = np.sqrt(low * high)
            taken = self._pack(price * self._savings - self._damages)
            found.append(taken)
            if self._savings @ taken < enough:
                low = price
            else:
                high = price
        below = max((t for t in found if self._savings @ t < enough), default=None,
                    key=lambda t: self._savings @ t)  # fmt: skip
        above = [self._trim(t, enough) for t in found if self._savings @ t >= enough]
        if below is not None and (mended := self._mend(below, enough)) is not None:
            above.append(self._trim(mended, enough))
        best = min(above, key=lambda t: self._damages @ t)
        return np.flatnonzero(best).tolist()

    def frontier(self, count: int) -> list[list[int]]:
        """Return up to `count` sets of choices, from the least saving to the most, none dominated.

        What they save goes in equal steps to the most that can be saved.
        """
        wanted = np.linspace(0, self.most, count + 1)[1:]
        found = [places for saving in wanted if (places := self.solve(saving))]
        found.sort(key=lambda places: (-self._savings[places].sum(), self._damages[places].sum()))
        kept: list[list[int]] = []
        for places in found:
            if not kept or self._damages[places].sum() < self._damages[kept[-1]].sum():
                kept.append(places)
        return kept[::-1]

    def _prices(self) -> tuple[float, float]:
        """Return a price at which nothing is worth taking, and one at which all that saves is."""
        useful = self._savings > 0
        if not useful.any():
            return 1.0, 2.0
        ratios = self._damages[useful] / self._savings[useful]
        least = min(ratios[ratios > 0], default=1.0)
        return least / 2, 2 * max(ratios.max(), least) * len(self._savings)

    def _pack(self, worth: np.ndarray) -> np.ndarray:
        """Return which to take, (n,) of bool, for the sum of what they are worth to be large."""
        crowd = np.sqrt(1 + self._excludes.sum(1))
        starts = (self._fill(worth, np.zeros(len(worth), bool), worth / by) for by in (1, crowd))
        return max((self._exchange(worth, t) for t in starts), key=lambda t: worth @ t)

    def _fill(self, worth: np.ndarray, taken: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return what is taken with all that is still free and worth something, best first."""
        taken = taken.copy()
        blocked = taken | self._excludes[taken].any(0)
        for place in np.argsort(-order, kind="stable"):
            if worth[place] <= 0:
                continue
            if not blocked[place]:
                taken[place] = True
                blocked |= self._excludes[place]
        return taken

    def _exchange(self, worth: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Return the same after each exchange of one for those it excludes that is worth more."""
        for _ in range(SWAPS):
            gains = self._gained(worth, taken)
            best = int(gains.argmax())
            if gains[best] <= EXACT * abs(worth).max():
                break
            taken = self._fill(worth, self._swapped(taken, best), worth)
        return taken

    def _gained(self, worth: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Return by how much each that is not taken is worth more than those that it excludes."""
        lost = self._excludes[:, taken] @ worth[taken]
        return np.where(taken, -np.inf, worth - lost)

    def _swapped(self, taken: np.ndarray, place: int) -> np.ndarray:
        taken = taken & ~self._excludes[place]
        taken[place] = True
        return taken

    def _trim(self, taken: np.ndarray, enough: float) -> np.ndarray:
        """Return less damage that still saves enough: by leaving out, else by exchanges."""
        for _ in range(SWAPS):
            spare = self._savings @ taken - enough
            changes = np.where(taken, -self._damages, self._gained(self._damages, taken))
            saved = np.where(taken, -self._savings, self._gained(self._savings, taken))
            changes = np.where(np.isfinite(saved) & (saved >= -spare), changes, 0.0)
            best = int(changes.argmin())
            if changes[best] >= 0:
                break
            taken = self._without(taken, best) if taken[best] else self._swapped(taken, best)
        return taken

    def _mend(self, taken: np.ndarray, enough: float) -> np.ndarray | None:
        """Return more that saves enough: what is missing is bought at the lowest price."""
        for _ in range(SWAPS):
            missing = enough - self._savings @ taken
            if missing <= 0:
                return taken
            saved = self._gained(self._savings, taken)
            damage = np.where(saved > 0, self._gained(self._damages, taken), np.inf)
            price = np.where(saved > 0, damage / np.clip(saved, EXACT, missing), np.inf)
            best = int(price.argmin())
            if not np.isfinite(price[best]):
                return None
            taken = self._swapped(taken, best)
        return None

    @staticmethod
    def _without(taken: np.ndarray, place: int) -> np.ndarray:
        taken = taken.copy()
        taken[place] = False
        return taken


def _exclusions(choices: Sequence[Choice]) -> np.ndarray:
    """Return which choices exclude each other, (n, n) of bool."""
    excludes = np.zeros((len(choices), len(choices)), bool)
    users: dict[Hashable, list[int]] = {}
    for place, choice in enumerate(choices):
        for use in choice.uses:
            users.setdefault(use, []).append(place)
    for places in users.values():
        excludes[np.ix_(places, places)] = True
    np.fill_diagonal(excludes, val=False)
    return excludes
