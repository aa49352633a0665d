"""What a report tells: the request, the machine, and a record for each stage by its name.

All numbers that report.html prints stand in these records, and so in report.json.
"""

from collections.abc import Iterator, Mapping
from math import isclose
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from depthwise.bench.record import MachineRecord, NetworkResult, SoftwareRecord
from depthwise.files.record import Record
from depthwise.hardware.record import Machine, Ratio
from depthwise.runtime.manifest import Manifest

FORMAT = 3


class StageRecord(Record):
    """What one stage found. A subclass names its stage, and a report keeps it under that name."""

    stage: ClassVar[str]


class TimedRecord(StageRecord):
    """What a stage found by timing; `timed` says what, after the word "timed".

    `disturbed` says why the times are no measurement; it is empty where they are.
    """

    timed: ClassVar[str]

    disturbed: str


Found = TypeVar("Found", bound=StageRecord)


class RequestRecord(Record):
    """What was requested, in words.

    `weights` is empty for the network's own weights, and `untrained` tells that these are random.
    `tuned_for` is the core that the library was made for, and why; empty in earlier reports.
    `command` requests the same again, saved to `directory`; shapes are (N, C, H, W).
    """

    network: str
    settings: dict[str, str]
    weights: str
    untrained: bool
    input_shapes: tuple[tuple[int, ...], ...]
    images: tuple[str, ...]
    images_left_out: int
    target: str
    tuned_for: str = ""
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


class CostSummary(StageRecord):
    """What the network costs before it has run once, its lint findings, and its picture (SVG).

    `baseline` is the title of a larger network, `baseline_name` its name here; `baseline_macs` are
    its multiply-adds for images of the same size and `macs_saved` their ratio to the network's own,
    both None where the network takes other inputs.
    """

    stage = "count"

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
    baseline: str
    baseline_name: str
    baseline_macs: int | None
    macs_saved: float | None
    picture: str

    @property
    def warnings(self) -> int:
        """The number of findings that are warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)


class Compilation(StageRecord):
    """The saved library: its manifest, and the bytes of net.c and of what was built from it.

    `values_compared` counts the values inside the network that verification compared.
    """

    stage = "compile"

    manifest: Manifest
    values_compared: int
    source_bytes: int
    library_bytes: int


class GuessRecord(Record):
    """A class, with the softmax of its score."""

    name: str
    probability: float


class ImageRecord(Record):
    """A picture as the network sees it, and the classes that it is taken for, best first.

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


class Predictions(StageRecord):
    """What the library makes of the images; `remarks` say what was assumed or left out, and why."""

    stage = "classify"

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


class Comparison(TimedRecord):
    """Our library beside other runtimes, in rounds, on as many threads; `found` has every run.

    `missing` names the peers that are not installed, `failed` maps those that are installed and
    cannot run the network to their reasons.
    """

    stage = "compare"
    timed = "beside other runtimes"

    found: NetworkResult | None
    rounds: int
    lines: tuple[RuntimeLine, ...]
    missing: tuple[str, ...]
    failed: dict[str, str]
    remarks: tuple[str, ...]

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


class LayerProfile(TimedRecord):
    """Where the time goes on one thread, in milliseconds; `peak` is one core's, in GFLOP/s.

    `milliseconds` is the sum of the layers, from the same runs, and `library` what the saved
    library took in rounds beside them, where it has one thread: it reads no clock between layers.
    `ideal` is the sum of the least that each layer could take on `machine`, which was calibrated as
    `calibrated` says; `contradicted` names the layers that were faster than the machine allows.
    """

    stage = "profile"
    timed = "layer by layer"

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
    remarks: tuple[str, ...]

    @model_validator(mode="after")
    def _layers_are_the_whole(self) -> "LayerProfile":
        whole = sum(layer.microseconds for layer in self.layers) / 1e3
        if not isclose(whole, self.milliseconds, rel_tol=1e-9):
            raise ValueError(f"layers of {whole} ms do not add up to {self.milliseconds} ms")
        return self


class BaselineTimes(Record):
    """The library beside the baseline on images of the same size, in milliseconds.

    `time_saved` is how many times longer the baseline takes, the median over rounds; `realized` is
    its share of `macs_saved`.
    """

    milliseconds: float
    ours: float
    rounds: int
    macs_saved: float
    time_saved: float
    realized: float


class Baseline(TimedRecord):
    """The library beside the baseline network; `times` is None where nothing could be timed."""

    stage = "baseline"
    timed = "beside a larger network"

    times: BaselineTimes | None


class Report(Record):
    """All that was found, by stage; a stage that is not done has no record yet."""

    format: Literal[3] = FORMAT
    depthwise: str
    request: RequestRecord
    machine: MachineRecord
    software: SoftwareRecord
    stages: dict[str, SerializeAsAny[StageRecord]] = Field(default_factory=dict)

    @field_validator("stages", mode="before")
    @classmethod
    def _read_each_as_its_kind(cls, stages: Mapping[str, Any]) -> dict[str, StageRecord]:
        kinds = {kind.stage: kind for kind in _kinds(StageRecord)}
        if unknown := sorted(stages.keys() - kinds):
            raise ValueError(
                f"no stage is called {unknown[0]!r}; there are {', '.join(sorted(kinds))}"
            )
        return {name: kinds[name].model_validate(found) for name, found in stages.items()}

    def find(self, kind: type[Found]) -> Found | None:
        """Return what the stage of this kind found; None until it is done."""
        found = self.stages.get(kind.stage)
        return found if isinstance(found, kind) else None

    def adding(self, *records: StageRecord) -> Self:
        """Return a report that has these records, too, each in the place of its stage's earlier."""
        stages = {**self.stages, **{record.stage: record for record in records}}
        return self.model_copy(update={"stages": stages})

    @property
    def disturbed(self) -> dict[str, str]:
        """What was timed on a busy machine, so that it is no measurement: {what: the reason}."""
        timed = [record for record in self.stages.values() if isinstance(record, TimedRecord)]
        return {record.timed: record.disturbed for record in timed if record.disturbed}


def _kinds(base: type[StageRecord]) -> Iterator[type[StageRecord]]:
    """Yield every kind of record that names a stage."""
    for kind in base.__subclasses__():
        if hasattr(kind, "stage"):
            yield kind
        yield from _kinds(kind)
