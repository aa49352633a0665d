"""Images that are kept in memory as one array of uint8."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Some images of an array.

    Attributes:
        where: What messages call the array.
        pixels: All its images, uint8: (N, H, W) or (N, H, W, 3).
        numbers: Which of them these are, in their order.
    """

    where: str
    pixels: np.ndarray
    numbers: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError for an array that holds no images."""
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or not (
            len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
        ):
            raise ValueError(
                f"{self.where} is an array of {self.pixels.dtype}, {shape}: images are accepted as "
                "uint8 of (N, H, W) or (N, H, W, 3)"
            )

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        """Return where an image lies, its number counted from 0."""
        return f"{self.where}, image {self.numbers[index]}"

    def read(self, index: int) -> np.ndarray:
        """Return an image's pixels."""
        return self.pixels[self.numbers[index]]

    def chosen(self, indices: np.ndarray) -> "ArrayImages":
        """Return some of them, in the order of their indices."""
        return ArrayImages(self.where, self.pixels, self.numbers[indices])
