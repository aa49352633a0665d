"""What a report tells: a record for each stage of the way from a network to a verified library.

All numbers that report.html prints stand in these records, and so in report.json.
"""

from math import isclose
from typing import Literal

from pydantic import model_validator

from depthwise.bench.record import MachineRecord, NetworkResult, SoftwareRecord
from depthwise.files.record import Record
from depthwise.hardware.record import Machine, Ratio
from depthwise.runtime.manifest import Manifest

FORMAT = 2


class Asked(Record):
    """What was asked for: `weights` is empty for a network's own, `untrained` for random ones.

    `command` does the same again, saving to `directory`; shapes are (N, C, H, W).
    """

    network: str
    settings: dict[str, str]
    weights: str
    untrained: bool
    input_shapes: tuple[tuple[int, ...], ...]
    images: tuple[str, ...]
    images_left_out: int
    target: str
    threads: int
    optimize: Literal["speed", "memory"]
    command: str
    directory: str


class LayerRecord(Record):
    """What one layer costs; bytes and fields as in `dw.cost`. `share` is that of the MACs."""

    path: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int | None
    share: float
    receptive_field: tuple[int, int] | None
    step: tuple[float, float] | None


class KindRecord(Record):
    """All layers of one kind together."""

    kind: str
    layers: int
    params: int
    macs: int
    share: float


class FindingRecord(Record):
    """One finding of lint, as `dw.lint` returns it."""

    rule: str
    layer: str
    what: str
    why: str
    advice: str
    severity: Literal["warning", "note"]
    also: tuple[str, ...]


class Counted(Record):
    """What the network costs before it has run once, its lint findings, and its picture (SVG).

    `reference_macs` are ResNet-50's (`reference`) for images of the same size, `macs_saved` their
    ratio to the network's own; None where it takes other inputs.
    """

    params: int
    macs: int
    flops: int
    weight_bytes: int
    peak_bytes: int
    peak_layer: str
    receptive_field: tuple[int, int]
    layers: tuple[LayerRecord, ...]
    kinds: tuple[KindRecord, ...]
    not_counted: tuple[str, ...]
    findings: tuple[FindingRecord, ...]
    reference: str
    reference_name: str
    reference_macs: int | None
    macs_saved: float | None
    picture: str

    @property
    def warnings(self) -> int:
        """The number of findings that are warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)


class Compiled(Record):
    """The saved library: its manifest, and the bytes of net.c and of what was built of it.

    `values_compared` counts the values inside the network that verifying looked at.
    """

    manifest: Manifest
    values_compared: int
    source_bytes: int
    library_bytes: int


class GuessRecord(Record):
    """A class, with the softmax of its score."""

    name: str
    probability: float


class ImageRecord(Record):
    """A picture that was looked at: as the network sees it, and what it is taken for, best first.

    `error` is the largest difference of the library's scores from PyTorch's, of the largest.
    """

    file: str
    picture: str  # a data URI
    guesses: tuple[GuessRecord, ...]
    error: float


class FeatureRecord(Record):
    """Some channels of one layer's output on one image, each scaled from its own black to white.

    `shape` is the whole output's, (C, H, W); `channels` of it are shown, the first ones.
    """

    layer: str
    file: str
    shape: tuple[int, int, int]
    channels: int
    picture: str  # a data URI


class Looked(Record):
    """What the library makes of the images; `remarks` say what was assumed or left out, and why."""

    images: tuple[ImageRecord, ...]
    features: tuple[FeatureRecord, ...]
    remarks: tuple[str, ...]


class RuntimeLine(Record):
    """One runtime's times in milliseconds: median, and those that 10 and 90 % of runs are below.

    `ratio` is how many times longer than ours it takes, pair by pair; None for our own.
    `share_of_peak` is None where it took less time than its multiply-adds would at the peak.
    """

    name: str
    version: str
    median: float
    p10: float
    p90: float
    share_of_peak: Ratio | None
    ratio: float | None
    error: float


class Compared(Record):
    """Our library beside other runtimes, in turns, on the same threads; `found` has every run.

    `missing` names the peers that are not installed, `failed` those that were and could not.
    `disturbed` says why its times are no measurement; it is empty where they are.
    """

    found: NetworkResult | None
    rounds: int
    lines: tuple[RuntimeLine, ...]
    missing: tuple[str, ...]
    failed: dict[str, str]
    remarks: tuple[str, ...]
    disturbed: str

    @property
    def ours(self) -> RuntimeLine | None:
        """Our own library's line."""
        return next((line for line in self.lines if line.ratio is None), None)

    def line(self, name: str) -> RuntimeLine | None:
        """Return a runtime's line; None where it did not run."""
        return next((line for line in self.lines if line.name == name), None)


