"""This machine, measured once: the rounds, and the file that keeps them."""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from depthwise.compiler.build import cache_directory, find_compiler, keep_text
from depthwise.compiler.progress import track
from depthwise.compiler.target import Target, cpu_features, cpu_name, find_target
from depthwise.machine.caches import SWEEP, caches_in_sweep, system_caches
from depthwise.machine.probes import Probes, fma_rate
from depthwise.machine.record import LEVELS, Level, Machine, Peak, Reading, Second, Spread

ROUNDS = 9
SECONDS = 0.01  # that a probe takes: much longer than a clock's tick, shorter than a time slice
MEETINGS = 2000
MEMORY = 64 * 2**20  # bytes that are read from memory, at least
WIDTHS = (4, 8, 16)  # floats a vector


def calibrate() -> Machine:
    """Measure this machine, keep what was found in the cache, and return it. Takes seconds.

    Raises BuildError where there is no C compiler or the cache cannot be written, ValueError where
    this CPU is none of our targets.
    """
    target = find_target("native")
    machine = measure({n: Probes(target, n) for n in WIDTHS if n <= target.lanes}, target)
    keep(machine)
    return machine


def keep(machine: Machine) -> None:
    """Write what is known of this machine to the cache. Raises BuildError where that fails."""
    keep_text(machine_path(), machine.model_dump_json(indent=2) + "\n")


def find() -> Machine | None:
    """Return what `calibrate` kept of this machine; None where there is nothing we can read."""
    path = machine_path()
    try:
        return Machine.model_validate_json(path.read_bytes()) if path.is_file() else None
    except ValidationError:  # of another version
        return None


def machine_path() -> Path:
    """Return where the cache keeps this machine: one file a CPU model and its features."""
    key = "\n".join([cpu_name(), *sorted(cpu_features())])
    return cache_directory() / "machines" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def measure(probes: dict[int, Probes], target: Target) -> Machine:
    """Run all probes in turn, round after round: what is compared shares its minute.

    `probes` has one for each width of vector.
    """
    widest = probes[max(probes)]
    caches, source = system_caches(), "system"
    if not caches:
        caches, source = sweep(widest), "sweep"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    trials = {f"fma {lanes}": _arithmetic(each, 1) for lanes, each in probes.items()}
    spans = spans_of_levels(caches)
    trials |= {f"read {level}": _reading(widest, size, 1) for level, size in spans.items()}
    if (cores or 1) > 1:
        trials |= {
            "fma twice": _arithmetic(widest, 2),
            "memory twice": _reading(widest, spans["memory"], 2),
            "barrier": lambda: widest.barrier(MEETINGS, 2) / MEETINGS * 1e9,
        }
    found = run_rounds(trials)
    return Machine.model_validate(
        {
            "cpu": cpu_name(), "features": sorted(cpu_features()), "cores": cores or 1,
            "target": target.name, "compiler": find_compiler().identity,
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": ROUNDS,
            "caches": caches, "cache_source": source,
            "peaks": [Peak(lanes=lanes, gflops=Spread.of_rates(found[f"fma {lanes}"]))
                      for lanes in probes],
            "readings": [
                Reading(level=level, span=size, gigabytes=Spread.of_rates(found[f"read {level}"]))
                for level, size in spans.items()
            ],
            "second": _second(found, widest.lanes) if "barrier" in found else None,
        }
    )  # fmt: skip


def run_rounds(trials: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return what each trial returned in each round; the first round warms up and is left out."""
    times = track(range(ROUNDS + 1), "measuring this machine", pace="machine")
    rounds = [{name: trial() for name, trial in trials.items()} for _ in times]
    return {name: [found[name] for found in rounds[1:]] for name in trials}


def spans_of_levels(caches: tuple[int, ...]) -> dict[Level, int]:
    """Return the bytes to read from each level: half of it, but clearly more than the level within.

    Of L3, which the cores share, a quarter.
    """
    spans: dict[Level, int] = {"L1": caches[0] // 2} if caches else {}
    for level, inner, own in zip(LEVELS[1:3], caches, caches[1:], strict=False):
        share = own // 2 if level == "L2" else own // 4
        spans[level] = min(max(share, 2 * inner), own)
    return {**spans, "memory": max(MEMORY, 4 * max(caches, default=0))}


def sweep(probes: Probes) -> tuple[int, ...]:
    """Return the sizes of the caches, from how fast ever longer spans are read."""
    rates = []
    for size in SWEEP:
        trial = _reading(probes, size, 1)
        rates.append(max(trial() for _ in range(3)))
    return caches_in_sweep(SWEEP, rates)


def _arithmetic(probes: Probes, threads: int) -> Callable[[], float]:
    """Return a trial: the GFLOP/s of all threads together."""
    steps = _times_in(SECONDS, lambda times: probes.fma(times, 1))
    return lambda: fma_rate(probes, steps, threads) / 1e9


def _reading(probes: Probes, size: int, threads: int) -> Callable[[], float]:
    """Return a trial: the GB/s of all threads together, each over memory of its own."""
    spans: list[np.ndarray] = [probes.span(size) for _ in range(threads)]
    passes = _times_in(SECONDS, lambda times: probes.read(spans[:1], times))
    total = sum(span.size for span in spans) * passes
    return lambda: total / probes.read(spans, passes) / 1e9


def _times_in(seconds: float, run: Callable[[int], float]) -> int:
    """Return how often a thing must be done to take about so many seconds, at least once."""
    times = 1
    while (taken := run(times)) < seconds / 4:
        times *= 4
    return max(1, round(times * seconds / taken))


def _second(found: dict[str, list[float]], lanes: int) -> Second:
    """Compare two threads with one, round by round."""

    def ratios(two: str, one: str) -> Spread:
        pairs = zip(found[two], found[one], strict=True)
        return Spread.of_rates([both / alone for both, alone in pairs])

    return Second(
        arithmetic=ratios("fma twice", f"fma {lanes}"),
        memory=ratios("memory twice", "read memory"),
        barrier=Spread.of_times(found["barrier"]),
    )
