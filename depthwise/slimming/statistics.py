"""What calibration images tell of each layer: what it reads, and how much its output matters."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How a layer's outputs go with what becomes of them nearby: what a Ghost module is fitted by.

    Made of an output are its BatchNorm and its activation, where these follow it alone. A
    neighbourhood is the square of size · size pixels around a pixel, row by row, zeros beyond the
    plane.

    Attributes:
        size: Odd.
        mean: Of the neighbourhoods of each channel of what is made of the outputs, (K, size²).
        covariance: Of these, each channel by itself, (K, size², size²).
        products: The covariance of these with each output in the middle, (K, size², K).
    """

    size: int
    mean: np.ndarray
    covariance: np.ndarray
    products: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """The moments of one convolution or linear layer over images and output pixels.

    A patch is what one output pixel of one group reads: D = C / groups · R · S numbers, in the
    order of weight.reshape(K, D), zeros where it reads padding.

    Attributes:
        mean: Of the patches, (groups, D).
        covariance: Of the patches, (groups, D, D): their mean is taken off, for a bias or a
            BatchNorm that follows makes up for it.
        gradient: The mean of g · gᵀ, (K, K), where g is the gradient of the log-likelihood, by the
            scores of one image, with respect to one output pixel (K channels) of this layer.
            No labels are needed (Fisher information; Martens and Grosse, arXiv:1503.05671, section
            3): it goes back from directions that are drawn, of which the mean of the outer product
            is that over classes drawn from the scores, and each image says as much as any.
        pixels: Output pixels of an image.
        neighbours: Of a convolution; None where they were not measured.
    """

    mean: np.ndarray
    covariance: np.ndarray
    gradient: np.ndarray
    pixels: int
    neighbours: Neighbours | None = None

    def damage(self, change: np.ndarray) -> float:
        """Return how far the scores move when the weight (K, D) is changed by `change`.

        The mean Kullback-Leibler divergence in nats an image, to second order:
        pixels / 2 · sum over groups of trace(gradient · change · covariance · changeᵀ).
        """
        groups = len(self.covariance)
        parts = change.reshape(groups, -1, change.shape[-1])
        width = parts.shape[1]
        total = 0.0
        for group, (part, covariance) in enumerate(zip(parts, self.covariance, strict=True)):
            own = slice(group * width, (group + 1) * width)
            total += float(np.sum(self.gradient[own, own] * (part @ covariance @ part.T)))
        return 0.5 * self.pixels * total


Statistics = Mapping[str, LayerStatistics]  # by the name of the node
