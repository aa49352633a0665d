"""What is kept of each step: which change was made, why, what it was to cost and what it did."""

from depthwise.files.record import Record


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
