"""The numbers that decide a plan, from the core that it is made for.

What a formula has besides the core's own figures was fitted on a Zen 5, whose values are named.
"""

from dataclasses import dataclass
from math import log2

from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.core import Core
from depthwise.hardware.known_cores import generic_core
from depthwise.runtime.target import Target


@dataclass(frozen=True)
class Constants:
    """What a plan takes from a target's core: bytes, nanoseconds, and costs in multiply-adds.

    Attributes:
        target: The target.
        core: The core.
        near: Weights of a layer, in bytes, that stay in the first cache. Zen 5: 32 KB.
        large: Weights that stay in the second while an image passes by. 256 KB.
        ahead: Most of a layer's successors that is fetched while it computes, for these push other
            data out. 256 KB.
        cold: What is larger leaves the second cache before it is read again. 512 KB.
        windows: What the windows of a chain take of it at most. 640 KB.
        chain: What the weights of a chain take at most, which every band reads. 256 KB.
        fetch: Multiply-adds at full speed in the time that a weight takes from beyond the second
            cache. 6 with vectors of 16 floats; narrower ones wait less.
        weight: How long a byte of weights takes from beyond the second cache. 1/84 ns.
        meeting: How long two threads take to meet. 400 ns.
        foreign: How long a byte takes that another core has written. 1/8 ns.
        element: How long an element takes that a step without multiply-adds reads or writes.
            1/10 ns.
        multiply_add: How long one takes at full speed. 1/128 ns with vectors of 16 floats.
    """

    target: Target
    core: Core
    near: int
    large: int
    ahead: int
    cold: int
    windows: int
    chain: int
    fetch: float
    weight: float
    meeting: float
    foreign: float
    element: float
    multiply_add: float

    @property
    def lanes(self) -> int:
        """Floats of a vector."""
        return self.target.lanes

    def meeting_of(self, threads: int) -> float:
        """Return how long some threads take to meet: twice as many half as long again."""
        return self.meeting * (1 + log2(threads)) / 2 if threads > 1 else 0.0


def constants_of(target: Target, core: Core | None = None) -> Constants:
    """Return the constants of a target's core, the generic one where none is given."""
    core = core or generic_core(target)
    caches, rate = core.caches, core.arithmetic.rate(target.lanes)
    weight = 1.5 / core.reads.l3  # kernels get two thirds of what the best loop reads
    fetch = round(4 * FLOAT32.bytes * rate * weight) / 4  # to quarters: no rate is known better
    return Constants(
        target=target,
        core=core,
        near=caches.l1 * 2 // 3,
        large=caches.l2 // 4,
        ahead=caches.l2 // 4,
        cold=caches.l2 // 2,
        windows=caches.l2 * 5 // 8,
        chain=caches.l2 // 4,
        fetch=fetch,
        weight=weight,
        meeting=core.neighbours.meeting,
        foreign=1 / core.neighbours.rate,
        element=0.8 / core.arithmetic.lane,  # most of a vector instruction each
        multiply_add=1 / rate,
    )
