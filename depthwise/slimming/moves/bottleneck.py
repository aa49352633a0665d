"""A k x k convolution as a chain: 1 x 1 to few channels, k x k between few, 1 x 1 to all."""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import LayerPart, replace_by_chain
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import gradients, ridge, roots, solve, weighted_basis
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics

EIGHTHS = (6, 4, 3, 2, 1)  # of the channels on either side that are left between
LANES = 8


class Between(NamedTuple):
    """How many channels a k x k convolution reads and gives between its pointwise ones."""

    inputs: int
    outputs: int


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield chains that save multiply-adds: few channels on both sides, or only before.

    Kim et al., arXiv:1511.06530, decompose the weight alone; here inputs and outputs count by how
    much they vary and matter, and each layer is fitted through those before it. Few channels only
    after the k x k convolution are a channel pair.
    """
    for site in find_sites(draft, known):
        counts = [between for between in _counts(site) if _macs(site, between) < site.macs]
        if not counts:
            continue
        fits = _BottleneckFit(site)
        for between in counts:
            chain = fits.chain(between)
            kernel = f"{site.kernel[0]}x{site.kernel[1]}"
            words = f"1x1 to {between.inputs} channels, {kernel} to {between.outputs}"
            if chain.expand is not None:
                words += f", 1x1 to {site.outputs}"
            fit = partial(find_chain, between=between)
            yield offer("bottleneck", site, words, site.damage(chain.rows), chain, fit, make_chain)


def _counts(site: Site) -> list[Between]:
    if site.groups > 1 or site.kernel == (1, 1):
        return []
    found = []
    for eighths in EIGHTHS:
        inputs, outputs = (
            round(count * eighths / 8 / LANES) * LANES for count in (site.inputs, site.outputs)
        )
        found += [Between(inputs, site.outputs), Between(inputs, outputs)]
    return [b for b in dict.fromkeys(found) if 0 < b.inputs < site.inputs and b.outputs > 0]


def _macs(site: Site, between: Between) -> int:
    pixels = prod(site.pixels)
    reduce = between.inputs * site.inputs * prod(site.plane)
    middle = between.inputs * between.outputs * prod(site.kernel) * pixels
    expand = between.outputs * site.outputs * pixels if between.outputs < site.outputs else 0
    return reduce + middle + expand


class PointwiseChain(NamedTuple):
    """The weights: (r, C), (q, r, taps) and (K, q), the last one None where q is K."""

    reduce: np.ndarray
    middle: np.ndarray
    expand: np.ndarray | None

    @property
    def rows(self) -> np.ndarray:
        """The weight (K, D) that the chain amounts to."""
        middle = self.middle if self.expand is None else np.tensordot(self.expand, self.middle, 1)
        rows = np.einsum("krt,rc->kct", middle, self.reduce, optimize=True)
        return rows.reshape(len(rows), -1)


class _BottleneckFit:
    """The best chains in the place of a convolution.

    The first layer keeps the directions of the inputs that matter most, whichever tap reads them;
    given that, the best others are known: they predict the outputs from the kept directions.
    """

    def __init__(self, site: Site):
        channels, taps = site.inputs, prod(site.kernel)
        covariance = site.statistics.covariance[0].astype(np.float64)
        covariance.flat[:: len(covariance) + 1] += ridge(covariance)
        self.weight = site.weight.reshape(site.outputs, channels, taps)
        self.moments = covariance.reshape(channels, taps, channels, taps)
        self.products = np.tensordot(self.weight, self.moments, 2)
        self.gradient = gradients(site)[0]
        half, inverse = roots(np.einsum("cidi->cd", self.moments) / taps)
        effects = np.einsum(
            "kci,kl,ldi->cd", self.weight, self.gradient, self.weight, optimize=True
        )
        directions = np.linalg.eigh(half @ effects @ half)[1][:, ::-1]
        self.directions = directions.T @ inverse

    def chain(self, between: Between) -> PointwiseChain:
        """Return the best chain of some numbers of channels."""
        reduce = self.directions[: between.inputs]
        read = np.tensordot(reduce, self.moments, 1)  # with the inputs, (r, taps, C, taps)
        among = np.tensordot(read, reduce, (2, 1)).swapaxes(2, 3)
        products = np.tensordot(self.products, reduce, (1, 1)).swapaxes(1, 2)
        size = among.shape[0] * among.shape[1]
        among, products = among.reshape(size, size), products.reshape(-1, size)
        middle, expand = solve(products, among), None
        if between.outputs < len(middle):
            there, back = weighted_basis(middle @ among @ middle.T, self.gradient)
            middle, expand = there[: between.outputs] @ middle, back[:, : between.outputs]
        middle = middle.reshape(len(middle), len(reduce), -1).astype(np.float32)
        last = None if expand is None else expand.astype(np.float32)
        return PointwiseChain(reduce.astype(np.float32), middle, last)


def find_chain(site: Site, between: Between) -> PointwiseChain:
    """Return the best chain in the place of a convolution."""
    return _BottleneckFit(site).chain(between)


def make_chain(site: Site, chain: PointwiseChain) -> Draft:
    """Make a chain of a convolution."""
    middle = chain.middle.reshape(*chain.middle.shape[:2], *site.kernel)
    parts = [
        LayerPart("reduce", ops.POINTWISE, chain.reduce[:, :, None, None]),
        LayerPart("spatial", site.conv, middle),
    ]
    if chain.expand is not None:
        parts.append(LayerPart("expand", ops.POINTWISE, chain.expand[:, :, None, None]))
    return replace_by_chain(site, parts, chain.rows)
