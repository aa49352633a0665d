"""What other programs do on this machine while something is measured."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOREIGN = 0.1  # of all cores, that other programs may take: 0.2 of two
WAITED = 0.05  # of its time, that what is measured may wait for a core

PROC = Path("/proc")
BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: all but idle, waiting for a disk, and guests (in user)


@dataclass(frozen=True)
class Load:
    """What disturbed a measurement.

    `foreign` is the share of all cores that other programs took, None where the system does not
    tell; `waited` the share of its own time that it had no core, None where that was not measured.
    """

    foreign: float | None
    waited: float | None = None

    @property
    def disturbed(self) -> str:
        """What disturbed it, in words; empty where nothing did."""
        reasons = []
        if self.foreign is not None and self.foreign > FOREIGN:
            reasons.append(f"other programs took {self.foreign:.0%} of the cores' time")
        if self.waited is not None and self.waited > WAITED:
            reasons.append(f"what was measured waited {self.waited:.0%} of its time for a core")
        return " and ".join(reasons)


class Watch:
    """Measures the CPU time of other programs since its creation; `processes` count as ours.

    Processes that end in between are others from then on.
    """

    def __init__(self, processes: Sequence[int] = ()):
        self._own = (os.getpid(), *processes)
        self._before = _cores_busy(self._own)
        self._start = time.perf_counter()

    def load(self) -> Load:
        """Return what others took since the start."""
        seconds, now = time.perf_counter() - self._start, _cores_busy(self._own)
        if self._before is None or now is None or seconds <= 0:
            return Load(None)
        (all_before, own_before, _), (all_now, own_now, cores) = self._before, now
        others = (all_now - all_before) - (own_now - own_before)
        return Load(min(1.0, max(0.0, others / (seconds * cores))))


class Waiting:
    """Adds up how long calls on one thread take, and how much of that they have a core."""

    def __init__(self) -> None:
        self.seconds = self.computed = 0.0

    def call(self, trial: Callable[[], float]) -> float:
        """Return what a trial returns."""
        start, own = time.perf_counter(), time.process_time()
        found = trial()
        self.computed += time.process_time() - own
        self.seconds += time.perf_counter() - start
        return found

    @property
    def share(self) -> float:
        """The share of the time that they waited."""
        return max(0.0, 1 - self.computed / self.seconds) if self.seconds else 0.0


def _cores_busy(own: Sequence[int]) -> tuple[float, float, int] | None:
    """Return the seconds that all programs and that ours have computed, and the cores; or None."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    every = [int(field) for field in lines[0].split()[1:]]
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return sum(every[i] for i in BUSY) / tick, sum(map(_ticks, own)) / tick, max(1, cores)


def _ticks(process: int) -> int:
    """Return the ticks of a process, all its threads and the children that it waited for."""
    with suppress(OSError):
        text = (PROC / str(process) / "stat").read_text()
        fields = text.rpartition(")")[2].split()  # its name before may hold blanks
        return sum(int(field) for field in fields[11:15])
    return 0
