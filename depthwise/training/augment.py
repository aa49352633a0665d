"""What is done to images before a network sees them, a batch at once on the network's device.

Each image has parameters of its own, which follow from (seed, epoch, index): see `draws`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.training.draws import uniform
from depthwise.training.order import Seen
from depthwise.training.recipe import Recipe
from depthwise.weights import Preprocessing

SMALL = 64  # pixels: images up to this size are shifted, larger ones cropped and resized
SHIFT = 1 / 8  # of the side: the farthest shift, as 4 of CIFAR's 32 pixels
AREA = (0.35, 1.0)  # the least and the largest share of an image that a crop keeps
ASPECT = 4 / 3  # the largest ratio of a crop's sides
LIGHT = 0.2  # the largest change of brightness and contrast


@dataclass(frozen=True)
class Appearance:
    """How images of a split look to a network.

    Attributes:
        preprocessing: What is done to an image that is judged.
        mirror: Whether images that are trained on are mirrored at random.
        strength: "none", "light" or "rand".
        seed: The run's.
    """

    preprocessing: Preprocessing
    mirror: bool
    strength: str
    seed: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, recipe: Recipe) -> Self:
        """Return how images look by a recipe."""
        return cls(preprocessing, recipe.mirror, recipe.augment, recipe.seed)

    def judged(self, squares: Tensor) -> Tensor:
        """Return squares of uint8, (B, 3, S, S), as they are judged: (B, 3, R, R), normalised."""
        return self._normalize(self.cut(squares).float() / 255)

    def cut(self, squares: Tensor) -> Tensor:
        """Return the middle of squares, as large as the network sees them."""
        start = (squares.shape[-1] - self.preprocessing.crop) // 2
        end = start + self.preprocessing.crop
        return squares[..., start:end, start:end]

    def trained(self, squares: Tensor, seen: Seen, side: int) -> Tensor:
        """Return squares of uint8, (B, 3, S, S), as they are learned from: (B, 3, side, side)."""
        if self.strength == "none":
            return F.interpolate(self.judged(squares), side, mode="bilinear", antialias=True)
        pixels = squares.float() / 255
        wide = round(side * self.preprocessing.resize / self.preprocessing.crop)
        if wide < pixels.shape[-1]:  # a coarse grid would skip pixels
            pixels = F.interpolate(pixels, wide, mode="bilinear", antialias=True)
        draws = uniform(self.seed, seen.epochs, seen.indices, "crop", 5)
        flipped = (draws[:, 4] < 0.5) & self.mirror
        if wide <= SMALL:
            pixels = _shifted(pixels, draws[:, 0], draws[:, 1], flipped, side)
        else:
            pixels = _sampled(pixels, _crops(draws), flipped, side)
            lights = uniform(self.seed, seen.epochs, seen.indices, "light", 2)
            pixels = _relit(pixels, *_on(pixels, LIGHT * (2 * lights - 1)).unbind(1))
        return self._normalize(pixels)

    def _normalize(self, pixels: Tensor) -> Tensor:
        mean = torch.tensor(self.preprocessing.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=pixels.device).view(3, 1, 1)
        return pixels.sub_(mean).div_(std)


def _on(pixels: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(pixels.device)


class Crops(NamedTuple):
    """The middle and the half height and width of a part of each image, in [-1, 1] of it."""

    y: np.ndarray
    x: np.ndarray
    height: np.ndarray
    width: np.ndarray


def _crops(draws: np.ndarray) -> Crops:
    """Return random parts: of any share and any shape in AREA and ASPECT, anywhere."""
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[:, 0]
    ratio = np.exp(math.log(ASPECT) * (2 * draws[:, 1] - 1))
    height = np.minimum(1, np.sqrt(area / ratio))
    width = np.minimum(1, np.sqrt(area * ratio))
    y, x = (1 - height) * (2 * draws[:, 2] - 1), (1 - width) * (2 * draws[:, 3] - 1)
    return Crops(y, x, height, width)


def _sampled(pixels: Tensor, crops: Crops, flipped: np.ndarray, side: int) -> Tensor:
    """Return a part of each image, bilinearly resized to (side, side)."""
    steps = (torch.arange(side, device=pixels.device) + 0.5) * 2 / side - 1
    y, x, height, width = (_on(pixels, each)[:, None] for each in crops)
    across = torch.where(torch.from_numpy(flipped).to(pixels.device)[:, None], -width, width)
    rows, columns = y + height * steps, x + across * steps
    grid = torch.stack(
        [columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], -1
    )
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _shifted(
    pixels: Tensor, down: np.ndarray, right: np.ndarray, flipped: np.ndarray, side: int
) -> Tensor:
    """Return (side, side) of each image, shifted by whole pixels, black where there is none."""
    far = max(1, round(SHIFT * side))
    margin = (pixels.shape[-1] - side) // 2
    padded = F.pad(pixels, (far - margin,) * 4 if far > margin else (0,) * 4)
    room = padded.shape[-1] - side + 1
    top, left = (np.floor(draw * room).astype(np.int64) for draw in (down, right))
    steps = np.arange(side)
    rows = top[:, None] + steps
    columns = left[:, None] + np.where(flipped[:, None], side - 1 - steps, steps)
    rows, columns = (torch.from_numpy(each).to(pixels.device) for each in (rows, columns))
    images = torch.arange(len(pixels), device=pixels.device)
    moved = padded.movedim(1, -1)[images[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1)


def _relit(pixels: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Return images of [0, 1] with other brightness and contrast, each image its own."""
    middle = pixels.mean((1, 2, 3), keepdim=True)
    change = (1 + contrast).view(-1, 1, 1, 1)
    return ((pixels - middle) * change + middle * (1 + brightness).view(-1, 1, 1, 1)).clamp_(0, 1)
