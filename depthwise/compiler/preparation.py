"""How raw images become what a network was trained on, as a part of the compiled library."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import numpy as np

from depthwise.graph import Shape
from depthwise.graph.dtypes import FLOAT32, UINT8

Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Preparation:
    """Let a library take raw images x and compute net((x - mean) / std), channel by channel.

    Attributes:
        mean: One for each channel, of images in [0, 1], whatever their type.
        std: Likewise.
        dtype: "float32" for images in [0, 1], or "uint8" for 0 to 255, which are divided by 255.
        layout: "nchw" as in PyTorch, or "nhwc" with the channels of a pixel side by side.

    Raises:
        ValueError: Numbers or names that make no sense.
    """

    mean: Sequence[float]
    std: Sequence[float]
    dtype: str = "float32"
    layout: Layout = "nchw"

    def __post_init__(self):
        mean, std = (tuple(map(float, values)) for values in (self.mean, self.std))
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if not mean or len(mean) != len(std):
            raise ValueError(
                f"preparation: {len(mean)} means and {len(std)} stds: give one of each a channel"
            )
        if not all(map(isfinite, mean)):
            raise ValueError(f"preparation: mean={mean}: means are finite numbers")
        if not all(isfinite(value) and value > 0 for value in std):
            raise ValueError(
                f"preparation: std={std}: each is divided by, and must be finite and above 0"
            )
        for name, value, known in (
            ("dtype", self.dtype, (FLOAT32.name, UINT8.name)),
            ("layout", self.layout, get_args(Layout)),
        ):
            if value not in known:
                raise ValueError(f"preparation: {name}={value!r}: take {' or '.join(known)}")

    @property
    def largest(self) -> int:
        """The number that white has in the images: 1, or 255."""
        return 255 if self.dtype == "uint8" else 1

    def raw_shape(self, shape: Shape) -> Shape:
        """Return the shape of the images that become an input of (N, C, H, W)."""
        n, c, h, w = shape
        return (n, h, w, c) if self.layout == "nhwc" else shape

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Return what the network takes, (N, C, H, W) in float32, computed in double precision."""
        planes = images.transpose(0, 3, 1, 2) if self.layout == "nhwc" else images
        mean, std = (np.reshape(values, (1, -1, 1, 1)) for values in (self.mean, self.std))
        return np.ascontiguousarray((planes / self.largest - mean) / std, np.float32)

    def draw(self, random: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return images of `shape` whose every pixel is drawn at random."""
        if self.dtype == "uint8":
            return random.integers(0, 256, shape, np.uint8)
        return random.random(shape, np.float32)
