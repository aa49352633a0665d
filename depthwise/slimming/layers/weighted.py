"""Weights fitted under a layer's statistics: what changes the scores least, in closed form.

The damage of another weight W' is pixels / 2 · trace(G · (W - W') · C · (W - W')ᵀ): errors count by
how much inputs vary (C), and by how much outputs matter (G). Where W' is a product, or has zeros
at given places, that has a minimum which can be computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from depthwise.slimming.layers.sites import Site
from depthwise.slimming.statistics import LayerStatistics

RIDGE = 1e-6  # of the mean variance: directions in which calibration images never varied
DAMPING = 1e-3  # of the mean of a gradient's diagonal: outputs that did not matter to these images


def ridge(covariance: np.ndarray) -> float:
    """Return what is added to each variance so that a covariance can be inverted."""
    return RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)


def gradients(site: Site) -> list[np.ndarray]:
    """Return the gradients' second moments of each group, positive definite.

    What did not matter to the images of calibration gets a little weight, and where nothing did,
    all outputs get the same.
    """
    width = site.outputs // site.groups
    found = []
    for start in range(0, site.outputs, width):
        own = site.statistics.gradient[start : start + width, start : start + width]
        mean = float(np.trace(own)) / width
        found.append(own + DAMPING * mean * np.eye(width) if mean > 0 else np.eye(width))
    return found


def roots(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the square root of a positive definite matrix, and its inverse."""
    values, vectors = np.linalg.eigh(moments)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def fit_places(rows: np.ndarray, covariance: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the numbers at places of their inputs by which outputs are predicted best.

    Args:
        rows: The outputs' weights of all inputs, (K, D).
        covariance: Of the inputs, (D, D).
        places: Which inputs there still are, (F).
    """
    among = covariance[np.ix_(places, places)].astype(np.float64)
    own = ridge(among)
    among.flat[:: len(among) + 1] += own
    return solve(rows @ covariance[:, places] + own * rows[:, places], among)


def solve(products: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Return X of X · moments = products, moments symmetric."""
    return np.linalg.solve(moments, products.T).T


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray], near: Callable[[np.ndarray], np.ndarray],
    wanted: np.ndarray, start: np.ndarray, steps: int,
) -> np.ndarray:  # fmt: skip
    """Return x of product(x) = wanted, nearer with each step.

    `product` is symmetric and positive definite, and `near` about its inverse.
    """
    x, rest = start, wanted - product(start)
    way = close = near(rest)
    worth = float(np.sum(rest * close))
    for _ in range(steps):
        moved = product(way)
        curve = float(np.sum(way * moved))
        if curve <= 0 or worth <= 0:
            break  # there already
        x, rest = x + worth / curve * way, rest - worth / curve * moved
        close = near(rest)
        before, worth = worth, float(np.sum(rest * close))
        way = close + worth / before * way
    return x


def output_covariance(site: Site) -> np.ndarray:
    """Return the covariance of the outputs of each group, (groups, K / groups, K / groups)."""
    covariance = site.statistics.covariance
    rows = site.rows_by_group.astype(covariance.dtype)
    return (rows @ covariance @ rows.transpose(0, 2, 1)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class OutputBasis:
    """The directions in which a layer's outputs matter, the most important first, for each group.

    With U the eigenvectors of G^½ · W · C · Wᵀ · G^½, the best weight of rank r is
    G^-½ · U_r · U_rᵀ · G^½ · W: whatever has another row space, or column space, does more damage.

    Attributes:
        rows: Of the layer's weight, (groups, K / groups, D).
        reduce: Uᵀ · G^½ of each group, (groups, K / groups, K / groups).
        expand: G^-½ · U of each group.
        outputs: The statistics with the outputs in the place of the patches.
    """

    rows: np.ndarray
    reduce: np.ndarray
    expand: np.ndarray
    outputs: LayerStatistics

    @cached_property
    def width(self) -> int:
        """K / groups."""
        return self.reduce.shape[1]

    def damage(self, rank: int) -> float:
        """Return the damage of keeping `rank` directions of each group."""
        kept = self.expand[:, :, :rank] @ self.reduce[:, :rank]
        return self.outputs.damage((kept - np.eye(self.width)).reshape(-1, self.width))

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (groups · rank, D) and (K, rank), whose product group by group is best."""
        first = self.reduce[:, :rank] @ self.rows
        return first.reshape(-1, self.rows.shape[-1]), self.expand[:, :, :rank].reshape(-1, rank)


def weighted_basis(covariance: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Uᵀ · G^½ and G^-½ · U, with U the eigenvectors of G^½ · C · G^½, largest first."""
    half, inverse = roots(gradient)
    directions = np.linalg.eigh(half @ covariance @ half)[1][:, ::-1]
    return directions.T @ half, inverse @ directions


def find_output_basis(site: Site) -> OutputBasis:
    """Return the directions in which the outputs of a layer matter."""
    outputs = output_covariance(site)
    groups, width = outputs.shape[:2]
    reduce, expand = [], []
    for gradient, own in zip(gradients(site), outputs, strict=True):
        there, back = weighted_basis(own, gradient)
        reduce.append(there)
        expand.append(back)
    in_place = replace(site.statistics, covariance=outputs, mean=np.zeros((groups, width)))
    return OutputBasis(site.rows_by_group, np.stack(reduce), np.stack(expand), in_place)
