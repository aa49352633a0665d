"""One core of a CPU, as far as plans depend on it: made from a calibration, or a row of a table."""

from dataclasses import dataclass, field

from depthwise.hardware.record import Machine


@dataclass(frozen=True)
class Caches:
    """Bytes of the caches that one core has, or its share of those that others use at once.

    `l3` is all of it, however many share it; 0 where there is none.
    """

    l1: int
    l2: int
    l3: int


@dataclass(frozen=True)
class ReadRates:
    """GB/s at which one core reads from a level; `l3` is memory's where there is no such cache."""

    l2: float
    l3: float
    memory: float


@dataclass(frozen=True)
class ComputeRate:
    """Multiply-adds that one core does in a nanosecond: for each lane of a vector, and at most.

    Vectors of all widths start as often, until they fill the units: 2 units of 256 bits at 4 GHz
    do 8 a lane and 64 at most, so that vectors of 16 floats start half as often as those of 8.
    """

    lane: float
    most: float

    def rate(self, lanes: int) -> float:
        """Return the multiply-adds in a nanosecond with vectors of `lanes` floats."""
        return min(self.lane * lanes, self.most)


@dataclass(frozen=True)
class Neighbours:
    """What two cores cost each other: nanoseconds to meet, and GB/s of what the other has written.

    Of cores that share no cache where some do: a plan cannot choose its cores.
    """

    meeting: float
    rate: float


@dataclass(frozen=True)
class Core:
    """One core of a CPU.

    Attributes:
        name: What `tune_for` calls it.
        architecture: As in a target's.
        origin: Why it was taken, in words; no part of its value.
    """

    name: str
    architecture: str
    caches: Caches
    reads: ReadRates
    arithmetic: ComputeRate
    neighbours: Neighbours
    origin: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.origin})" if self.origin else self.name


CALIBRATED = "calibrated"
APART = Neighbours(meeting=400.0, rate=8.0)  # cores of one CPU that share no cache
L1, L2 = 32 * 2**10, 512 * 2**10  # of a machine that names no caches


def core_of_machine(machine: Machine, architecture: str) -> Core:
    """Return the core of a machine that was calibrated.

    What another core has written comes the faster, the sooner the two meet; no faster than from
    the cache that they share.
    """
    l1, l2, l3 = (*machine.caches, *(L1, L2, 0)[len(machine.caches) :])
    rates = {peak.lanes: peak.gflops.best / 2 for peak in machine.peaks}
    reads = ReadRates(*(machine.gigabytes(level) for level in ("L2", "L3", "memory")))
    meeting = machine.second.barrier.median if machine.second else APART.meeting
    return Core(
        CALIBRATED, architecture, Caches(l1, l2, l3), reads,
        ComputeRate(max(rate / lanes for lanes, rate in rates.items()), max(rates.values())),
        Neighbours(meeting, min(APART.rate * APART.meeting / meeting, reads.l3)),
        f"this machine, calibrated {machine.date[:10]}",
    )  # fmt: skip
