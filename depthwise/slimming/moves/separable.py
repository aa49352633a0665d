"""A k x k convolution as a sum of T separable ones: depthwise to T maps a channel, then 1 x 1."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import LayerPart, replace_by_chain
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import conjugate_gradients, gradients, ridge, solve
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics

TURNS = 2  # of planes and pointwise weights
STEPS = 8  # of conjugate gradients in each
MOST = 4  # terms: more are worth less than other moves of the same cost


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield the sums of few separable convolutions that save multiply-adds.

    With as many terms as the kernel has taps a sum is the convolution itself (Guo et al.,
    arXiv:1808.01784, section 3); each term costs 1 / k² + 1 / K of it.
    """
    for site in find_sites(draft, known):
        counts = [terms for terms in range(MOST, 0, -1) if _saves(site, terms)]
        if not counts:
            continue
        fits = _SumFit(site)
        for terms in counts:
            sums = fits.sums(terms)
            words = f"{terms} separable {site.kernel[0]}x{site.kernel[1]}"
            damage, fit = site.damage(sums.rows), partial(find_sum, terms=terms)
            yield offer("separable", site, words, damage, sums, fit, make_separable)


def _saves(site: Site, terms: int) -> bool:
    taps = site.kernel[0] * site.kernel[1]
    cost = terms * (taps + site.outputs)  # of an input channel and an output pixel
    return site.groups == 1 and site.inputs % 8 == 0 and cost < taps * site.outputs


class SeparableSum(NamedTuple):
    """The planes of depthwise kernels (C, terms, taps) and the pointwise weight (K, C, terms)."""

    planes: np.ndarray
    mix: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """The weight (K, D) that it amounts to."""
        rows = np.einsum("kct,cti->kci", self.mix, self.planes, optimize=True)
        return rows.reshape(len(rows), -1)


class _SumFit:
    """The best sums of separable convolutions in the place of one.

    Each channel's planes start as the directions in which its taps matter most; then, by turns, the
    pointwise weights are those that predict the outputs best from the planes' maps, and the planes
    those that predict them best through these weights.
    """

    def __init__(self, site: Site):
        self.weight = site.weight.reshape(site.outputs, site.inputs, -1)
        self.covariance = site.statistics.covariance[0].astype(np.float64)
        self.ridge = ridge(self.covariance)
        self.gradient = gradients(site)[0]
        rows = site.rows
        self.products = rows @ self.covariance + self.ridge * rows
        self.planes = self._find_planes()

    def _find_planes(self) -> np.ndarray:
        """Return each channel's planes, the most important first, (C, taps, taps)."""
        channels, taps = self.weight.shape[1:]
        own = np.einsum("cicj->cij", self.covariance.reshape(channels, taps, channels, taps))
        own = own + self.ridge * np.eye(taps)
        effects = self.weight.transpose(1, 2, 0)  # (C, taps, K)
        effects = effects @ self.gradient @ effects.transpose(0, 2, 1)
        lower = np.linalg.cholesky(own)
        directions = np.linalg.eigh(lower.transpose(0, 2, 1) @ effects @ lower)[1][:, :, ::-1]
        return np.linalg.solve(lower.transpose(0, 2, 1), directions).transpose(0, 2, 1)

    def sums(self, terms: int) -> SeparableSum:
        """Return the best sum of a number of separable convolutions."""
        planes = self.planes[:, :terms]
        mix = self._mix(planes)
        for _ in range(TURNS if terms < planes.shape[2] else 0):
            planes = self._turn(planes, mix)
            mix = self._mix(planes)
        return SeparableSum(planes.astype(np.float32), mix.astype(np.float32))

    def _read(self, planes: np.ndarray) -> np.ndarray:
        """Return the covariance of the planes' maps with the patches, (C · terms, C, taps)."""
        channels, _, taps = planes.shape
        read = planes @ self.covariance.reshape(channels, taps, -1)
        read = read.reshape(channels, -1, channels, taps)
        own = np.arange(channels)
        read[own, :, own] += self.ridge * planes
        return read.reshape(-1, channels, taps)

    def _mix(self, planes: np.ndarray) -> np.ndarray:
        """Return the pointwise weight that predicts the outputs best from the planes' maps."""
        read, outputs = self._read(planes), len(self.weight)
        among = (read.transpose(1, 0, 2) @ planes.transpose(0, 2, 1)).transpose(1, 0, 2)
        products = self.products.reshape(self.weight.shape).transpose(1, 0, 2)
        products = (products @ planes.transpose(0, 2, 1)).transpose(1, 0, 2)
        mix = solve(products.reshape(outputs, -1), among.reshape(len(read), -1))
        return mix.reshape(products.shape)

    def _turn(self, planes: np.ndarray, mix: np.ndarray) -> np.ndarray:
        """Return better planes for a pointwise weight, by conjugate gradients.

        They solve, for all channels c and terms t at once, with Q = Pᵀ · G · P,
        sum over c', t' of Q[ct, c't'] · C[c, c'] · plane[c't'] = (Pᵀ · G · W · C)[ct, c].
        """
        channels, terms, _ = planes.shape
        weighted = self.gradient @ mix.reshape(len(mix), -1)
        among = (mix.reshape(len(mix), -1).T @ weighted).reshape(channels, terms, -1)
        wanted = np.einsum("kct,kci->cti", weighted.reshape(mix.shape),
                           self.products.reshape(self.weight.shape), optimize=True)  # fmt: skip
        inverse = self._invert_blocks(among)

        def product(planes: np.ndarray) -> np.ndarray:
            return among @ self._read(planes).transpose(1, 0, 2)

        def near(rest: np.ndarray) -> np.ndarray:
            return (inverse @ rest.reshape(channels, -1, 1)).reshape(planes.shape)

        return conjugate_gradients(product, near, wanted, planes, STEPS)

    def _invert_blocks(self, among: np.ndarray) -> np.ndarray:
        """Return, for each channel by itself, the inverse of what its planes are multiplied by."""
        channels, terms, _ = among.shape
        taps = self.weight.shape[2]
        own = np.einsum("ctcs->cts", among.reshape(channels, terms, channels, terms))
        moments = np.einsum("cicj->cij", self.covariance.reshape(channels, taps, channels, taps))
        moments = moments + self.ridge * np.eye(taps)
        blocks = np.einsum("cts,cij->ctisj", own, moments).reshape(channels, terms * taps, -1)
        scale = np.trace(blocks, axis1=1, axis2=2)[:, None, None] + np.finfo(float).tiny
        return np.linalg.inv(blocks + 1e-9 * scale * np.eye(terms * taps))


def find_sum(site: Site, terms: int) -> SeparableSum:
    """Return the best sum of a number of separable convolutions in the place of one."""
    return _SumFit(site).sums(terms)


def make_separable(site: Site, found: SeparableSum) -> Draft:
    """Make a depthwise convolution and a pointwise one of a convolution."""
    depthwise = replace(site.conv, groups=site.inputs)
    parts = [
        LayerPart("depthwise", depthwise, found.planes.reshape(-1, 1, *site.kernel)),
        LayerPart("pointwise", ops.POINTWISE, found.mix.reshape(len(found.mix), -1, 1, 1)),
    ]
    return replace_by_chain(site, parts, found.rows)
