"""What a report tells of stages that change the network: how it was trained, how it was slimmed."""

from depthwise.report.record import StageRecord
from depthwise.report.slimming_record import SlimmingRecord
from depthwise.training.result import SplitResult


class TrainingStageRecord(StageRecord):
    """How the network was trained before all else; the weights are those of `epoch`."""

    stage = "train"

    data: str
    seconds: float
    epoch: int
    validation: SplitResult
    test: SplitResult | None


class SlimmingStageRecord(StageRecord):
    """How the network was slimmed; `network` names what came of it, as every verb takes it."""

    stage = "slim"

    found: SlimmingRecord
    network: str
