"""A k x k convolution as two: k x 1 to few channels, then 1 x k from these to all of them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves.counts import offered_counts
from depthwise.slimming.replacing import Part, replace_by_chain
from depthwise.slimming.sites import Site, find_again, find_sites
from depthwise.slimming.statistics import Statistics
from depthwise.slimming.weighted import gradients, ridge, roots, solve


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield the pairs of a column's and a row's convolution that save multiply-adds.

    Jaderberg et al., arXiv:1405.3866, scheme 2; here the rows are fitted to the layer's own inputs.
    """
    for site in find_sites(draft, known):
        counts = offered_counts(_most(site), site.groups) if min(site.kernel) > 1 else []
        if not counts:
            continue
        fits = [_Fit(site, group, counts[0] // site.groups) for group in range(site.groups)]
        for count in counts:
            rows = np.concatenate([fit.rows(count // site.groups) for fit in fits])
            words = (f"{site.kernel[0]}x1 to {count} channels, "
                     f"then 1x{site.kernel[1]} to {site.outputs}")  # fmt: skip
            yield Change(
                "spatial_pair", site.path, words, site.damage(rows), partial(make_pair, site, count)
            )


def _most(site: Site) -> int:
    """Return the most channels between the two that save multiply-adds."""
    down, across = site.kernel
    column = down * site.inputs // site.groups * site.pixels[0] * site.plane[1]
    row = across * site.outputs // site.groups * prod(site.pixels)
    return (site.macs - 1) // (column + row)


class _Fit:
    """The best pairs of one group of a convolution.

    The columns' kernels V are directions in which columns of the input matter most, whichever
    column of the kernel reads them; the rows' kernels H then predict the outputs best.
    """

    def __init__(self, site: Site, group: int, most: int):
        outputs, inputs = site.outputs // site.groups, site.inputs // site.groups
        down, across = site.kernel
        tall = inputs * down
        weight = site.weight[group * outputs : (group + 1) * outputs]
        self.weight = weight.reshape(outputs, tall, across)
        covariance = site.statistics.covariance[group]
        self.moments = covariance.reshape(tall, across, tall, across)
        self.ridge = ridge(covariance)
        half, _ = roots(gradients(site)[group])
        self.columns = self._find_columns(half)[: min(most, tall)]
        self.read = np.tensordot(self.columns, self.moments, 1)  # (r, S, tall, S)

    def _find_columns(self, half: np.ndarray) -> np.ndarray:
        """Return V for the largest rank, the most important first."""
        down = np.einsum("usvs->uv", self.moments) / self.moments.shape[1]
        effects = np.einsum("hk,kus->hsu", half, self.weight, optimize=True)
        effects = effects.reshape(-1, effects.shape[-1])
        directions = np.linalg.eigh(effects @ down @ effects.T)[1][:, ::-1]
        return directions.T @ effects

    def pair(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return V (rank, C · R) and H (K, rank, S)."""
        rank = min(rank, len(self.columns))
        columns, read = self.columns[:rank], self.read[:rank]
        across = read.shape[1]
        among = np.einsum("rsvt,qv->rsqt", read, columns, optimize=True)
        among += self.ridge * np.einsum("rq,st->rsqt", columns @ columns.T, np.eye(across))
        products = np.einsum("kvt,rsvt->krs", self.weight, read, optimize=True)
        products += self.ridge * np.einsum("kvs,rv->krs", self.weight, columns, optimize=True)
        size = rank * across
        row = solve(products.reshape(-1, size), among.reshape(size, size))
        return columns, row.reshape(-1, rank, across)

    def rows(self, rank: int) -> np.ndarray:
        """Return the weight (K, D) that the pair of a rank amounts to."""
        columns, row = self.pair(rank)
        return np.einsum("krs,ru->kus", row, columns, optimize=True).reshape(len(row), -1)


def make_pair(site: Site, count: int, draft: Draft) -> Draft:
    """Make two of a convolution, with `count` channels between."""
    site = find_again(site, draft)
    rank = count // site.groups
    fits = [_Fit(site, group, rank) for group in range(site.groups)]
    pairs = [fit.pair(rank) for fit in fits]
    columns, row = (np.concatenate([pair[part] for pair in pairs]) for part in (0, 1))
    conv = site.conv
    top, bottom, left, right = conv.padding
    down = replace(conv, stride=(conv.stride[0], 1), dilation=(conv.dilation[0], 1),
                   padding=ops.Padding(top, bottom, 0, 0))  # fmt: skip
    across = replace(conv, stride=(1, conv.stride[1]), dilation=(1, conv.dilation[1]),
                     padding=ops.Padding(0, 0, left, right))  # fmt: skip
    tall = columns.reshape(len(columns), -1, site.kernel[0], 1)
    parts = [Part("column", down, tall), Part("row", across, row[:, :, None])]
    return replace_by_chain(site, parts, np.concatenate([fit.rows(rank) for fit in fits]))
