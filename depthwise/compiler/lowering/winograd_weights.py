"""Weights as kernels/winograd.h reads them, and the size of its scratch."""

from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np

from depthwise.compiler.lowering.packing import Array, pack_conv, round_up

# The points beside 0 and infinity, each with both signs, as winograd_pair has them.
PAIRS = {
    4: (Fraction(1),),
    6: (Fraction(1, 2), Fraction(3, 2)),
    8: (Fraction(1, 2), Fraction(1), Fraction(2)),
    10: (Fraction(1, 2), Fraction(3, 4), Fraction(3, 2), Fraction(5, 2)),
}


@cache
def weight_transform(points: int, taps: int) -> tuple[Array, Array]:
    """Return G (points, taps) as whole numbers and what to divide each row by.

    Row i has a_i^r / product of (a_i - a_j) over the other finite points, so that G w are values of
    the polynomial w, weighed; the last row has its highest coefficient. Lavin & Gray,
    arXiv:1509.09308, with all denominators on the weights' side.
    """
    if points == 1:
        return np.ones((1, 1)), np.ones(1)
    finite = [Fraction(0), *(sign * a for a in PAIRS[points] for sign in (1, -1))]
    rows = [_values(a, [other for other in finite if other != a], taps) for a in finite]
    rows.append([Fraction(r == taps - 1) for r in range(taps)])
    divisors = [lcm(*(value.denominator for value in row)) for row in rows]
    scaled = zip(rows, divisors, strict=True)
    whole = [[float(value * divisor) for value in row] for row, divisor in scaled]
    return np.array(whole), np.array(divisors, float)


def _values(a: Fraction, others: list[Fraction], taps: int) -> list[Fraction]:
    weight = Fraction(1)
    for other in others:
        weight *= a - other
    return [a**r / weight for r in range(taps)]


def transform_weight(weight: Array, points: tuple[int, int]) -> Array:
    """Return (K, C, R, S) as (K, C, *points), in float64 with a single division each."""
    R, S = weight.shape[2:]
    (down, below), (across, right) = weight_transform(points[0], R), weight_transform(points[1], S)
    flat = weight.astype(np.float64).reshape(
        -1, R * S
    )  # one product: einsum took up to 7 times as long
    whole = (flat @ np.kron(down, across).T).reshape(*weight.shape[:2], *points)
    return whole / np.outer(below, right)


def pack_winograd(weight: Array, points: tuple[int, int], lanes: int, tile_vectors: int) -> Array:
    """Return (K, C, R, S) as f32_winograd reads it, flat: [block][point][c][k].

    Transformed in float64, so that each weight is rounded once.
    """
    outs = round_up(weight.shape[0], lanes)
    full = np.pad(weight, ((0, outs - weight.shape[0]), (0, 0), (0, 0), (0, 0)))
    return pack_conv(transform_weight(full, points), 1, lanes, tile_vectors)


def scratch_floats(
    points: tuple[int, int], channels: int, lanes: int, tile_vectors: int, batch: int
) -> int:
    """Return the floats of f32_winograd's scratch: V and M of `batch` tiles at all points."""

    def apart(vectors: int) -> int:  # an odd number of vectors: winograd_apart
        return (vectors | 1) * lanes

    v = apart(batch * (round_up(channels, lanes) // lanes))
    return points[0] * points[1] * (v + apart(batch * tile_vectors))
