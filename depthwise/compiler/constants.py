"""The numbers that decide a plan, from the core that it is made for.

What a formula has besides the core's own figures was fitted on a Zen 5, whose values are named.
"""

from dataclasses import dataclass
from math import inf, log2

from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.core import Core
from depthwise.hardware.known_cores import generic_core
from depthwise.runtime.target import Target

# Bytes of a second cache that are made use of: on a Xeon with 2 MB, MobileNetV2 and V3-Large become
# 3 and 5 % slower where all sizes are twice as large.
ENOUGH = 2**20
LINE = 64  # bytes of a cache line
SLOW = 13.0  # multiply-adds of vectors in the time of a line: 4 on a Zen 5, 18 on Intel's servers


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
        slow: Whether the third cache is so slow that weights have to be asked for line by line, all
            along a layer, and that images leave the second cache too late. False.
        cold: What is larger leaves the second cache before it is read again. 512 KB.
        windows: What the windows of a chain take of it at most. 640 KB.
        chain: What the weights of a chain take at most, which every band reads. 256 KB.
        fetch: Multiply-adds at full speed in the time that a weight takes from beyond the second
            cache. 6 with vectors of 16 floats; narrower ones wait less.
        weight: How long a byte of weights takes from beyond the second cache. 1/85 ns.
        sliced: Bytes of an image from a convolution to a depthwise one; larger ones are done in
            slices of channels. Infinite.
        together: Bytes of images that stay in the second cache while a layer passes over them.
            640 KB.
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
    slow: bool
    cold: int
    windows: int
    chain: int
    fetch: float
    weight: float
    sliced: float
    together: int
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
    l2, rate = min(core.caches.l2, ENOUGH), core.arithmetic.rate(target.lanes)
    # A weight takes 1/32 ns wherever it is, and half of what the best loop needs to read it, for
    # the core computes meanwhile: fitted on a Zen 5 and on a Xeon, where 12 did better than 6 and
    # 26. To quarters, for no rate is known better.
    nanoseconds = 1 / 32 + FLOAT32.bytes / 2 / core.reads.l3
    fetch = round(4 * rate * nanoseconds) / 4
    slow = core.caches.l3 > 0 and LINE / core.reads.l3 * rate / target.lanes > SLOW
    return Constants(
        target=target,
        core=core,
        near=core.caches.l1 * 2 // 3,
        large=l2 // 4,
        ahead=core.caches.l2 // 4,
        slow=slow,
        cold=l2 // (4 if slow else 2),
        windows=l2 * 7 // 8 if slow else l2 * 5 // 8,
        chain=l2 // 4,
        fetch=fetch,
        weight=nanoseconds / FLOAT32.bytes,
        sliced=core.caches.l1 if slow else inf,
        together=core.caches.l2 * 5 // 8,
        meeting=core.neighbours.meeting,
        foreign=1 / core.neighbours.rate,
        element=0.8 / core.arithmetic.lane,  # most of a vector instruction each
        multiply_add=1 / rate,
    )
