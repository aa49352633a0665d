"""What a report tells of how right a network and its library are."""

from depthwise.report.record import StageRecord
from depthwise.training.result import SplitResult


class AccuracyRecord(StageRecord):
    """How right the network and its library are on the same labelled images.

    `network` is None where there were no such images, `library` where it cannot be run here. Both
    name the same class in `equal` images; in `ties` others two classes' scores are as good as the
    same, and `different` names the rest. `left_out` counts images that cannot be read.
    """

    stage = "accuracy"

    data: str
    split: str
    network: SplitResult | None
    library: SplitResult | None = None
    left_out: int = 0
    equal: int = 0
    ties: int = 0
    different: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
