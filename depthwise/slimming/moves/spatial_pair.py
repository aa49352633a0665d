"""A k x k convolution as two: k x 1 to few channels, then 1 x k from these to all of them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import LayerPart, replace_by_chain
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import conjugate_gradients, gradients, ridge, roots, solve
from depthwise.slimming.moves.counts import offered_counts
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics

STEPS = 3  # of conjugate gradients


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield the pairs of a column's and a row's convolution that save multiply-adds.

    Jaderberg et al., arXiv:1405.3866, scheme 2; here the rows are fitted to the layer's own inputs.
    """
    for site in find_sites(draft, known):
        counts = offered_counts(_most(site), site.groups) if min(site.kernel) > 1 else []
        if not counts:
            continue
        fits = _fit_groups(site, counts[0])
        for count in counts:
            pair = _pair(fits, count)
            words = (f"{site.kernel[0]}x1 to {count} channels, "
                     f"then 1x{site.kernel[1]} to {site.outputs}")  # fmt: skip
            damage, fit = site.damage(pair.joined(site.groups)), partial(find_pair, count=count)
            yield offer("spatial_pair", site, words, damage, pair, fit, make_pair)


def _most(site: Site) -> int:
    """Return the most channels between the two that save multiply-adds."""
    down, across = site.kernel
    column = down * site.inputs // site.groups * site.pixels[0] * site.plane[1]
    row = across * site.outputs // site.groups * prod(site.pixels)
    return (site.macs - 1) // (column + row)


class _SpatialFit:
    """The best pairs of one group of a convolution.

    The columns' kernels V start as the directions in which columns of the input matter most,
    whichever column of the kernel reads them; then the rows' kernels H are those that predict the
    outputs best from the columns' maps, V those that do it best through H, and H once more.
    """

    def __init__(self, site: Site, group: int, most: int):
        outputs, inputs = site.outputs // site.groups, site.inputs // site.groups
        down, across = site.kernel
        tall = inputs * down
        weight = site.weight[group * outputs : (group + 1) * outputs]
        self.weight = weight.reshape(outputs, tall, across)
        covariance = site.statistics.covariance[group].astype(np.float64)
        covariance.flat[:: len(covariance) + 1] += ridge(covariance)
        self.moments = covariance.reshape(tall, across, tall, across)
        self.products = np.tensordot(self.weight, self.moments, 2)  # with the inputs
        self.down = np.einsum("usvs->uv", self.moments) / across
        self.gradient = gradients(site)[group]
        self.columns = self._find_columns()[: min(most, tall)]

    def _find_columns(self) -> np.ndarray:
        """Return V (r, C · R) for the largest rank, the most important first."""
        half, _ = roots(self.gradient)
        effects = np.einsum("hk,kus->hsu", half, self.weight, optimize=True)
        effects = effects.reshape(-1, effects.shape[-1])
        directions = np.linalg.eigh(effects @ self.down @ effects.T)[1][:, ::-1]
        return directions.T @ effects

    def pair(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return V (rank, C · R) and H (K, rank, S)."""
        columns = self.columns[:rank]
        columns = self._turn(columns, self._find_rows(columns))
        return columns, self._find_rows(columns)

    def _find_rows(self, columns: np.ndarray) -> np.ndarray:
        """Return H that predicts the outputs best from the columns' maps."""
        read = np.tensordot(columns, self.moments, 1)  # with the inputs, (r, S, C · R, S)
        among = np.tensordot(read, columns, (2, 1)).swapaxes(2, 3)
        products = np.tensordot(self.products, columns, (1, 1)).swapaxes(1, 2)
        size = among.shape[0] * among.shape[1]
        rows = solve(products.reshape(-1, size), among.reshape(size, size))
        return rows.reshape(products.shape)

    def _turn(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return better columns for rows, by conjugate gradients.

        They solve, with Q = Hᵀ · G · H, for all columns r and inputs u at once,
        sum over s, q, t of Q[rs, qt] · (V · C)[qt, us] = sum over s of (Hᵀ · G · W · C)[rs, us].
        """
        weighted = np.tensordot(self.gradient, rows, 1)
        among = np.tensordot(weighted, rows, (0, 0))
        wanted = np.tensordot(weighted, self.products, ((0, 2), (0, 2)))
        mixed = np.einsum("rsqs->rq", among)
        mixed.flat[:: len(mixed) + 1] += 1e-9 * np.trace(mixed) + np.finfo(float).tiny
        left, right = np.linalg.inv(mixed), np.linalg.inv(self.down)

        def product(columns: np.ndarray) -> np.ndarray:
            read = np.tensordot(columns, self.moments, 1)
            return np.tensordot(among, read, ((1, 2, 3), (3, 0, 1)))

        return conjugate_gradients(
            product, lambda rest: left @ rest @ right, wanted, columns, STEPS
        )


class SpatialPair(NamedTuple):
    """The kernels of two convolutions: V (r, C · R) and H (K, r / groups, S), groups in order."""

    columns: np.ndarray
    rows: np.ndarray

    def joined(self, groups: int) -> np.ndarray:
        """Return the weight (K, D) that the two amount to."""
        columns = self.columns.reshape(groups, -1, self.columns.shape[1])
        rows = self.rows.reshape(groups, -1, *self.rows.shape[1:])
        joined = np.einsum("gkrs,gru->gkus", rows, columns, optimize=True)
        return joined.reshape(len(self.rows), -1)


def _fit_groups(site: Site, most: int) -> list[_SpatialFit]:
    return [_SpatialFit(site, group, most // site.groups) for group in range(site.groups)]


def _pair(fits: list[_SpatialFit], count: int) -> SpatialPair:
    """Return the best pair with `count` channels between."""
    found = [fit.pair(count // len(fits)) for fit in fits]
    columns, rows = (np.concatenate([pair[part] for pair in found]) for part in (0, 1))
    return SpatialPair(columns.astype(np.float32), rows.astype(np.float32))


def find_pair(site: Site, count: int) -> SpatialPair:
    """Return the best pair of a convolution with `count` channels between."""
    return _pair(_fit_groups(site, count), count)


def make_pair(site: Site, pair: SpatialPair) -> Draft:
    """Make two of a convolution."""
    conv = site.conv
    top, bottom, left, right = conv.padding
    down = replace(conv, stride=(conv.stride[0], 1), dilation=(conv.dilation[0], 1),
                   padding=ops.Padding(top, bottom, 0, 0))  # fmt: skip
    across = replace(conv, stride=(1, conv.stride[1]), dilation=(1, conv.dilation[1]),
                     padding=ops.Padding(0, 0, left, right))  # fmt: skip
    columns, rows = pair
    parts = [
        LayerPart("column", down, columns.reshape(len(columns), -1, site.kernel[0], 1)),
        LayerPart("row", across, rows[:, :, None]),
    ]
    return replace_by_chain(site, parts, pair.joined(site.groups))
