"""This machine, measured once: the rounds, and the file that keeps them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import ValidationError

from depthwise.cores import usable_cores
from depthwise.files.cache import cache_directory, keep_text
from depthwise.hardware.arithmetic import Arithmetic, narrow_arithmetic
from depthwise.hardware.caches import (
    SWEEP,
    caches_in_sweep,
    shares_held,
    sizes_held,
    system_caches,
)
from depthwise.hardware.passes import Trial, take_passes
from depthwise.hardware.probes import Probes, ProductProbes, fma_rate
from depthwise.hardware.record import (
    LEVELS,
    CacheShare,
    Level,
    Machine,
    NarrowPeak,
    Peak,
    Reading,
    Second,
    Spread,
)
from depthwise.runtime.target import Target, cpu_features, cpu_name, find_target
from depthwise.toolchain.build import find_compiler

SECONDS = 0.01  # that a probe takes: much longer than a clock's tick, shorter than a time slice
MEETINGS = 2000
# Bytes that are read from L3, at most: a virtual machine may report the whole of a shared cache.
NEAR = 8 * 2**20
MEMORY = 64 * 2**20  # bytes that are read from memory, at least
FAR = 512 * 2**20  # bytes that come from memory whatever L3 is
PAGE = 4096
WIDTHS = (4, 8, 16)  # floats a vector
NO_NARROW: Mapping[Arithmetic, "NarrowProbes"] = MappingProxyType({})


def calibrate() -> Machine:
    """Measure this machine in a few seconds, and keep what was found in the cache.

    Returns:
        The machine. `disturbed` says where other programs ran meanwhile: then it was not kept, and
        an earlier calibration stays.

    Raises:
        BuildError: There is no C compiler, or the cache cannot be written.
        ValueError: This CPU is none of our targets.
    """
    target = find_target("native")
    probes = {n: Probes(target, n) for n in WIDTHS if n <= target.lanes}
    machine = measure(probes, target, narrow_probes())
    if not machine.disturbed:
        keep(machine)
    return machine


@dataclass(frozen=True)
class NarrowProbes:
    """What measures the multiply-adds of a narrow type, and the target that it was compiled for."""

    probes: ProductProbes
    target: str


def narrow_probes() -> dict[Arithmetic, NarrowProbes]:
    """Return what measures each narrow type that this machine multiplies, as far as it may."""
    found: dict[Arithmetic, NarrowProbes] = {
        name: NarrowProbes(ProductProbes(target, name), target.name)
        for name, target in narrow_arithmetic().items()
    }
    return {name: each for name, each in found.items() if each.probes.allowed}


def keep(machine: Machine) -> None:
    """Write what is known of this machine to the cache. Raises BuildError where that fails."""
    assert not machine.disturbed
    keep_text(machine_path(), machine.model_dump_json(indent=2) + "\n")


def find() -> Machine | None:
    """Return what `calibrate` kept of this machine; None where there is nothing we can read."""
    path = machine_path()
    try:
        return Machine.model_validate_json(path.read_bytes()) if path.is_file() else None
    except (ValidationError, OSError):  # of another version, cut short, or not to be read
        return None


def machine_path() -> Path:
    """Return where the cache keeps this machine: one file a CPU model and its features."""
    key = "\n".join([cpu_name(), *sorted(cpu_features())])
    return cache_directory() / "machines" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def measure(
    probes: dict[int, Probes], target: Target, narrow: Mapping[Arithmetic, NarrowProbes] = NO_NARROW
) -> Machine:
    """Run all probes in rounds, so that what is compared is measured in the same minute.

    `probes` has one for each width of vector, `narrow` one for each narrow type. Passes of rounds
    are made until two that nothing disturbed agree, or until there were enough of them.
    """
    widest = probes[max(probes)]
    caches, source = system_caches(), "system"
    shared: tuple[CacheShare, ...] = ()
    if not caches:
        caches, source = sweep(widest), "sweep"
    elif len(caches) == len(LEVELS) - 1:
        shared = share_cache(widest, caches)
        caches = (*caches[:-1], max(sizes_held(shared)))
    cores = usable_cores()
    alone = {f"fma {lanes}": _arithmetic(each, 1) for lanes, each in probes.items()}
    alone |= {name: _products(each.probes) for name, each in narrow.items()}
    spans = spans_of_levels(caches)
    alone |= {f"read {level}": _reading(widest, size, 1) for level, size in spans.items()}
    together = _two_threads(widest, spans["memory"]) if cores > 1 else {}
    passes = take_passes(alone, together)
    found = passes.values
    return Machine.model_validate(
        {
            "cpu": cpu_name(), "features": sorted(cpu_features()), "cores": cores,
            "target": target.name, "compiler": find_compiler().identity,
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": passes.rounds,
            "apart": passes.apart, "disturbed": passes.disturbed,
            "caches": caches, "cache_source": source, "shared": shared,
            "peaks": [Peak(lanes=lanes, gflops=Spread.of_rates(found[f"fma {lanes}"]))
                      for lanes in probes],
            "narrow": [
                NarrowPeak(arithmetic=name, target=each.target,
                           gflops=Spread.of_rates(found[name]))
                for name, each in narrow.items()
            ],
            "readings": [
                Reading(level=level, span=size, gigabytes=Spread.of_rates(found[f"read {level}"]))
                for level, size in spans.items()
            ],
            "second": _second(found, widest.lanes) if "barrier" in found else None,
        }
    )  # fmt: skip


def _two_threads(probes: Probes, size: int) -> dict[str, Trial]:
    return {
        "fma twice": _arithmetic(probes, 2),
        "memory twice": _reading(probes, size, 2),
        "barrier": lambda: probes.barrier(MEETINGS, 2) / MEETINGS * 1e9,
    }


def spans_of_levels(caches: tuple[int, ...]) -> dict[Level, int]:
    """Return the bytes to read from each level: half of it, but clearly more than the level within.

    Of L3, which cores share, a quarter, but no more than NEAR where that is beyond L2: of the 480
    MiB that a virtual machine was given, 120 MiB came no faster than from memory.
    """
    spans: dict[Level, int] = {"L1": caches[0] // 2} if caches else {}
    for level, inner, own in zip(LEVELS[1:3], caches, caches[1:], strict=False):
        share = own // 2 if level == "L2" else min(own // 4, NEAR)
        spans[level] = min(max(share, 2 * inner), own)
    return {**spans, "memory": max(MEMORY, 4 * max(caches, default=0))}


def sweep(probes: Probes) -> tuple[int, ...]:
    """Return the sizes of the caches, from the rates at which longer and longer spans are read."""
    rates = []
    for size in SWEEP:
        trial = _reading(probes, size, 1)
        rates.append(max(trial() for _ in range(3)))
    return caches_in_sweep(SWEEP, rates)


def share_cache(probes: Probes, caches: tuple[int, ...]) -> tuple[CacheShare, ...]:
    """Return how much one core gets of L3, for spans up to what the system names."""
    near, named = spans_of_levels(caches)["L3"], caches[-1]
    steps = 1 + max(0, round(2 * np.log2(named / near)))
    sizes = [int(size) for size in np.geomspace(near, named, steps)]
    memory = probes.span(max(named, min(4 * named, FAR)))
    rates = [_best(probes, memory[: size // PAGE * PAGE]) for size in sizes]
    shares = zip(sizes, shares_held(rates, _best(probes, memory)), strict=True)
    return tuple(CacheShare(size=size, held=held) for size, held in shares)


def _best(probes: Probes, span: np.ndarray) -> float:
    """Return the best rate of three at which a span is read over and over."""
    passes = _times_in(SECONDS, lambda times: probes.read([span], times))
    return max(passes * span.size / probes.read([span], passes) for _ in range(3))


def _arithmetic(probes: Probes, threads: int) -> Trial:
    """Return a trial: the GFLOP/s of all threads together."""
    steps = _times_in(SECONDS, lambda times: probes.fma(times, 1))
    return lambda: fma_rate(probes, steps, threads) / 1e9


def _products(probes: ProductProbes) -> Trial:
    """Return a trial: the GFLOP/s of one thread, or 1e9 integer operations a second."""
    steps = _times_in(SECONDS, lambda times: probes.run(times, 1))
    return lambda: probes.rate(steps) / 1e9


def _reading(probes: Probes, size: int, threads: int) -> Trial:
    """Return a trial: the GB/s of all threads together, each over memory of its own."""
    spans: list[np.ndarray] = [probes.span(size) for _ in range(threads)]
    passes = _times_in(SECONDS, lambda times: probes.read(spans[:1], times))
    total = sum(span.size for span in spans) * passes
    return lambda: total / probes.read(spans, passes) / 1e9


def _times_in(seconds: float, run: Callable[[int], float]) -> int:
    """Return how often a thing must be done to take about this many seconds, at least once."""
    times = 1
    while (taken := run(times)) < seconds / 4:
        times *= 4
    return max(1, round(times * seconds / taken))


def _second(found: Mapping[str, list[float]], lanes: int) -> Second:
    """Compare two threads with one, round by round."""

    def ratios(two: str, one: str) -> Spread:
        pairs = zip(found[two], found[one], strict=True)
        return Spread.of_rates([both / alone for both, alone in pairs])

    return Second(
        arithmetic=ratios("fma twice", f"fma {lanes}"),
        memory=ratios("memory twice", "read memory"),
        barrier=Spread.of_times(found["barrier"]),
    )
