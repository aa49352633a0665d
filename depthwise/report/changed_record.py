"""What a report tells of stages that change the network: how it was trained, how it was slimmed."""

from depthwise.report.record import StageRecord
from depthwise.report.slimming_record import SlimmingRecord
from depthwise.training.result import SplitResult


class TrainingStageRecord(StageRecord):
    """How the network was trained before all else; `validation` is None where it was not."""

    stage = "train"

    data: str = ""
    seconds: float = 0.0
    epoch: int = 0
    """That whose weights were taken."""
    validation: SplitResult | None = None
    test: SplitResult | None = None


class SlimmingStageRecord(StageRecord):
    """How the network was slimmed; `found` is None where no budget was given.

    `network` names what came of it, as every verb takes it.
    """

    stage = "slim"

    found: SlimmingRecord | None = None
    network: str = ""
