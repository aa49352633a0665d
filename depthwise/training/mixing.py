"""MixUp and CutMix: each image mixed with another one of its split, and their labels alike.

MixUp (Zhang et al., arXiv:1710.09412) adds two images, CutMix (Yun et al., arXiv:1905.04899) puts
a rectangle of one into the other. The partner and the share follow from (seed, epoch, index), as
everything that is done to an image does: see `draws`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.training.draws import uniform
from depthwise.training.order import Seen
from depthwise.training.recipe import Recipe

POINTS = 2001  # of the table that a distribution's quantiles are read from


class Targets(NamedTuple):
    """What images are of.

    Attributes:
        labels: The class of each image, (B,).
        others: The class of each one's partner, (B,); None where images are not mixed.
        shares: How much of each is the image itself, (B,) in [0, 1].
    """

    labels: Tensor
    others: Tensor | None = None
    shares: Tensor | None = None

    def over(self, classes: int) -> Tensor:
        """Return what `F.cross_entropy` takes: the labels, or the mixtures (B, classes) of them."""
        if self.others is None or self.shares is None:
            return self.labels
        own, other = (F.one_hot(each, classes) for each in (self.labels, self.others))
        share = self.shares[:, None]
        return share * own + (1 - share) * other


@dataclass(frozen=True)
class Mixing:
    """How images of a run are mixed.

    Attributes:
        mixup: The alpha of MixUp's shares, which are Beta(alpha, alpha); 0 for none.
        cutmix: The same of CutMix. Where there are both, each image has one or the other.
        seed: The run's.
    """

    mixup: float
    cutmix: float
    seed: int

    @classmethod
    def of(cls, recipe: Recipe) -> "Mixing | None":
        """Return how a recipe mixes images; None where it does not."""
        found = cls(recipe.mixup, recipe.cutmix, recipe.seed)
        return found if recipe.mixup or recipe.cutmix else None

    def partners(self, seen: Seen, size: int) -> Seen:
        """Return the image that each one is mixed with: any other one of the `size` in the split.

        It looks as it does itself in the same epoch.
        """
        draws = uniform(self.seed, seen.epochs, seen.indices, "partner", 1)[:, 0]
        steps = 1 + np.floor(draws * (size - 1)).astype(np.int64)
        return Seen((seen.indices + steps) % size, seen.epochs)

    def mix(self, images: Tensor, others: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) mixed with their partners, and how much is their own, (B,)."""
        draws = uniform(self.seed, seen.epochs, seen.indices, "mixing", 4)
        cuts = (draws[:, 0] < 0.5) if self.mixup and self.cutmix else np.full(
            len(draws), bool(self.cutmix)
        )  # fmt: skip
        shares = np.where(
            cuts, _quantiles(draws[:, 1], self.cutmix), _quantiles(draws[:, 1], self.mixup)
        )
        height, width = images.shape[-2:]
        rows, columns = _rectangles(shares, draws[:, 2:], height, width)
        cut_area = (rows.sum(1) * columns.sum(1)) / (height * width)
        shares = np.where(cuts, 1 - cut_area, shares)
        of_mixup = np.where(cuts, 1.0, shares)  # then nothing is added up
        rows &= cuts[:, None]
        weight, rows, columns, kept = (
            torch.from_numpy(each).to(images.device)
            for each in (of_mixup.astype(np.float32), rows, columns, shares.astype(np.float32))
        )
        mixed = others.lerp(images, weight.view(-1, 1, 1, 1).to(images.dtype))
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, others, mixed), kept


def _rectangles(
    shares: np.ndarray, places: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows (B, H) and columns (B, W) are in a rectangle of 1 - share of the image.

    Its middle is anywhere, and what would be outside of the image is left out.
    """
    found = []
    for place, pixels in zip(places.T, (height, width), strict=True):
        half = np.sqrt(1 - shares) * pixels / 2
        middle = place * pixels
        start, end = (np.round(middle + sign * half).clip(0, pixels) for sign in (-1, 1))
        steps = np.arange(pixels)
        found.append((steps >= start[:, None]) & (steps < end[:, None]))
    return found[0], found[1]


def _quantiles(chances: np.ndarray, alpha: float) -> np.ndarray:
    """Return the numbers below which Beta(alpha, alpha) lies with these chances.

    The density t^(a-1) (1-t)^(a-1) may be infinite at 0. As a function of u = t^p, p = min(a, 1),
    it is t^(a-p) (1-t)^(a-1), which is not, up to the middle; the other half mirrors it.
    """
    if not alpha:
        return np.ones_like(chances)
    power = min(alpha, 1.0)
    grid = np.linspace(0, 0.5**power, POINTS)
    values = grid ** (1 / power)
    density = values ** (alpha - power) * (1 - values) ** (alpha - 1)
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lower = np.minimum(chances, 1 - chances)
    found = np.interp(lower, below / below[-1] / 2, values)
    return np.where(chances < 0.5, found, 1 - found)
