"""A machine that was never measured, of round numbers, for tests of what is computed from one."""

from depthwise.hardware import Machine, Spread
from depthwise.hardware.record import Peak, Reading, Second


def spread(value: float) -> Spread:
    return Spread(best=value, median=value, worst=value)


MACHINE = Machine(
    cpu="Round Numbers 3000", features=("fma",), cores=2, target="x86-64-v3", compiler="cc 1.0",
    date="2026-01-01T00:00:00+00:00", rounds=18, caches=(32768, 1048576), cache_source="system",
    peaks=(Peak(lanes=4, gflops=spread(50)), Peak(lanes=8, gflops=spread(100))),
    readings=(
        Reading(level="L1", span=16384, gigabytes=spread(400)),
        Reading(level="L2", span=524288, gigabytes=spread(200)),
        Reading(level="memory", span=67108864, gigabytes=spread(10)),
    ),
    second=Second(arithmetic=spread(1.5), memory=spread(1.25), barrier=spread(80)),
)  # fmt: skip
