"""Channels cut: a graph with fewer of them, every weight and every shape made to fit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from depthwise.graph import check
from depthwise.slimming.channels.groups import ChannelGroup, Grouping, find_groups
from depthwise.slimming.channels.narrowing import Cut, narrowed
from depthwise.slimming.channels.shuffles import gathers_to_shuffles
from depthwise.slimming.draft import Draft


def cut(draft: Draft, group: ChannelGroup, keep: np.ndarray) -> Draft:
    """Return a draft of which only some units of a group are left.

    Args:
        draft: What is cut; it stays as it is.
        group: A group of it, or of an earlier draft in which this group was the same.
        keep: The numbers of the units that stay.

    Raises:
        ValueError: The group is another by now, or what is left is no network.
    """
    return cut_all(draft, [(group, keep)])


def cut_all(draft: Draft, choices: Sequence[tuple[ChannelGroup, np.ndarray]]) -> Draft:
    """Return a draft of which only some units of several groups are left; see `cut`."""
    grouping = find_groups(draft.graph)
    cuts: dict[str, Cut] = {}
    for group, keep in choices:
        _add_cuts(cuts, _found_again(grouping, group), keep)
    _check_parts(grouping, choices)
    if not cuts:
        return draft
    graph = check(gathers_to_shuffles(narrowed(grouping.graph, cuts)))
    kept = dict(draft.kept)
    for name, found in cuts.items():
        kept[name] = kept.get(name, np.arange(len(found.stay)))[found.stay]
    return replace(draft, graph=graph, kept=kept)


def channels_left(before: Draft, now: Draft, value: str, count: int) -> np.ndarray:
    """Return which of the `count` channels that a value had before are left in a later draft."""
    had = before.kept.get(value, np.arange(count))
    return np.isin(had, now.kept.get(value, had))


def units_left(before: Draft, now: Draft, group: ChannelGroup) -> np.ndarray:
    """Return which units of a group of an earlier draft are left in a later one."""
    left = np.zeros(group.units, bool)
    for writer in group.writers:
        found = writer.units[channels_left(before, now, writer.node, len(writer.units))]
        left[found[found >= 0]] = True
    return np.flatnonzero(left)


def _found_again(grouping: Grouping, group: ChannelGroup) -> ChannelGroup:
    """Return a group as it is in the draft that is cut."""
    found = grouping.groups.get(group.root)
    if found is None or found.units != group.units:
        now = f"it has {found.units} now" if found else "no group begins there any more"
        raise ValueError(
            f"the {group.units} units at {group.place}: {now}; find the groups of this draft first"
        )
    return found


def _stays(units: np.ndarray, keep: np.ndarray, count: int) -> np.ndarray:
    """Return which channels stay: those of units that do, and those of no unit of the group."""
    stay = np.zeros(count + 1, bool)
    stay[keep] = stay[-1] = True  # units of -1 find the last
    return stay[units]


def _add_cuts(cuts: dict[str, Cut], group: ChannelGroup, keep: np.ndarray) -> None:
    """Add what stays of each value that has units of a group which do not."""
    for value in group.values:
        stay = _stays(value.units, keep, group.units).reshape(-1)
        if stay.all():
            continue
        if value.node in cuts:
            stay &= cuts[value.node].stay
        if not stay.any():
            raise ValueError(f"{group.place}: nothing would be left of {value.node}, keep a unit")
        cuts[value.node] = Cut(int(np.argmax(value.units.shape)), stay)


def _check_parts(grouping: Grouping, choices: Sequence[tuple[ChannelGroup, np.ndarray]]) -> None:
    """Raise ValueError where parts that have to be equal would not be."""
    left: dict[int, np.ndarray] = {}
    for group, keep in choices:
        for place, units in group.parts.items():
            stay = _stays(units, keep, group.units)
            left[place] = left.get(place, True) & stay
    for place, stay in left.items():
        count = stay.sum(1)
        if count.min() != count.max():
            path = grouping.coupling.parts[place].node.path
            raise ValueError(f"{path}: {count.tolist()} channels would be left in its groups")