class LayerTimeRecord(Record):
    """One layer in the library: microseconds, and the least that the machine would allow.

    `share` is that of the whole's time, `rate` in GFLOP/s, `of_peak` its share of the FMA peak,
    `of_ideal` that of the ideal; `intensity` is in FLOPs a byte. `bound` says what the ideal is
    made of. Rate and intensity count the multiply-adds that are done: Winograd's are fewer than the
    layer's. Nothing is above what the machine can do: what seems to be proves a roof wrong, or is
    too short for the clock, and has no share and no ideal.
    """

    path: str
    kind: str
    kernel: str
    shape: tuple[int, ...]
    microseconds: float
    ideal: float | None
    bound: str
    share: Ratio
    rate: float
    of_peak: Ratio | None
    of_ideal: Ratio | None
    intensity: float

    @model_validator(mode="after")
    def _no_ideal_is_beaten(self) -> "LayerTimeRecord":
        if self.ideal is not None and self.ideal > self.microseconds:
            raise ValueError(f"{self.path}: faster than its ideal, so that this is none")
        return self


class KindTimeRecord(Record):
    """All layers of one kind: their share of the multiply-adds and of the time."""

    kind: str
    microseconds: float
    share: Ratio
    macs_share: Ratio


class Profiled(Record):
    """Where the time goes on one thread, in milliseconds; `peak` in GFLOP/s of one core, measured.

    `milliseconds` is the sum of the layers, from the same runs, and `library` what the saved one
    took interleaved with them, where it has one thread: that has no clock in it. `ideal` is the
    sum of what each layer would need at best, `machine` what that is known from, `calibrated` when
    that was; `contradicted` names the layers that were faster than it allows. `disturbed` says why
    the times are no measurement.
    """

    milliseconds: float
    library: float | None
    ideal: float | None
    rate: float
    peak: float
    of_peak: Ratio | None
    layers: tuple[LayerTimeRecord, ...]
    kinds: tuple[KindTimeRecord, ...]
    machine: Machine | None
    calibrated: str
    contradicted: tuple[str, ...]
    disturbed: str
    remarks: tuple[str, ...]

    @model_validator(mode="after")
    def _layers_are_the_whole(self) -> "Profiled":
        whole = sum(layer.microseconds for layer in self.layers) / 1e3
        if not isclose(whole, self.milliseconds, rel_tol=1e-9):
            raise ValueError(f"layers of {whole} ms do not add up to {self.milliseconds} ms")
        return self


class Referenced(Record):
    """The library beside ResNet-50 on images of the same size, interleaved, in milliseconds.

    `time_saved` is how many times longer ResNet-50 takes, pair by pair; `kept` is that of
    `macs_saved`. `disturbed` says why the times are no measurement.
    """

    milliseconds: float
    ours: float
    rounds: int
    macs_saved: float
    time_saved: float
    kept: float
    disturbed: str


class BaselineRecord(Record):
    """What was found beside ResNet-50; None where nothing could be timed."""

    found: Referenced | None

    @property
    def disturbed(self) -> str:
        """Why the times are no measurement."""
        return self.found.disturbed if self.found else ""


class Report(Record):
    """All that was found on the way; a part is None until its stage is done."""

    format: Literal[2] = FORMAT
    depthwise: str
    asked: Asked
    machine: MachineRecord
    software: SoftwareRecord
    counted: Counted | None = None
    compiled: Compiled | None = None
    looked: Looked | None = None
    compared: Compared | None = None
    profiled: Profiled | None = None
    referenced: BaselineRecord | None = None

    @property
    def disturbed(self) -> dict[str, str]:
        """What was timed on a busy machine, so that it is no measurement: {what: the reason}."""
        reasons = {
            "beside other runtimes": self.compared.disturbed if self.compared else "",
            "layer by layer": self.profiled.disturbed if self.profiled else "",
            "beside a larger network": self.referenced.disturbed if self.referenced else "",
        }
        return {what: reason for what, reason in reasons.items() if reason}
