"""RandAugment (Cubuk et al., arXiv:1909.13719): two random changes of each image, of 14 kinds.

Each image has kinds and levels of its own. What moves pixels is one affine map, to be done together
with the crop; what changes colours is done to those images of a batch that it was drawn for.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import autocontrast, equalize

from depthwise.training.draws import uniform
from depthwise.training.order import Seen

CHANGES = 2  # of each image
STRONGEST = 0.6  # the highest level, of 1: their mean is the paper's 9 of 30
TURN, SHEAR, MOVE = math.radians(30), 0.3, 150 / 331  # at level 1, as the paper's authors have them
LIGHT = 0.9  # the change of brightness, contrast, saturation and sharpness at level 1
BITS = 4  # of 8, that posterizing takes away at level 1
GREY = (0.2989, 0.587, 0.114)  # how bright red, green and blue are (ITU-R BT.601)


class Changes(NamedTuple):
    """What is done to each image: kinds, as numbers of KINDS, and levels in [-1, 1], (B, 2)."""

    kinds: np.ndarray
    levels: np.ndarray

    @classmethod
    def drawn(cls, seed: int, seen: Seen) -> "Changes":
        """Return the changes of images in their epochs."""
        draws = uniform(seed, seen.epochs, seen.indices, "rand", 2 * CHANGES)
        kinds = np.floor(draws[:, :CHANGES] * len(KINDS)).astype(np.int64)
        return cls(kinds, STRONGEST * (2 * draws[:, CHANGES:] - 1))

    def moved(self) -> np.ndarray:
        """Return the affine map of each image, (B, 3, 3), from where a pixel is to what it shows.

        Coordinates are (x, y, 1), in [-1, 1] of the image.
        """
        maps = np.broadcast_to(np.eye(3), (len(self.kinds), 3, 3))
        for kinds, levels in zip(self.kinds.T, self.levels.T, strict=True):
            each = np.broadcast_to(np.eye(3), maps.shape).copy()
            for name, change in MOVES.items():
                rows = np.flatnonzero(kinds == KINDS.index(name))
                change(each, rows, levels[rows])
            maps = maps @ each
        return maps

    def recolored(self, pixels: Tensor) -> Tensor:
        """Return images (B, 3, H, W) of [0, 1] with their colours changed."""
        for kinds, levels in zip(self.kinds.T, self.levels.T, strict=True):
            order = np.argsort(kinds, kind="stable")
            places = torch.from_numpy(order).to(pixels.device)
            sizes = torch.from_numpy(levels[order]).to(pixels.device, pixels.dtype)
            for name, change in COLOURS.items():
                bounds = np.searchsorted(kinds[order], KINDS.index(name) + np.arange(2))
                own = slice(*map(int, bounds))
                if own.start < own.stop:
                    changed = change(pixels[places[own]], sizes[own].view(-1, 1, 1, 1))
                    pixels = pixels.index_copy(0, places[own], changed)
        return pixels


# ---------------------------------------------------------------- what moves pixels


def _rotate(maps: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> None:
    cosine, sine = np.cos(TURN * levels), np.sin(TURN * levels)
    maps[rows, 0, 0] = maps[rows, 1, 1] = cosine
    maps[rows, 0, 1], maps[rows, 1, 0] = sine, -sine


def _shear_x(maps: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> None:
    maps[rows, 0, 1] = SHEAR * levels


def _shear_y(maps: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> None:
    maps[rows, 1, 0] = SHEAR * levels


def _translate_x(maps: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> None:
    maps[rows, 0, 2] = 2 * MOVE * levels  # an image is 2 wide


def _translate_y(maps: np.ndarray, rows: np.ndarray, levels: np.ndarray) -> None:
    maps[rows, 1, 2] = 2 * MOVE * levels


# ---------------------------------------------------------------- what changes colours


def _brighten(pixels: Tensor, levels: Tensor) -> Tensor:
    return (pixels * (1 + LIGHT * levels)).clamp(0, 1)


def _contrast(pixels: Tensor, levels: Tensor) -> Tensor:
    return _away_from(_grey(pixels).mean((1, 2, 3), keepdim=True), pixels, levels)


def _saturate(pixels: Tensor, levels: Tensor) -> Tensor:
    return _away_from(_grey(pixels), pixels, levels)


def _sharpen(pixels: Tensor, levels: Tensor) -> Tensor:
    kernel = torch.ones(3, 1, 3, 3, dtype=pixels.dtype, device=pixels.device)
    kernel[:, :, 1, 1] = 5
    smooth = pixels.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(pixels, kernel / 13, groups=3)
    return _away_from(smooth, pixels, levels)


def _posterize(pixels: Tensor, levels: Tensor) -> Tensor:
    step = 2 ** (BITS * levels.abs()).round()
    return ((pixels * 255).round() / step).floor() * step / 255


def _solarize(pixels: Tensor, levels: Tensor) -> Tensor:
    return torch.where(pixels >= 1 - levels.abs(), 1 - pixels, pixels)


def _autocontrast(pixels: Tensor, _levels: Tensor) -> Tensor:
    return autocontrast(pixels)


def _equalize(pixels: Tensor, _levels: Tensor) -> Tensor:
    return equalize(pixels)


def _away_from(plain: Tensor, pixels: Tensor, levels: Tensor) -> Tensor:
    """Return images farther from a plainer form of them, or nearer to it for levels below 0."""
    return (plain + (1 + LIGHT * levels) * (pixels - plain)).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    weights = torch.tensor(GREY, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)


MOVES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], None]] = {
    "rotate": _rotate, "shear x": _shear_x, "shear y": _shear_y, "translate x": _translate_x,
    "translate y": _translate_y,
}  # fmt: skip
COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brighten, "contrast": _contrast, "saturation": _saturate,
    "sharpness": _sharpen, "posterize": _posterize, "solarize": _solarize,
    "autocontrast": _autocontrast, "equalize": _equalize,
}  # fmt: skip
KINDS = ("nothing", *MOVES, *COLOURS)
