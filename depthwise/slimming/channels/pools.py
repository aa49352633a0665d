"""Units of a group that may be cut for one another: those that stand in the same values."""

from collections.abc import Iterator

import numpy as np

from depthwise.slimming.channels.groups import ChannelGroup

UnitPool = tuple[np.ndarray, ...]  # of cells, of which as many units are cut each


def find_pools(group: ChannelGroup) -> list[UnitPool]:
    """Return the units of a group in pools, of each of which any number may be cut.

    Residual sums of several widths, splits and concatenations let units differ in where they are;
    cutting those of one pool narrows the same values, so that each of these has a round number of
    channels, and none is empty while a unit of each pool stays. Parts that have to stay equal are
    cells of one pool.
    """
    present = np.array([*_presence(group)])
    _, kind = np.unique(present, axis=1, return_inverse=True)
    cells = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
    linked = _linked(group, kind)
    pools = [
        tuple(sorted((cells[number] for number in numbers), key=lambda cell: cell[0]))
        for numbers in linked
    ]
    return [pool for pool in pools if len({len(cell) for cell in pool}) == 1]


def _presence(group: ChannelGroup) -> Iterator[np.ndarray]:
    """Yield which units stand in each value, and in each part."""
    parts = (row for units in group.parts.values() for row in units)
    for units in (*(value.units for value in group.values), *parts):
        found = np.zeros(group.units, bool)
        found[units[units >= 0]] = True
        yield found


def _linked(group: ChannelGroup, kind: np.ndarray) -> list[list[int]]:
    """Return the numbers of cells in sets: those of parts that have to stay equal are in one."""
    sets = [{number} for number in range(kind.max() + 1)]
    for units in group.parts.values():
        met = set(kind[units[units >= 0]].tolist())
        joined = set().union(*(each for each in sets if each & met))
        sets = [*(each for each in sets if not each & met), joined]
    return sorted(sorted(each) for each in sets)
