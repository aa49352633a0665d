"""What a comparison measured, as it is kept: every round's times, and what they were taken with."""

from math import inf
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

from depthwise.bench.peers import DIRECT, OURS


class Record(BaseModel):
    """A part of a file of results, which is never changed."""

    model_config = ConfigDict(frozen=True)


class MachineRecord(Record):
    """The machine: its processor as the system names it, features in Linux's names."""

    system: str
    processor: str
    cores: int
    features: tuple[str, ...]


class SoftwareRecord(Record):
    """What measured: `commit` is that of our sources where git has them, `changed` their state."""

    depthwise: str
    python: str
    commit: str | None
    changed: bool
    target: str
    compiler: str
    flags: tuple[str, ...]


class RuntimeRecord(Record):
    """One runtime on one network: the seconds of each run of each round, or why there are none.

    `error` is the largest difference from PyTorch's output, of its largest element; `opened` the
    seconds that converting and loading took.
    """

    name: str
    versions: dict[str, str]
    failed: str | None = None
    error: float | None = None
    opened: float | None = None
    rounds: tuple[tuple[float, ...], ...] = ()

    @property
    def medians(self) -> tuple[float, ...]:
        """The median seconds of each round."""
        return tuple(median(times) for times in self.rounds)

    @computed_field
    @property
    def seconds(self) -> float | None:
        """The median of the rounds' medians."""
        return median(self.medians) if self.rounds else None

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many percent of all runs stay below."""
        return float(np.percentile(np.concatenate(self.rounds), percent))


class NetworkRecord(Record):
    """One network in every runtime; `weights` is empty for random ones.

    `peaks` is the FMA peak of the cores in use, in FLOP/s, measured in each round.
    """

    network: str
    settings: dict[str, str]
    weights: str
    input_shape: tuple[int, ...]
    macs: int
    params: int
    peaks: tuple[float, ...]
    runtimes: tuple[RuntimeRecord, ...]

    @property
    def ours(self) -> RuntimeRecord:
        """Our own library's."""
        return next(runtime for runtime in self.runtimes if runtime.name == OURS.name)

    @property
    def peers(self) -> tuple[RuntimeRecord, ...]:
        """The other runtimes'."""
        own = (OURS.name, DIRECT.name)
        return tuple(runtime for runtime in self.runtimes if runtime.name not in own)

    @property
    def direct(self) -> RuntimeRecord:
        """Our own with direct convolutions alone: another library where ours has Winograd."""
        found = (runtime for runtime in self.runtimes if runtime.name == DIRECT.name)
        return next((runtime for runtime in found if runtime.rounds), self.ours)

    def ratio(self, peer: RuntimeRecord) -> float | None:
        """Return how many times faster than a peer we are: the median over rounds, pair by pair."""
        if not (peer.rounds and self.ours.rounds):
            return None
        pairs = zip(peer.medians, self.ours.medians, strict=True)
        return median(theirs / ours for theirs, ours in pairs)

    @property
    def best_peer(self) -> RuntimeRecord | None:
        """The fastest of the peers that ran, by its ratio to us."""
        ran = [peer for peer in self.peers if peer.rounds]
        return min(ran, key=lambda peer: self.ratio(peer) or peer.seconds or inf, default=None)

    def share_of_peak(self, runtime: RuntimeRecord) -> float | None:
        """Return the arithmetic done, 2 a multiply-add, of what the cores could do meanwhile."""
        if not runtime.rounds:
            return None
        pairs = zip(runtime.medians, self.peaks, strict=True)
        return median(2 * self.macs / (seconds * peak) for seconds, peak in pairs)


class BenchRecord(Record):
    """One call of `depthwise bench`: networks in the order given, on so many threads."""

    machine: MachineRecord
    software: SoftwareRecord
    threads: int
    tolerance: float
    networks: tuple[NetworkRecord, ...]
