"""What is kept of slimming: which changes were made, why, what they cost and what they did."""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from pydantic import Field

from depthwise.analysis.units import in_seconds, in_units
from depthwise.files.record import Record

Measure = Literal["macs", "parameters", "weight_bytes", "arena_bytes", "milliseconds"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Compared = Literal["classes", "pixels", "values"]
COMPARED: dict[Compared, str] = {
    "classes": "the same class", "pixels": "the same class, of all pixels",
    "values": "of the variance of its values",
}  # fmt: skip
NAMED = 6  # layers, in one sentence
SAID: dict[Measure, str] = {
    "macs": "MACs", "parameters": "parameters", "weight_bytes": "of weights",
    "arena_bytes": "of arena", "milliseconds": "",
}  # fmt: skip


def say_cost(measure: Measure, cost: float) -> str:
    """Return a cost with its unit: 62.74 M MACs, 3.41 MB of weights, 1.25 ms."""
    if measure == "milliseconds":
        return in_seconds(1e-3 * cost)
    unit = "B" if measure.endswith("bytes") else ""
    return f"{in_units(cost, unit)} {SAID[measure]}"


class StepRecord(Record):
    """One change that was made."""

    move: str
    """The name of the move."""
    place: str
    """The module that was changed, or the first one of a group."""
    words: str
    """What became of it."""
    damage: float
    """Estimated, in nats an image."""
    saving: float
    """By the budget's measure."""
    milliseconds: float
    """Estimated, of the compiled library on one thread."""
    why: str
    """Why this one was taken."""


class RoundRecord(Record):
    """Changes that were made together, and what came of them."""

    number: int
    target: float
    """What the network was to cost after it, by the budget's measure."""
    before: float
    after: float
    damage: float
    """The sum of the estimates of its steps."""
    divergence: float
    """Measured after it on held-out images: the Kullback-Leibler divergence of the scores from the
    original's, in nats an image."""
    banned: tuple[str, ...] = ()
    """Places where a change turned out much worse than estimated, and was undone."""
    seconds: float
    steps: tuple[StepRecord, ...]

    def told(self, measure: Measure) -> str:
        """Return what it came to, in a sentence."""
        undone = f", undone: {', '.join(self.banned)}" if self.banned else ""
        before, after = (say_cost(measure, cost) for cost in (self.before, self.after))
        changes = "1 change" if len(self.steps) == 1 else f"{len(self.steps)} changes"
        return (
            f"round {self.number}: {before} to {after} by "
            f"{changes}, {self.divergence:.4f} nats from the original (changes "
            f"estimated at {self.damage:.4f}){undone}, {self.seconds:.0f} s"
        )


class Figures(Record):
    """What a network costs and how right it is."""

    macs: int
    parameters: int
    weight_bytes: int
    arena_bytes: int
    milliseconds: float
    measured: bool
    """Whether the time was measured; else it is an estimate."""
    images: int = 0
    """Validation images with labels; 0 where there are none."""
    right: int = 0
    """How many of them it names rightly."""
    agreement: float
    """The share of what is `compared` in which it agrees with the original: on those images, else
    on the held-out ones."""
    compared: Compared = "classes"
    """The classes of images, those of their pixels, or values, of which the share of the variance
    counts that the two have in common."""

    @property
    def names(self) -> str:
        """What the share of agreement is of, in words."""
        return COMPARED[self.compared]

    @property
    def accuracy(self) -> float | None:
        """The share that is named rightly; None where nothing is known of it."""
        return self.right / self.images if self.images else None


class RecoveryRecord(Record):
    """What training after slimming came to."""

    seconds: float
    before: float
    """Accuracy on the validation images."""
    after: float
    kept: bool
    """Whether the trained weights were better, and taken."""

    def __str__(self) -> str:
        """Return what it came to, in a sentence."""
        found = f"{self.before:.2%} to {self.after:.2%} of the validation images named rightly"
        kept = "" if self.kept else ": no better, so the weights of before are kept"
        return f"recovery, {in_seconds(self.seconds)}: {found}{kept}"


class LayerFigures(Record):
    """What a layer of the original costs, or what stands in its place afterwards."""

    layers: int
    """How many convolutions and linear layers it is."""
    shape: tuple[int, ...]
    """Of what the last one of them gives for an image: (C, H, W), or (C,)."""
    macs: int
    parameters: int
    milliseconds: float
    """Estimated, on one thread."""


class LayerChange(Record):
    """A convolution or a linear layer of the original, and what became of it."""

    path: str
    kind: str
    before: LayerFigures
    after: LayerFigures | None
    """None where it is gone."""
    done: str
    """What was done to it, in words; empty where it is as it was."""


class SlimmingRecord(Record):
    """How a network was slimmed: slimming.json."""

    depthwise: str
    network: str
    budget: str
    measure: Measure
    limit: float
    """What it might cost, by the measure."""
    moves: tuple[str, ...]
    data: str
    rounds: tuple[RoundRecord, ...]
    before: Figures
    after: Figures
    ratio: float | None
    """How many times as fast as the original it is, measured in turns."""
    recovery: RecoveryRecord | None = None
    notes: tuple[str, ...] = ()
    layers: tuple[LayerChange, ...] = ()
    """The original's convolutions and linear layers, in order, before and after."""
    left_alone: dict[str, str] = Field(default_factory=dict)
    """Layers that no move may change, by their paths, and why."""
    pinned: dict[str, str] = Field(default_factory=dict)
    """Layers that keep all channels that they give, by their paths, and why."""
    unknown: dict[str, str] = Field(default_factory=dict)
    """Operators that are not known and stay as they are, by the paths of their modules."""
    frozen: tuple[str, ...] = ()
    """Weights that were frozen (requires_grad=False), and are still."""

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every change that was made, in order."""
        return tuple(step for each in self.rounds for step in each.steps)


def say_untouched(
    left_alone: Mapping[str, str], pinned: Mapping[str, str], returned: str
) -> Iterator[str]:
    """Yield a sentence each on layers that are left alone, and that keep their channels, and why.

    That a network keeps the channels which it returns (`returned`) goes without saying.
    """
    kept = {path: reason for path, reason in pinned.items() if reason != returned}
    for said, found in (("left alone", left_alone), ("keep all channels that they give", kept)):
        if found:
            named = [f"{path} ({reason})" for path, reason in list(found.items())[:NAMED]]
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            yield f"{said}: {', '.join(named)}{more}"


class CurvePoint(Record):
    """One choice of changes: what is left of the cost, the damage estimated, how many they are."""

    cost: float
    damage: float
    steps: int


class TradeoffCurve(Record):
    """Costs that one choice among all changes can reach, the largest first, and their damage.

    It is estimated: changes are measured one at a time, and none is made on top of another. The
    search makes them in rounds, goes further, and measures what comes of it.
    """

    network: str
    measure: Measure
    original: float
    """The cost of the network as it is."""
    points: tuple[CurvePoint, ...]
