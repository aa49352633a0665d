"""Channels cut: a graph with fewer of them, every weight and every shape made to fit."""

from collections.abc import Sequence

import numpy as np

from depthwise.graph import check
from depthwise.slimming.draft import Draft
from depthwise.slimming.groups import Group, Grouping, find_groups
from depthwise.slimming.narrowing import Cut, narrowed
from depthwise.slimming.shuffles import gathers_to_shuffles


def cut(draft: Draft, group: Group, keep: np.ndarray) -> Draft:
    """Return a draft of which only some units of a group are left.

    Args:
        draft: What is cut; it stays as it is.
        group: A group of it, or of an earlier draft in which this group was the same.
        keep: The numbers of the units that stay.

    Raises:
        ValueError: The group is another by now, or what is left is no network.
    """
    return cut_all(draft, [(group, keep)])


def cut_all(draft: Draft, choices: Sequence[tuple[Group, np.ndarray]]) -> Draft:
    """Return a draft of which only some units of several groups are left; see `cut`."""
    grouping = find_groups(draft.graph)
    gone = [_gone(grouping, group, keep) for group, keep in choices]
    cuts = _cuts(grouping, np.concatenate(gone)) if gone else {}
    if not cuts:
        return draft
    graph = check(gathers_to_shuffles(narrowed(grouping.graph, cuts)))
    kept = dict(draft.kept)
    for name, found in cuts.items():
        kept[name] = kept.get(name, np.arange(len(found.stay)))[found.stay]
    return Draft(graph, kept)


def _gone(grouping: Grouping, group: Group, keep: np.ndarray) -> np.ndarray:
    """Return the identities of the units of a group that do not stay."""
    found = grouping.groups.get(group.root)
    if found is None or found.units != group.units:
        now = f"it has {found.units} now" if found else "no group begins there any more"
        raise ValueError(
            f"the {group.units} units at {group.place}: {now}; find the groups of this draft first"
        )
    stay = np.zeros(group.units, bool)
    stay[keep] = True
    return grouping.identities[group.root][~stay]


def _cuts(grouping: Grouping, gone: np.ndarray) -> dict[str, Cut]:
    """Return, for each value that has identities which are gone, what stays of it.

    Raises ValueError where nothing stays, or parts that have to be equal are not.
    """
    coupling, result = grouping.coupling, {}
    for node in grouping.graph:
        ids = coupling[node.name]
        stay = ~np.isin(ids, gone).reshape(-1)
        if not stay.any():
            raise ValueError(f"nothing would be left of {node.name} at {node.path}: keep a unit")
        if not stay.all():
            result[node.name] = Cut(int(np.argmax(ids.shape)), stay)
    for parts in coupling.parts:
        left = (~np.isin(coupling.sets.find(parts.ids), gone)).sum(1)
        if left.min() != left.max():
            raise ValueError(
                f"{parts.node.path}: {left.tolist()} channels would be left in its groups: keep as "
                "many in each"
            )
    return result
