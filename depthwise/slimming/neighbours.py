"""What becomes of a layer's outputs, and how they go with it nearby."""

from typing import NamedTuple

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.interpret import evaluate, pad_plane, windows
from depthwise.graph.passes.scale import find_batchnorm
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.replacing import following_norm
from depthwise.slimming.sites import Site
from depthwise.slimming.statistics import Neighbours


class Tail(NamedTuple):
    """What alone reads a convolution's value, one after the other."""

    norm: Node | None
    act: Node | None

    def last(self, conv: Node) -> Node:
        """Return the node whose value others read."""
        return self.act or self.norm or conv


def find_tail(edit: GraphRewriter, conv: Node) -> Tail:
    """Return the BatchNorm and the activation that follow a convolution alone."""
    norm = following_norm(edit, conv)
    value = (norm or conv).name
    readers = edit.readers(value)
    alone = len(readers) == 1 and not edit.is_output(value)
    act = readers[0] if alone and isinstance(readers[0].op, ops.Activation) else None
    return Tail(norm, act)


class NeighbourSums:
    """Collects what `Neighbours` are made of, from maps of a few images at a time."""

    def __init__(self, size: int):
        self.size = size
        self._sums = [np.zeros(())] * 4
        self._pixels = 0

    def add(self, outputs: np.ndarray, made: np.ndarray) -> None:
        """Take in a layer's outputs and what is made of them, both (N, K, H, W)."""
        side, channels = self.size // 2, outputs.shape[1]
        sides = ops.Padding(side, side, side, side)
        near = windows(pad_plane(made, sides), (self.size, self.size), (1, 1))
        near = near.transpose(1, 4, 5, 0, 2, 3).reshape(channels, self.size**2, -1)
        near = near.astype(np.float64)  # means are taken off the squares
        middle = outputs.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
        squares, products = near @ near.transpose(0, 2, 1), near.reshape(-1, len(middle)) @ middle
        found = [near.sum(2), middle.sum(0), squares, products]
        self._sums = [a + b for a, b in zip(self._sums, found, strict=True)]
        self._pixels += len(middle)

    def result(self) -> Neighbours:
        """Return the moments of all that was taken in."""
        near, middle, squares, products = (found / self._pixels for found in self._sums)
        products = products.reshape(*near.shape, -1) - near[:, :, None] * middle
        covariance = squares - near[:, :, None] * near[:, None, :]
        return Neighbours(self.size, near, covariance, products)


def output_mean(site: Site) -> np.ndarray:
    """Return the mean of each output of a layer."""
    rows = site.rows.reshape(site.groups, -1, site.rows.shape[1])
    mean = np.einsum("gkd,gd->gk", rows, site.statistics.mean).reshape(-1)
    bias = site.draft.graph.constants[site.node.inputs[2]].numbers if site.node.inputs[2:] else 0.0
    assert bias is not None
    return mean + bias


def _make(site: Site, tail: Tail, outputs: np.ndarray) -> np.ndarray:
    """Return what a tail makes of outputs (K, ...)."""
    if tail.norm is not None:
        scale = find_batchnorm(GraphRewriter(site.draft.graph), tail.norm)
        assert scale is not None
        outputs = outputs * scale.factor[:, None] + scale.offset[:, None]
    return outputs if tail.act is None else evaluate(tail.act.op, outputs)


def estimate_neighbours(site: Site, tail: Tail, covariance: np.ndarray) -> Neighbours:
    """Return the moments of each pixel alone, as if outputs of a covariance were normal.

    Then Cov(f(y), z) = Cov(y, z) · Cov(f(y), y) / Var(y) for whatever z is (Stein's lemma).
    """
    at = np.linspace(-6, 6, 601)
    weights = np.exp(-at * at / 2)
    weights /= weights.sum()
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))[:, None]
    made = _make(site, tail, output_mean(site)[:, None] + spread * at)
    mean = made @ weights
    slope = (made * at) @ weights / spread[:, 0]
    variance = (made - mean[:, None]) ** 2 @ weights
    products = slope[:, None, None] * covariance[:, None, :]
    return Neighbours(1, mean[:, None], variance[:, None, None], products)
