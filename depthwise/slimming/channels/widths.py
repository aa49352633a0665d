"""Any width multiplier: a narrower network from the weights of the full width."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from depthwise.slimming.channels.cut import cut_all
from depthwise.slimming.channels.elimination import eliminate
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.channels.pools import UnitPool, find_pools
from depthwise.slimming.channels.readers import find_readers
from depthwise.slimming.channels.refitting import find_refits, refit
from depthwise.slimming.draft import Draft
from depthwise.slimming.statistics import LayerStatistics, Statistics

NOTHING: Mapping[str, LayerStatistics] = MappingProxyType({})
MULTIPLE, NARROW = 8, 64  # of fewer units than the latter, multiples of half as many


def narrow(draft: Draft, alpha: float, known: Statistics = NOTHING) -> Draft:
    """Return a draft of which each group has `alpha` of its channels, the most important ones.

    What MobileNets call a width multiplier (arXiv:1704.04861, section 3.2), with the weights of the
    full width. Counts are multiples of 8, as theirs are, and of 4 where there are few channels.

    Args:
        draft: What is narrowed.
        alpha: The share of channels.
        known: Statistics of its layers, by which channels are chosen and weights refitted; without
            them the weights and the BatchNorms say which channels are important.

    Raises:
        ValueError: An alpha that is not above 0, or above 1.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha={alpha}: give a share of the channels, above 0 and at most 1")
    choices, refits = [], []
    for group in find_groups(draft.graph).groups.values():
        readers, pools = find_readers(draft.graph, group, known), find_pools(group)
        keep = np.arange(group.units)
        for pool in pools:
            count = units_of_width(pool, alpha)
            (left,) = eliminate(group, pool, [r.model for r in readers], [count])
            keep = np.intersect1d(keep, left.units)
            if len(pools) == 1:
                own = [r._replace(model=m) for r, m in zip(readers, left.models, strict=True)]
                refits += find_refits(draft.graph, own, keep, known)
        choices.append((group, keep))
    return refit(draft, cut_all(draft, choices), refits)


def units_of_width(pool: UnitPool, alpha: float) -> int:
    """Return how many units of each cell stay where a share alpha is to."""
    units = len(pool[0])
    wanted = units * alpha
    multiple = MULTIPLE if units >= NARROW else MULTIPLE // 2
    rounded = int(wanted + multiple / 2) // multiple * multiple
    if units < multiple or rounded < multiple:
        return max(1, round(wanted))
    return min(units, rounded if rounded >= 0.9 * wanted else rounded + multiple)
