"""Which units of a group go first: those whose loss the layers that read them make up for best.

Optimal brain surgeon (Hassibi and Stork, 1992) on the units that a layer reads. With the inverse P
of the covariance of what it reads, and B the columns of its weight that read a unit, the best other
columns make the loss pixels / 2 · trace(G · W_B · P_BB⁻¹ · W_Bᵀ), and are W - W_B · P_BB⁻¹ · P_B;
after that P is P - P_:B · P_BB⁻¹ · P_B. So a unit costs a product of its few columns with P, and
the damages of one after the other add up to that of all together.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import torch

from depthwise.slimming.channels.groups import ChannelGroup
from depthwise.slimming.channels.pools import UnitPool

RIDGE = 1e-5  # of the mean variance: directions in which calibration images hardly varied
DAMPING = 1e-6  # of the mean of a gradient's diagonal
STEPS = 64  # parts of the units that are left, of which one goes at a time
WIDE = 1024  # columns, of more than which a step costs so much that parts are four times as large


class Separate:
    """A layer that reads units of which nothing makes up for another.

    Attributes:
        width: How many columns it counts for.
    """

    def __init__(self, damages: np.ndarray):
        self._damages = damages

    width = 1

    def damages(self) -> np.ndarray:
        """Return the damage of each unit's loss, by their numbers."""
        return self._damages

    def remove(self, units: np.ndarray) -> float:
        """Let units go; return the damage that their loss does together."""
        return float(self._damages[units].sum())


class Correlated:
    """One group of a layer, whose other inputs make up for a unit as well as they can.

    Args:
        weight: (K, D).
        covariance: Of what it reads, (D, D).
        gradient: Of what it gives, (K, K), times half its pixels.
        columns: For each column, the number of its unit, -1 for none of the group.
        count: How many units the group has.
    """

    def __init__(
        self, weight: np.ndarray, covariance: np.ndarray, gradient: np.ndarray,
        columns: np.ndarray, count: int,
    ):  # fmt: skip
        self._inverse = _inverted(_lifted(covariance, RIDGE))
        self._half = _half(_lifted(gradient, DAMPING))
        self._weighted = self._half @ weight
        self._columns = columns
        self._count = count

    @property
    def width(self) -> int:
        """How many columns its weight has."""
        return len(self._columns)

    def damages(self) -> np.ndarray:
        """Return the damage of each unit's loss, by their numbers."""
        result = np.zeros(self._count)
        for units, places in self._by_width():
            own = np.linalg.inv(self._inverse[places[:, :, None], places[:, None, :]])
            weight = self._weighted[:, places].transpose(1, 0, 2)  # (units, K, columns)
            result[units] = ((weight @ own) * weight).sum((1, 2))
        return result

    def _by_width(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield units of equally many columns each, and where these are, (units, columns)."""
        order = np.argsort(self._columns, kind="stable")
        order = order[np.count_nonzero(self._columns < 0) :]
        units, first, widths = np.unique(
            self._columns[order], return_index=True, return_counts=True
        )
        for width in np.unique(widths):
            chosen = widths == width
            yield units[chosen], order[first[chosen][:, None] + np.arange(width)]

    def remove(self, units: np.ndarray) -> float:
        """Let units go; return the damage that their loss does together."""
        lost = np.isin(self._columns, units)
        if not lost.any():
            return 0.0
        left, weight = ~lost, self._weighted[:, lost]
        solved = np.linalg.solve(self._inverse[np.ix_(lost, lost)], self._inverse[lost])
        own = np.linalg.inv(self._inverse[np.ix_(lost, lost)])
        damage = float(((weight @ own) * weight).sum())
        self._weighted = self._weighted[:, left] - weight @ solved[:, left]
        others = self._inverse[np.ix_(left, lost)]
        self._inverse = self._inverse[np.ix_(left, left)] - others @ solved[:, left]
        self._columns = self._columns[left]
        return damage

    def weight(self) -> np.ndarray:
        """Return the best weight for the columns that are left."""
        return np.linalg.solve(self._half, self._weighted)


ReaderModel = Separate | Correlated


class Left(NamedTuple):
    """What is left of a group: its units, at what damage, and how each layer then reads them."""

    units: np.ndarray
    damage: float
    models: tuple[ReaderModel, ...]


def eliminate(
    group: ChannelGroup, pool: UnitPool, models: Iterable[ReaderModel], counts: Sequence[int]
) -> Iterator[Left]:
    """Yield what is left when each cell of a pool has so many units, from the most to the least."""
    own = [copy(model) for model in models]
    cells, damage = list(pool), 0.0
    others = np.setdiff1d(np.arange(group.units), np.concatenate(cells))
    widest = max((model.width for model in own), default=0)
    steps = STEPS if widest <= WIDE else STEPS // 4
    for count in sorted(counts, reverse=True):
        while len(cells[0]) > count:
            each = min(len(cells[0]) - count, max(1, len(cells[0]) // steps))
            cost = sum((model.damages() for model in own), np.zeros(group.units))
            order = [cell[np.argsort(cost[cell], kind="stable")] for cell in cells]
            going = np.concatenate([cell[:each] for cell in order])
            damage += sum(model.remove(going) for model in own)
            cells = [np.sort(cell[each:]) for cell in order]
        units = np.sort(np.concatenate([others, *cells]))
        yield Left(units, damage, tuple(copy(model) for model in own))


def _lifted(moments: np.ndarray, share: float) -> np.ndarray:
    """Return moments made positive definite."""
    mean = max(float(np.trace(moments)) / len(moments), 1e-12)
    return moments.astype(np.float64) + share * mean * np.eye(len(moments))


def _inverted(moments: np.ndarray) -> np.ndarray:
    """Return the inverse of a positive definite matrix, in half of what any other takes."""
    factor, wrong = torch.linalg.cholesky_ex(torch.from_numpy(moments))
    return np.linalg.inv(moments) if wrong else torch.cholesky_inverse(factor).numpy()


def _half(moments: np.ndarray) -> np.ndarray:
    """Return an invertible H of Hᵀ · H = moments, which rounding may have left not definite."""
    values, vectors = np.linalg.eigh(moments)
    return (vectors * np.sqrt(values.clip(min=1e-12 * values[-1]))).T
