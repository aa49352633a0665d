"""Sums in float16, as CPUs that compute in it make them: each product and sum rounded once.

A double holds the product of two halves exactly, and what is added to it beside it: or one of the
two is so small that it does not decide how the other is rounded.
"""

from itertools import product

import numpy as np

from depthwise.graph.dtypes import FLOAT16
from depthwise.graph.interpret import Array

AT_ONCE = 1 << 16  # sums that are computed together: they stay in the second cache


def sum_in_halves(pixels: Array, taps: Array, bias: Array, depth: int) -> Array:
    """Return (P, K) from pixels (P, T, C) and weights (T, C, K), and a bias (K).

    Even and odd channels of a step of `depth` are summed up apart, each from zero; both are added
    up, rounded, and that is added in float32 to what the steps before have left.
    """
    channels, weights = pixels.shape[2], taps.astype(np.float64)
    result = np.empty((len(pixels), taps.shape[2]), np.float32)
    count = max(1, AT_ONCE // taps.shape[2])
    for first in range(0, len(pixels), count):
        some = pixels[first : first + count].transpose(1, 2, 0).astype(np.float64)[..., None]
        acc = result[first : first + count]
        acc[:] = bias
        for tap, start in product(range(len(taps)), range(0, channels, depth)):
            end = min(start + depth, channels)
            even, odd = np.zeros(acc.shape), np.zeros(acc.shape)
            for c in range(start, end):
                sums = odd if c % 2 else even
                sums += some[tap, c] * weights[tap, c]
                sums[:] = FLOAT16.round(sums)
            acc += FLOAT16.round(even + odd)
    return result


def depthwise_in_halves(seen: Array, weight: Array, bias: Array) -> Array:
    """Return the sums of windows (N, C, H, W, R, S), from the rounded bias on, tap by tap."""
    sums = np.empty(seen.shape[:4])
    sums[:] = FLOAT16.round(bias).reshape(1, -1, 1, 1)
    for r, s in product(range(seen.shape[4]), range(seen.shape[5])):
        sums += seen[..., r, s] * weight[:, 0, r, s].reshape(1, -1, 1, 1).astype(np.float64)
        sums[:] = FLOAT16.round(sums)
    return sums.astype(np.float32)
