"""What a comparison measured, as it is kept: every round's times, and what they were taken with."""

from math import inf
from statistics import median

import numpy as np
from pydantic import ConfigDict, computed_field

from depthwise.bench.peers import DIRECT, OURS
from depthwise.files.record import Record
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.load import Load
from depthwise.hardware.record import share_of

AGREEING = 0.99  # of the images: a precision that keeps the class of as many keeps its accuracy
UNEVEN = 2.0  # a runtime's slow runs to its fast ones: idle, ours 1.04 and PyTorch's up to 1.4


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

    `precision` is what it was asked to compute in, `how` what was done for that. `way` says how it
    was given a batch, `held` how it was kept from using all that the CPU has. `error` is the
    largest difference from PyTorch's output, of its largest element; `agreement` in which share of
    the network's images the highest score is that of PyTorch in float32, None where there are no
    images or scores; `opened` the seconds that converting and loading took; `cc` the C compiler of
    our own code, where it is not the one that is installed with us.
    """

    # `seconds` is written for those who read the file, and not read back
    model_config = ConfigDict(extra="ignore")

    name: str
    precision: str = FLOAT32.name
    versions: dict[str, str]
    way: str = ""
    held: str = ""
    how: str = ""
    failed: str | None = None
    error: float | None = None
    agreement: float | None = None
    opened: float | None = None
    cc: str | None = None
    rounds: tuple[tuple[float, ...], ...] = ()

    @property
    def title(self) -> str:
        """Its name, with its precision where that is not float32."""
        own = self.precision == FLOAT32.name
        return self.name if own else f"{self.name}, {self.precision}"

    @property
    def agrees(self) -> bool:
        """Whether it gives what the network in float32 does, or the class that this gives."""
        if self.agreement is None:  # then float32 alone is known to
            return self.precision == FLOAT32.name
        return self.agreement >= AGREEING

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
        """Return the seconds that this percentage of all runs stays below."""
        return float(np.percentile(np.concatenate(self.rounds), percent))


class NetworkResult(Record):
    """One network in every runtime; `weights` is empty for random ones.

    `peaks` is the FMA peak of the cores in use, in FLOP/s, measured in each round; `foreign` the
    share of all cores that programs beside the runtimes took in it, None where nothing tells.
    `images` says what the runtimes were judged on beside the input of noise; empty for nothing.
    """

    network: str
    settings: dict[str, str]
    weights: str
    input_shape: tuple[int, ...]
    macs: int
    params: int
    peaks: tuple[float, ...]
    foreign: tuple[float | None, ...] = ()
    images: str = ""
    runtimes: tuple[RuntimeRecord, ...]

    @property
    def ours(self) -> RuntimeRecord:
        """Our own library's: of several precisions the fastest that agrees, else the first."""
        return min((r for r in self.own if r.agrees), key=_time, default=self.own[0])

    @property
    def own(self) -> tuple[RuntimeRecord, ...]:
        """Our own library's in each precision that was asked for."""
        return tuple(runtime for runtime in self.runtimes if runtime.name == OURS.name)

    @property
    def peers(self) -> tuple[RuntimeRecord, ...]:
        """The other runtimes'."""
        own = (OURS.name, DIRECT.name)
        others = (runtime for runtime in self.runtimes if runtime.name not in own)
        return tuple(runtime for runtime in others if runtime.cc is None)

    @property
    def compiled(self) -> tuple[RuntimeRecord, ...]:
        """Our own code by other C compilers, in the order asked."""
        return tuple(runtime for runtime in self.runtimes if runtime.cc is not None)

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
        """The fastest of the peers that ran and agree, by its ratio to us."""
        ran = [peer for peer in self.peers if peer.rounds and peer.agrees]
        return min(ran, key=lambda peer: self.ratio(peer) or peer.seconds or inf, default=None)

    def times_peak(self, runtime: RuntimeRecord) -> float | None:
        """Return the arithmetic counted, 2 a multiply-add, for what the cores could do meanwhile.

        It may be above 1: Winograd does less than is counted.
        """
        if not runtime.rounds:
            return None
        pairs = zip(runtime.medians, self.peaks, strict=True)
        return median(2 * self.macs / (seconds * peak) for seconds, peak in pairs)

    def share_of_peak(self, runtime: RuntimeRecord) -> float | None:
        """Return how much of the cores' arithmetic it used; None where it did not run, or is over.

        Over is what took less time than the multiply-adds counted would at the peak.
        """
        times = self.times_peak(runtime)
        return None if times is None else share_of(times, 1.0)

    def is_over(self, runtime: RuntimeRecord) -> bool:
        """Tell whether a runtime did more than the peak, as its multiply-adds are counted."""
        return bool(runtime.rounds) and self.share_of_peak(runtime) is None

    @property
    def disturbed(self) -> str:
        """What disturbed most rounds, in words; empty where the times can be trusted."""
        foreign = [share for share in self.foreign if share is not None]
        if foreign and (words := Load(median(foreign)).disturbed):
            return words
        ran = [runtime for runtime in self.runtimes if runtime.rounds]
        if any(each.percentile(90) > UNEVEN * each.percentile(10) for each in ran):
            return "the runs of one runtime differ widely in time"
        return ""


def _time(runtime: RuntimeRecord) -> float:
    return runtime.seconds or inf


class BenchRecord(Record):
    """One call of `depthwise bench`: networks in the order given, on that number of threads."""

    machine: MachineRecord
    software: SoftwareRecord
    threads: int
    tolerance: float
    networks: tuple[NetworkResult, ...]
