"""What was measured of a machine: rates and times with their spread, kept as JSON."""

from datetime import UTC, datetime
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from depthwise.files.record import Record
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.arithmetic import Arithmetic

FORMAT = 2  # 1 did not look at what else ran

# More than this of a roof, and the roof is wrong; what lies between is the clock's and the core's.
TOLERANCE = 1.03

Ratio = Annotated[float, Field(ge=0, le=1)]  # of a peak or of a roof: nothing is above it

Level = Literal["L1", "L2", "L3", "memory"]
LEVELS: tuple[Level, ...] = ("L1", "L2", "L3", "memory")

OTHERS = "others"  # in a kernel table: fitted to all kernels without features of their own


class Spread(Record):
    """One quantity over all rounds: its best, its median and its worst."""

    best: PositiveFloat
    median: PositiveFloat
    worst: PositiveFloat

    @classmethod
    def of_rates(cls, rates: list[float]) -> "Spread":
        """Return the spread of what is better when larger."""
        return cls(best=max(rates), median=median(rates), worst=min(rates))

    @classmethod
    def of_times(cls, times: list[float]) -> "Spread":
        """Return the spread of what is better when smaller."""
        return cls(best=min(times), median=median(times), worst=max(times))


class Peak(Record):
    """Multiply-adds of one core, in GFLOP/s (2 for each), with vectors of `lanes` floats."""

    lanes: PositiveInt
    gflops: Spread


class NarrowPeak(Record):
    """Multiply-adds of one core of a narrow type, in GFLOP/s, or 1e9 integer operations a second.

    `target` is what the loop was compiled for.
    """

    arithmetic: Arithmetic
    target: str
    gflops: Spread


class Reading(Record):
    """How fast one core reads `span` bytes over and over, from where these fit: GB/s."""

    level: Level
    span: PositiveInt
    gigabytes: Spread


class CacheShare(Record):
    """The share of `size` bytes, read over and over, that the last cache holds for one core."""

    size: PositiveInt
    held: Ratio


class Second(Record):
    """Two threads against one, each pair measured together: 2 is a whole core more, 1 none.

    `arithmetic` at the widest vectors, `memory` reading from memory; `barrier` is what one meeting
    of the two takes, in nanoseconds.
    """

    arithmetic: Spread
    memory: Spread
    barrier: Spread


class KernelCoefficients(Record):
    """The seconds that one unit of each feature of a kernel takes: a byte, a call, a tile.

    They were fitted to `steps` timed steps; `error` is the median error of the fit, relative to the
    times.
    """

    kernel: str
    steps: PositiveInt
    coefficients: dict[str, NonNegativeFloat]
    error: NonNegativeFloat


class CheckedNetwork(Record):
    """A calibration network as a whole: seconds measured, and predicted from the other networks."""

    name: str
    measured: PositiveFloat
    predicted: PositiveFloat

    @property
    def error(self) -> float:
        """By how much the prediction is too long, relative to what was measured."""
        return self.predicted / self.measured - 1


class KernelTable(Record):
    """The coefficients of all kernels, and what they were timed with.

    `code` is a digest of the C that was timed (`latency.fingerprint`), `calibrated` the date of the
    calibration beside it, and `gflops` the peak of one core that the times are scaled to.
    `networks` tell how close it comes. One of a narrow `precision` is of this machine's best target
    for that.
    """

    code: str
    calibrated: str
    precision: str = FLOAT32.name
    gflops: PositiveFloat
    kernels: tuple[KernelCoefficients, ...]
    networks: tuple[CheckedNetwork, ...]

    def coefficients(self, kernel: str) -> dict[str, float]:
        """Return a kernel's coefficients by feature; for an unknown kernel those of "others"."""
        known = {each.kernel: each.coefficients for each in self.kernels}
        return known.get(kernel, known[OTHERS])


