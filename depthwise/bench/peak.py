"""The arithmetic peak of the cores in use, measured beside whatever is compared with it."""

from functools import cache

from depthwise.compiler.target import find_target
from depthwise.machine.probes import Probes, fma_rate

STEPS = (
    500_000  # about 2 ms: longer than cores take to change their clocks back, shorter than a slice
)
REPEATS = 5


def measure_peak(threads: int = 1) -> float:
    """Return the operations, 2 a multiply-add, that cores do in a second, `threads` at once.

    The best of a few loops: what disturbs a loop only slows it.
    """
    probes = _probes()
    return max(fma_rate(probes, STEPS, threads) for _ in range(REPEATS))


@cache
def _probes() -> Probes:
    target = find_target("native")
    return Probes(target, target.lanes)
