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

from depthwise.training.defaults import SMALL
from depthwise.training.draws import uniform
from depthwise.training.order import Seen
from depthwise.training.randaugment import Changes
from depthwise.training.recipe import Recipe
from depthwise.weights import Preprocessing

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
        layout: How images lie in memory.
    """

    preprocessing: Preprocessing
    mirror: bool
    strength: str
    seed: int
    layout: torch.memory_format = torch.channels_last

    @classmethod
    def of(cls, preprocessing: Preprocessing, recipe: Recipe) -> Self:
        """Return how images look by a recipe."""
        return cls(preprocessing, recipe.mirror, recipe.augment, recipe.seed, layout_of(recipe))

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
            images = self.judged(squares)
            if side != images.shape[-1]:
                images = F.interpolate(images, side, mode="bilinear", antialias=True)
            return images.contiguous(memory_format=self.layout)
        pixels = squares.float() / 255
        wide = round(side * self.preprocessing.resize / self.preprocessing.crop)
        if wide < pixels.shape[-1]:  # a coarse grid would skip pixels
            pixels = F.interpolate(pixels, wide, mode="bilinear", antialias=True)
        draws = uniform(self.seed, seen.epochs, seen.indices, "crop", 5)
        flipped = (draws[:, 4] < 0.5) & self.mirror
        small = wide <= SMALL
        if small and self.strength == "light":
            pixels = _shifted(pixels, draws, flipped, side)
        elif self.strength == "light":
            pixels = _sampled(pixels, _maps(_crops(draws), flipped), side, "reflection")
            lights = uniform(self.seed, seen.epochs, seen.indices, "light", 2)
            pixels = _relit(pixels, *_on(pixels, LIGHT * (2 * lights - 1)).unbind(1))
        else:
            changes = Changes.drawn(self.seed, seen)
            crops = _windows(draws, pixels.shape[-1], side) if small else _crops(draws)
            maps = _maps(crops, flipped) @ changes.moved()
            pixels = _sampled(pixels, maps, side, "zeros" if small else "reflection")
            pixels = changes.recolored(pixels)
        return self._normalize(pixels)

    def _normalize(self, pixels: Tensor) -> Tensor:
        mean = torch.tensor(self.preprocessing.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=pixels.device).view(3, 1, 1)
        return pixels.sub_(mean).div_(std).contiguous(memory_format=self.layout)


def layout_of(recipe: Recipe) -> torch.memory_format:
    """Return how images and weights lie in memory by a recipe."""
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


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


def _windows(draws: np.ndarray, wide: int, side: int) -> Crops:
    """Return the windows of images with `wide` pixels a side that `_shifted` cuts out."""
    half = np.full(len(draws), side / wide)
    top, left = ((2 * corner + side) / wide - 1 for corner in _corners(draws, wide, side))
    return Crops(top, left, half, half)


def _maps(crops: Crops, flipped: np.ndarray) -> np.ndarray:
    """Return affine maps (B, 2, 3) from a pixel's place to that of what it shows, in [-1, 1]."""
    maps = np.zeros((len(flipped), 2, 3))
    maps[:, 0, 0] = np.where(flipped, -crops.width, crops.width)
    maps[:, 1, 1] = crops.height
    maps[:, 0, 2], maps[:, 1, 2] = crops.x, crops.y
    return maps


def _sampled(pixels: Tensor, maps: np.ndarray, side: int, outside: str) -> Tensor:
    """Return what affine maps show of each image, (B, 3, side, side), bilinearly."""
    grid = F.affine_grid(_on(pixels, maps), [len(pixels), 3, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode=outside, align_corners=False)


def _corners(draws: np.ndarray, wide: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row and column of each window of `side` pixels, below 0 outside."""
    beyond = _beyond(wide, side)
    room = wide + 2 * beyond - side + 1
    top, left = (np.floor(draws[:, place] * room).astype(np.int64) - beyond for place in (0, 1))
    return top, left


def _beyond(wide: int, side: int) -> int:
    """Return how many pixels outside of an image a window may reach."""
    return max(0, max(1, round(SHIFT * side)) - (wide - side) // 2)


def _shifted(pixels: Tensor, draws: np.ndarray, flipped: np.ndarray, side: int) -> Tensor:
    """Return (side, side) of each image, shifted by whole pixels, black where there is none."""
    wide = pixels.shape[-1]
    beyond = _beyond(wide, side)
    padded = F.pad(pixels, (beyond,) * 4)
    top, left = (corner + beyond for corner in _corners(draws, wide, side))
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
