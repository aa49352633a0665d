"""Pointwise and linear layers of low rank: to few channels, then from these to all of them."""

from collections.abc import Iterator

from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.sites import find_sites
from depthwise.slimming.moves.channel_pair import offer_pairs
from depthwise.slimming.statistics import Statistics


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield what makes two of each pointwise or linear layer: W = A · B, of fewer rows in B.

    The rank that is kept is of G^½ · W · C^½, not of W alone: see `weighted.OutputBasis`.
    """
    for site in find_sites(draft, known):
        if site.kernel == (1, 1):
            yield from offer_pairs("low_rank", site)
