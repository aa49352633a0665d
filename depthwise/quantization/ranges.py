"""Ranges that values are held in, by what calibration images show of them.

`minmax` cuts nothing off; `percentile` the outermost of 10,000; `mse` what makes the mean square
of the rounding error least (measured behind the function that reads the value); `entropy` what
makes the divergence of the rounded distribution least (Migacz, GTC 2017).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.interpret import evaluate
from depthwise.quantization.placement import CLAMPS, Placement, clamp_ends
from depthwise.quantization.scheme import LEVELS, Affine

OUTERMOST = 0.01  # per cent that `percentile` cuts off on each side
SHARES = np.linspace(1.0, 0.3, 36)  # of the range that are tried
BINS = 2048
TINY = 1e-4  # probability of what the rounded distribution cannot hold
Range = tuple[float, float]

# Where functions bend: what lies outside gives the same, or less than a step of uint8 apart.
BENDING: Mapping[str, Range] = {
    "hard_swish": (-3.0, inf), "hard_sigmoid": (-3.0, 3.0),
    "sigmoid": (-8.0, 8.0), "tanh": (-4.5, 4.5), "silu": (-12.0, inf), "gelu": (-5.0, inf),
}  # fmt: skip
BOUNDED: Mapping[str, Range] = {
    "hard_sigmoid": (0.0, 1.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Observation:
    """What calibration images show of a value.

    Attributes:
        low, high: The lowest and highest number.
        sample: Some of the numbers, float32.
        channels: The largest magnitude in each channel; empty where there are none.
        function: The function that alone reads it, if it is one.
    """

    low: float
    high: float
    sample: np.ndarray
    channels: np.ndarray
    function: ops.Activation | None = None

    def cut(self, low: float, high: float) -> Range:
        """Return a range without what the function that reads the value does not tell apart."""
        if self.function is None:
            return low, high
        if self.function.function in CLAMPS:
            ends = clamp_ends(self.function)
        else:
            ends = BENDING.get(self.function.function, (-inf, inf))
        return max(low, ends[0]), min(high, ends[1])

    def read(self, x: np.ndarray) -> np.ndarray:
        """Return numbers as the network goes on with them."""
        return evaluate(self.function, x) if self.function else x


Observer = Callable[[Observation], Range]


def _minmax(seen: Observation) -> Range:
    return seen.cut(seen.low, seen.high)


def _percentile(seen: Observation) -> Range:
    low, high = np.percentile(seen.sample, (OUTERMOST, 100 - OUTERMOST))
    return seen.cut(float(low), float(high))


def _mse(seen: Observation) -> Range:
    wanted = seen.read(seen.sample)

    def loss(low: float, high: float) -> float:
        rounded = Affine.of_range(low, high).rounded(seen.sample)
        return float(np.square(seen.read(rounded) - wanted, dtype=np.float64).mean())

    return _search(seen, loss)


def _entropy(seen: Observation) -> Range:
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    known = seen.sample[seen.sample != 0]  # zeros, of which a relu makes half, are held exactly
    counts, edges = np.histogram(known, BINS, (low, high if high > low else low + 1))
    middles = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)

    def loss(low: float, high: float) -> float:
        affine = Affine.of_range(low, high)
        place = affine.quantized(middles)
        inside = (middles >= affine.low) & (middles <= affine.high) & (counts > 0)
        there = np.bincount(place, np.where(inside, counts, 0), LEVELS + 1)
        bins = np.bincount(place, inside, LEVELS + 1)
        spread = np.where(inside, (there / np.maximum(bins, 1))[place], 0)
        cut = counts.sum() - counts[inside].sum()
        p, q = counts[inside] / max(counts.sum(), 1), spread[inside] / max(counts.sum(), 1)
        share = cut / max(counts.sum(), 1)  # what is cut off is found at the ends, where none was
        return float((p * np.log(p / np.maximum(q, TINY))).sum()) + share * float(np.log(1 / TINY))

    return _search(seen, loss)


def _search(seen: Observation, loss: Callable[[float, float], float]) -> Range:
    """Return the range of least loss: first its upper end is moved, then the lower one."""
    low, high = seen.cut(seen.low, seen.high)
    if high > 0:
        high = min((high * share for share in SHARES), key=lambda end: loss(low, end))
    if low < 0:
        low = min((low * share for share in SHARES), key=lambda end: loss(end, high))
    return low, high


OBSERVERS: Mapping[str, Observer] = {
    "minmax": _minmax, "percentile": _percentile, "mse": _mse, "entropy": _entropy,
}  # fmt: skip


def choose_ranges(
    place: Placement, seen: Mapping[str, Observation], observer: str
) -> dict[str, Affine]:
    """Return how each value of a network is held, by one of `OBSERVERS`.

    What moves numbers and does not change them keeps the scale of what it reads.
    """
    nodes = {node.name: node for node in place.graph}
    found: dict[str, Affine] = {}
    for name in place.quantized:
        node = nodes.get(name)
        source = place.moved_from(name)
        if source in found:
            found[name] = found[source]
        elif node and isinstance(node.op, ops.Activation) and node.op.function in BOUNDED:
            low, high = BOUNDED[node.op.function]
            found[name] = Affine.of_range(max(low, seen[name].low), min(high, seen[name].high))
        else:
            found[name] = Affine.of_range(*OBSERVERS[observer](seen[name]))
    return found


def only_function(readers: list[Node]) -> ops.Activation | None:
    """Return the function that alone reads a value, None where others do."""
    if len(readers) != 1 or not isinstance(readers[0].op, ops.Activation):
        return None
    return readers[0].op
