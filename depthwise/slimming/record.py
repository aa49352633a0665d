"""What is kept of each step: which change was made, why, what it was to cost and what it did."""

from depthwise.files.record import Record
from depthwise.slimming.budget import Measure


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
    """The share of images that it names as the original does: of those, else of the held-out."""

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

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every change that was made, in order."""
        return tuple(step for each in self.rounds for step in each.steps)
