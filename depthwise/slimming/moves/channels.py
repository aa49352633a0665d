"""Channels cut: those of a group whose loss the layers that read it make up for best."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from depthwise.slimming.channels.cut import cut, units_left
from depthwise.slimming.channels.elimination import eliminate
from depthwise.slimming.channels.groups import ChannelGroup, find_groups
from depthwise.slimming.channels.pools import UnitPool, find_pools
from depthwise.slimming.channels.readers import find_readers
from depthwise.slimming.channels.refitting import Refit, find_refits, refit
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.statistics import Statistics

NAME = "channels"
LEAST = 8  # of the units of a pool, one in so many stays
PARTS = 16  # of the units of a pool, of which about so many counts are multiples
LANES = 8  # floats that a vector holds on most CPUs, or the half of one


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield, for each group, how many of its channels could be left."""
    for group in find_groups(draft.graph).groups.values():
        yield from group_changes(draft, group, known, NAME)


def counts(pool: UnitPool, each: float) -> list[int]:
    """Return how many units of each cell might stay, where a unit has so many channels.

    Numbers that fill vectors, as far as there are enough units, and quarters and an eighth.
    """
    units = len(pool[0])
    channels = units * each
    step = max(1, round(LANES * max(1, round(channels / LANES / PARTS)) / each))
    found = {*range(step, units, step), *(units * part // 8 for part in (1, 2, 4, 6))}
    return sorted(count for count in found if max(1, units // LEAST) <= count < units)


def group_changes(
    draft: Draft, group: ChannelGroup, known: Statistics, move: str,
    offered: Callable[[UnitPool, float], Sequence[int]] = counts,
) -> Iterator[Change]:  # fmt: skip
    """Yield the changes that cut channels of one group.

    Args:
        draft: Of what.
        group: Its channels.
        known: Statistics of the draft's layers.
        move: The move's name.
        offered: From a pool, and how many channels a unit has, to how many units might stay.
    """
    pools = find_pools(group)
    if not pools or not group.readers:
        return
    readers = find_readers(draft.graph, group, known)
    for pool in pools:
        place, channels, each = _described(draft, group, pool)
        for left in eliminate(group, pool, [r.model for r in readers], offered(pool, each)):
            own = [r._replace(model=m) for r, m in zip(readers, left.models, strict=True)]
            refits = find_refits(draft.graph, own, left.units, known)
            words = (
                f"{channels} to {channels - round((group.units - len(left.units)) * each)} channels"
            )
            apply = partial(_apply, before=draft, group=group, keep=left.units, refits=refits)
            yield Change(move, place, words, left.damage, apply)


def _described(draft: Draft, group: ChannelGroup, pool: UnitPool) -> tuple[str, int, float]:
    """Return the path of the layer that gives most channels of a pool, and two numbers.

    How many channels it gives, and how many of them are of one unit.
    """
    units = np.concatenate(pool)
    found = [int(np.isin(member.units, units).sum()) for member in group.writers]
    writer = group.writers[int(np.argmax(found))]
    path = next(node.path for node in draft.graph if node.name == writer.node)
    return path or writer.node, len(writer.units), max(found) / len(units)


def _apply(
    draft: Draft, before: Draft, group: ChannelGroup, keep: np.ndarray, refits: Sequence[Refit]
) -> Draft:
    """Return a draft of which the units of a group that are not to be kept are gone."""
    left = units_left(before, draft, group)
    now = find_groups(draft.graph).groups.get(group.root)
    if now is None or now.units != len(left):
        raise ValueError(f"the channels at {group.place} are coupled otherwise by now")
    return refit(before, cut(draft, now, np.flatnonzero(np.isin(left, keep))), refits)
