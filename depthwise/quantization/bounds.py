"""What sums of bytes may come to, so that kernels hold and round them as they are defined.

A sum is held in int32. On its way to a byte it is a float whose nearest whole number kernels take,
by instructions that have none beyond 2^31.
"""

import numpy as np

from depthwise.quantization.scheme import LEVELS

LARGEST_SUM = 2**31
ROUNDED = 2.0**30  # what kernels/bytes.h rounds lies within


def largest_sum(weight: np.ndarray, bias: np.ndarray) -> int:
    """Return what no sum of a layer exceeds, in whatever order it is added up.

    Args:
        weight: (K, ...), int8, of bytes as they are.
        bias: (K), with the input's zero point in it.
    """
    sizes = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1)
    return int((LEVELS * sizes + np.abs(bias.astype(np.int64))).max())


def moved_bias(weight: np.ndarray, bias: np.ndarray, zero: int) -> np.ndarray:
    """Return a layer's bias, int64, with the zero point in it: bytes are summed as they are."""
    return bias.astype(np.int64) - zero * weight.astype(np.int64).reshape(len(weight), -1).sum(1)


def holds_sums(weight: np.ndarray, bias: np.ndarray, zero: int) -> bool:
    """Tell whether int32 holds all sums of a layer, whose bias is without the zero point."""
    return largest_sum(weight, moved_bias(weight, bias, zero)) < LARGEST_SUM


def rounds_sums(
    weight: np.ndarray, bias: np.ndarray, zero: int, factor: np.ndarray, ratio: float = 0.0
) -> bool:
    """Tell whether kernels round all sums of a layer as defined, a residual at `ratio` added."""
    steps = largest_sum(weight, moved_bias(weight, bias, zero)) * float(np.abs(factor).max())
    return steps + (LEVELS + 1) * abs(ratio) < ROUNDED


def rounds(*ratios: float) -> bool:
    """Tell whether kernels round the sum of bytes at these ratios as defined."""
    return (LEVELS + 1) * sum(map(abs, ratios)) < ROUNDED
