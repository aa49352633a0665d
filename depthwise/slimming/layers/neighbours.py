"""What becomes of a layer's outputs, and how they go with it nearby."""

from typing import NamedTuple

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.interpret import evaluate
from depthwise.graph.passes.scale import find_batchnorm
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.layers.replacing import following_norm
from depthwise.slimming.layers.sites import Site
from depthwise.slimming.statistics import NeighbourMoments

GHOST_KERNEL = 3  # rows and columns of a Ghost module's cheap kernels: the paper's d


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


def _make(site: Site, tail: Tail, outputs: np.ndarray) -> np.ndarray:
    """Return what a tail makes of outputs (K, ...)."""
    if tail.norm is not None:
        scale = find_batchnorm(GraphRewriter(site.draft.graph), tail.norm)
        assert scale is not None
        outputs = outputs * scale.factor[:, None] + scale.offset[:, None]
    return outputs if tail.act is None else evaluate(tail.act.op, outputs)


def estimate_neighbours(site: Site, tail: Tail, covariance: np.ndarray) -> NeighbourMoments:
    """Return the moments of each pixel alone, as if outputs of a covariance were normal.

    Then Cov(f(y), z) = Cov(y, z) · Cov(f(y), y) / Var(y) for whatever z is (Stein's lemma).
    """
    at = np.linspace(-6, 6, 601)
    weights = np.exp(-at * at / 2)
    weights /= weights.sum()
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))[:, None]
    made = _make(site, tail, site.output_mean[:, None] + spread * at)
    mean = made @ weights
    slope = (made * at) @ weights / spread[:, 0]
    variance = (made - mean[:, None]) ** 2 @ weights
    products = slope[:, None, None] * covariance[:, None, :]
    return NeighbourMoments(1, mean[:, None], variance[:, None, None], products)