class Machine(Record):
    """One CPU, measured.

    Attributes:
        cpu: Which it is, in its maker's words.
        features: Its instruction sets.
        caches: The bytes of L1, L2 and L3.
        cache_source: Whether the system named their sizes or a sweep found them.
        shared: How much of an L3 one core gets; L3 counts as large as what it holds half of.
        apart: By how much the last two passes of rounds differ in the best of what one core does.
        disturbed: What else ran meanwhile; empty for what is kept.
        peaks: Multiply-adds of float32, with vectors of each width.
        narrow: Those of narrower types, each with what this CPU has for it; none where it was
            calibrated before these were measured.
        second: What a second thread adds; None on a machine of one core.
        kernels: The latency model of its kernels; None where they were not timed.
        narrow_kernels: Those of other precisions than float32, as far as they were timed.
    """

    format: Literal[2] = FORMAT
    cpu: str
    features: tuple[str, ...]
    cores: PositiveInt
    target: str
    compiler: str
    date: str
    rounds: PositiveInt
    apart: NonNegativeFloat = 0.0
    disturbed: str = ""
    caches: tuple[PositiveInt, ...]
    cache_source: Literal["system", "sweep"]
    shared: tuple[CacheShare, ...] = ()
    peaks: tuple[Peak, ...]
    narrow: tuple[NarrowPeak, ...] = ()
    readings: tuple[Reading, ...]
    second: Second | None
    kernels: KernelTable | None = None
    narrow_kernels: tuple[KernelTable, ...] = ()

    @field_validator("kernels", mode="wrap")
    @classmethod
    def _without_a_table_of_another_version(cls, value: object, read: Any) -> KernelTable | None:
        """Leave out a table that we cannot read: the calibration itself still holds."""
        try:
            return read(value)
        except ValidationError:
            return None

    @field_validator("narrow_kernels", mode="wrap")
    @classmethod
    def _without_narrow_tables_of_another_version(
        cls, value: object, read: Any
    ) -> tuple[KernelTable, ...]:
        try:
            return read(value)
        except ValidationError:
            return ()

    @field_validator("date")
    @classmethod
    def _date_has_a_zone(cls, date: str) -> str:
        if datetime.fromisoformat(date).tzinfo is None:
            raise ValueError(f"{date} names no time zone")
        return date

    @property
    def lanes(self) -> int:
        """Floats of the widest vector."""
        return max(peak.lanes for peak in self.peaks)

    @property
    def gflops(self) -> float:
        """The best rate of multiply-adds of one core with the widest vectors, in GFLOP/s."""
        return next(peak.gflops.best for peak in self.peaks if peak.lanes == self.lanes)

    def gigabytes(self, level: Level) -> float:
        """Return the best rate at which one core reads from a level, in GB/s.

        A level that this machine lacks is the next one out.
        """
        known = {reading.level: reading.gigabytes.best for reading in self.readings}
        return next(known[each] for each in LEVELS[LEVELS.index(level) :] if each in known)

    @property
    def seconds_old(self) -> float:
        """How long ago it was calibrated."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.date)).total_seconds()

    @property
    def age(self) -> str:
        """When it was calibrated, in words: "calibrated 3 days ago"."""
        return f"calibrated {in_words(self.seconds_old)}"

    def table(self, precision: str) -> KernelTable | None:
        """Return the latency model of a precision; None where its kernels were not timed."""
        if precision == FLOAT32.name:
            return self.kernels
        return next((each for each in self.narrow_kernels if each.precision == precision), None)

    def with_table(self, table: KernelTable) -> "Machine":
        """Return the same with the latency model of a precision, in place of what there was."""
        if table.precision == FLOAT32.name:
            return self.model_copy(update={"kernels": table})
        others = (each for each in self.narrow_kernels if each.precision != table.precision)
        return self.model_copy(update={"narrow_kernels": (*others, table)})

    def level(self, size: int) -> Level:
        """Return the nearest level that holds `size` bytes at once."""
        for level, cache in zip(LEVELS, self.caches, strict=False):
            if size <= cache:
                return level
        return "memory"


AGES = {"year": 365 * 86400, "month": 30 * 86400, "day": 86400, "hour": 3600, "minute": 60}


def in_words(seconds: float) -> str:
    """Return how long ago something was: "just now", "5 minutes ago", "1 day ago"."""
    for name, span in AGES.items():
        if count := int(max(0.0, seconds) // span):
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def share_of(reached: float, most: float) -> float | None:
    """Return `reached` as a share of `most`; None where it is larger: then `most` was wrong.

    What is above it by no more than TOLERANCE is all of it.
    """
    if most <= 0 or reached > TOLERANCE * most:
        return None
    return min(1.0, reached / most)


def roofline(machine: Machine, macs: int, size: int, level: Level) -> float:
    """Return the seconds that one core needs at best: to compute, or to read `size` bytes.

    The two overlap, so that the longer one counts; `level` is where the bytes come from.
    Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
    """
    return max(2e-9 * macs / machine.gflops, 1e-9 * size / machine.gigabytes(level))
