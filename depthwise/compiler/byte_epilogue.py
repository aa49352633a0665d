"""How a sum of products of bytes becomes a byte again: what an epilogue is to whole numbers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ByteEpilogue:
    """clamp(round(acc · scale [+ (sum - sum_zero) · sum_scale]) + zero, low, high), in float32.

    The scale is one for each output channel and stands beside. kernels/bytes.h has the C.

    Attributes:
        zero: The byte that stands for 0 in the output.
        low: The least byte of the output: that of 0 after a ReLU.
        high: The largest, likewise.
        sum_zero: The byte that stands for 0 in what is added.
        sum_scale: What a step of that is in steps of the output; 0 where nothing is added.
    """

    zero: int = 0
    low: int = 0
    high: int = 255
    sum_zero: int = 0
    sum_scale: float = 0.0

    def __post_init__(self):
        assert 0 <= self.low <= self.high <= 255, self
        assert 0 <= self.zero <= 255, self
        assert 0 <= self.sum_zero <= 255, self

    @property
    def add(self) -> bool:
        """Whether something is added."""
        return self.sum_scale != 0

    def apply(self, acc: np.ndarray, scale: np.ndarray, other: np.ndarray | None) -> np.ndarray:
        """Return the bytes of sums in int32, with scales in float32 that broadcast to them."""
        value = acc.astype(np.float32) * scale
        if self.add:
            assert other is not None
            steps = (other.astype(np.int32) - self.sum_zero).astype(np.float32)
            value += steps * np.float32(self.sum_scale)
        np.rint(value, out=value)
        value += np.float32(self.zero)
        return value.clip(self.low, self.high).astype(np.uint8)

    def in_c(self) -> str:
        """Return the `struct requantize` in C."""
        scale = f"{float(np.float32(self.sum_scale))!r}f"
        return (
            f"{{.zero = {self.zero}, .low = {self.low}, .high = {self.high}, "
            f".add = {int(self.add)}, .sum_zero = {self.sum_zero}, .sum_scale = {scale}}}"
        )
