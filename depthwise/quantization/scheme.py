"""What numbers become in eight bits: scales, zero points, and rounding.

Activations: uint8, q = clamp(rint(x / scale) + zero, 0, 255), one scale for a value.
Weights: int8 in [-127, 127], q = clamp(rint(w / scale[k])), one scale for each output channel.
Biases: int32 at the scale of the sums, scale of the input x scale[k].

Jacob et al., arXiv:1712.05877, section 2.1; Krishnamoorthi, arXiv:1806.08342, section 2.
"""

from dataclasses import dataclass

import numpy as np

from depthwise.graph import ops
from depthwise.graph.interpret import evaluate

LEVELS = 255  # steps between the lowest number and the highest
WEIGHT_LIMIT = 127  # -128 is left out, so that a weight's negative has a number as well
SUM_LIMIT = 2**31 - 1
BIAS_LIMIT = 2**30  # so that a sum of products has the rest of int32
SMALLEST = 2.0**-40  # of scales: a layer of zeros has one, too


@dataclass(frozen=True)
class Affine:
    """How a value's real numbers are held in uint8: x = (q - zero) · scale.

    Attributes:
        scale: The step between two numbers; one that float32 has.
        zero: The integer that stands for 0.
    """

    scale: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Affine":
        """Return what holds the numbers from `low` to `high`, and zero exactly.

        Of a value that was never anything but zero, what it may be is not known: 0 to 1 is held.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            high = 1.0
        scale = float(np.float32(max((high - low) / LEVELS, SMALLEST)))
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)))

    @property
    def low(self) -> float:
        """The lowest number that is held."""
        return -self.zero * self.scale

    @property
    def high(self) -> float:
        """The highest number that is held."""
        return (LEVELS - self.zero) * self.scale

    def quantized(self, x: np.ndarray) -> np.ndarray:
        """Return real numbers as uint8, ties to even, as `ops.Quantize` does."""
        scale, zero = np.float32(self.scale), np.uint8(self.zero)
        return evaluate(ops.Quantize("uint8"), np.asarray(x, np.float32), scale, zero)

    def real(self, q: np.ndarray) -> np.ndarray:
        """Return what uint8 stand for, in float32."""
        return (q.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Return real numbers as they are after having been held in uint8."""
        return self.real(self.quantized(x))


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """A layer's weights in int8.

    Attributes:
        integers: int8, of the weight's shape; the first axis is the output channels.
        scales: One for each output channel, float32.
        bias: The bias in real numbers, float64, of which `sums_bias` makes integers.
    """

    integers: np.ndarray
    scales: np.ndarray
    bias: np.ndarray

    @classmethod
    def rounded(cls, weight: np.ndarray, bias: np.ndarray) -> "LayerWeights":
        """Return weights rounded to the nearest, each channel's largest being the last number."""
        scales = weight_scales(np.abs(weight.reshape(len(weight), -1)).max(1))
        return cls(round_weights(weight, scales), scales, bias.astype(np.float64))

    def reading(self, source: float) -> "LayerWeights":
        """Return the same with scales at which int32 holds the bias, where the input has a scale.

        A channel whose weights are next to nothing takes larger steps: its bias is all that it
        gives, and would be cut off.
        """
        least = np.abs(self.bias) / (BIAS_LIMIT * source)
        if (least <= self.scales).all():
            return self
        scales = np.maximum(self.scales, least).astype(np.float32)
        smaller = along_outputs(self.scales / scales, self.integers.ndim)
        return LayerWeights(np.rint(self.integers * smaller).astype(np.int8), scales, self.bias)

    @property
    def real(self) -> np.ndarray:
        """The weights that the integers stand for, float32."""
        return self.integers.astype(np.float32) * along_outputs(self.scales, self.integers.ndim)


def weight_scales(largest: np.ndarray) -> np.ndarray:
    """Return the scales at which these magnitudes, one for each channel, are the last number."""
    return np.maximum(largest / WEIGHT_LIMIT, SMALLEST).astype(np.float32)


def round_weights(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return weights (K, ...) as int8 at one scale a channel, to the nearest."""
    whole = np.rint(weight / along_outputs(scales.astype(np.float64), weight.ndim))
    return whole.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def along_outputs(numbers: np.ndarray, rank: int) -> np.ndarray:
    """Return one number for each output channel so that it broadcasts over weights (K, ...)."""
    return numbers.reshape(-1, *(1,) * (rank - 1))


def sums_scale(source: float, scales: np.ndarray) -> np.ndarray:
    """Return the scale of a layer's sums, one a channel, float32: source x scales."""
    return (np.float64(np.float32(source)) * scales.astype(np.float64)).astype(np.float32)


def sums_bias(bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return a bias as int32 at the scale of the sums, held inside what int32 holds."""
    whole = np.rint(bias / scale.astype(np.float64))
    return whole.clip(-SUM_LIMIT, SUM_LIMIT).astype(np.int32)
