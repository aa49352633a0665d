"""The arithmetic peak of the cores in use, measured beside whatever is compared with it."""

from collections.abc import Sequence
from functools import cache

from depthwise.hardware import Machine, calibrate, find
from depthwise.hardware.arithmetic import VECTORS, Arithmetic
from depthwise.hardware.probes import TILE_CHANNELS, Probes, ProductProbes, fma_rate
from depthwise.hardware.record import TOLERANCE
from depthwise.runtime.target import Target, find_target

STEPS = (
    500_000  # about 2 ms: longer than cores take to change their clocks back, shorter than a slice
)
TILE_STEPS = 100_000  # as long: 64 cycles each
REPEATS = 5


def measure_peak(
    threads: int = 1, target: Target | None = None, arithmetic: Arithmetic = VECTORS
) -> float:
    """Return the operations, 2 a multiply-add, that cores do in a second, `threads` at once.

    With what a `target` has, the widest where left out; of float32 unless another `arithmetic` is
    named. The best of a few loops: what disturbs a loop only slows it.
    """
    target = target or find_target("native")
    if arithmetic == VECTORS:
        probes = _probes(target)
        return max(fma_rate(probes, STEPS, threads) for _ in range(REPEATS))
    products = _product_probes(target, arithmetic)
    steps = TILE_STEPS if arithmetic in TILE_CHANNELS else STEPS
    return max(products.rate(steps, threads) for _ in range(REPEATS))


def known_machine(peaks: Sequence[float], threads: int) -> Machine | None:
    """Return the machine as it was calibrated, None where it never was.

    It is calibrated again where `peaks`, measured since on that many threads, are above its own.
    """
    here = find()
    above = here and max(peaks) > TOLERANCE * threads * 1e9 * here.gflops
    return calibrate() if above else here


@cache
def _probes(target: Target) -> Probes:
    return Probes(target, target.lanes)


@cache
def _product_probes(target: Target, arithmetic: Arithmetic) -> ProductProbes:
    return ProductProbes(target, arithmetic)
