"""The record of a quantisation: quantization.json."""

from depthwise import __version__
from depthwise.files.record import Record


class StepFigures(Record):
    """What a step came to, on held-out images."""

    name: str
    nats: float
    """Divergence of the scores from those in float32."""
    agreement: float | None
    """The share of images in which the highest score is the same one; None without classes."""
    decibels: float
    """Signal to quantisation noise of the scores."""
    taken: bool
    """Whether it stays: it was taken back where there was less divergence before it."""
    seconds: float


class NoiseFigures(Record):
    """What rounding does to a layer."""

    layer: str
    path: str
    own: float
    """Decibels of its result where it alone is rounded, and what it reads."""
    all: float
    """The same where all before it are rounded, too."""


class GainFigures(Record):
    """What it gains and costs to keep a layer out of eight bits."""

    layer: str
    path: str
    nats: float
    """By how much less the scores diverge where it alone is kept, on some held-out images."""
    microseconds: float
    """By how much longer it takes then, as its steps were timed in both types."""


class PointFigures(Record):
    """A point of the curve: the first layers of its order kept out of eight bits."""

    kept: int
    """How many layers."""
    layer: str = ""
    """The path of the last of these; empty where there is none."""
    milliseconds: float
    """Of the compiled network, one image on one thread, timed in turns with the other points."""
    nats: float
    agreement: float | None
    decibels: float
    right: int | None = None
    """Of `judged` validation images, where there are labels."""


class CurveFigures(Record):
    """What is gained for how much time where layers are kept out of eight bits."""

    target: str
    """The CPU that it was compiled for."""
    kept_in: str
    """What kept layers are computed in: bfloat16 where the CPU has tiles for it, else float32."""
    disturbed: str = ""
    """What else was at work while it was timed, in words."""
    order: tuple[GainFigures, ...]
    """The layers that gain something, the most for a microsecond first."""
    points: tuple[PointFigures, ...]
    whole: PointFigures
    """The network with all of its layers kept."""
    judged: int | None = None
    """Validation images that each point was judged on."""
    float_right: int | None = None
    """Of these, in float32."""
    chosen: int
    """How many layers are kept in the network that was saved."""


class QuantizationRecord(Record):
    """How a network was quantised, and what came of it."""

    depthwise: str = __version__
    network: str
    data: str
    """What it was calibrated on."""
    images: int
    held_out: int
    steps: tuple[StepFigures, ...]
    layers: tuple[NoiseFigures, ...]
    kept: tuple[str, ...]
    """Layers that are not computed in eight bits."""
    kept_in: str = "float32"
    """What these are meant to be computed in; bfloat16 where it is compiled with that precision."""
    nats: float
    agreement: float | None
    decibels: float
    simulated: int
    """How many held-out images were computed in integers, bit for bit, as well."""
    simulated_agreement: float | None
    """In how many of these the highest score is that in float32."""
    judged: int | None = None
    """Labelled images that accuracy is told on; none of them was used before."""
    right_before: int | None = None
    right_after: int | None = None
    weight_bytes: int
    """Of its constants, beside `float_bytes` in float32."""
    float_bytes: int
    notes: tuple[str, ...] = ()
    curve: CurveFigures | None = None
    """Agreement against milliseconds, where that was asked for."""

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Accuracy in float32 and in eight bits; None where there are no labels."""
        if not self.judged or self.right_before is None or self.right_after is None:
            return None
        return self.right_before / self.judged, self.right_after / self.judged
