"""A k x k convolution as two: k x k to few channels, then 1 x 1 from these to all of them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import LayerPart, replace_by_chain
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import OutputBasis, find_output_basis
from depthwise.slimming.moves.counts import offered_counts
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield what makes of each k x k convolution one to fewer channels, and a pointwise.

    Zhang et al., arXiv:1505.06798, fit the outputs as this does, each as important as the others;
    here they count by how much they matter.
    """
    for site in find_sites(draft, known):
        if site.kernel != (1, 1):
            yield from offer_pairs("channel_pair", site)


def offer_pairs(move: str, site: Site) -> Iterator[Change]:
    """Yield the pairs of a layer that save multiply-adds, of the largest rank first."""
    counts = offered_counts(_most(site), site.groups)
    if not counts:
        return
    basis = find_output_basis(site)
    kernel = f"{site.kernel[0]}x{site.kernel[1]}"
    for count in counts:
        words = f"{kernel} to {count} channels, then 1x1 to {site.outputs}"
        damage = basis.damage(count // site.groups)
        build = partial(make_pair, count=count)
        yield offer(move, site, words, damage, basis, find_output_basis, build)


def _most(site: Site) -> int:
    """Return the most channels between the two that save multiply-adds."""
    patch = site.weight_size // site.outputs
    # r · D + K · r / groups < K · D
    return (site.weight_size * site.groups - 1) // (patch * site.groups + site.outputs)


def make_pair(site: Site, basis: OutputBasis, count: int) -> Draft:
    """Make two of a layer, with `count` channels between."""
    rank = min(count // site.groups, site.outputs // site.groups)
    first, last = basis.factors(rank)
    by_group = first.reshape(site.groups, rank, -1)
    rows = last.reshape(site.groups, -1, rank) @ by_group
    return replace_by_chain(site, _parts(site, first, last), rows.reshape(site.rows.shape))


def _parts(site: Site, first: np.ndarray, last: np.ndarray) -> list[LayerPart]:
    if isinstance(site.node.op, ops.Linear):
        return [LayerPart("reduce", ops.Linear(), first), LayerPart("expand", ops.Linear(), last)]
    pointwise = replace(ops.POINTWISE, groups=site.groups)
    return [
        LayerPart("reduce", site.conv, first.reshape(len(first), -1, *site.kernel)),
        LayerPart("expand", pointwise, last.reshape(*last.shape, 1, 1)),
    ]
