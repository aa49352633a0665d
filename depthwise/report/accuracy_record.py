"""What a report tells of how right a network and its library are."""

from depthwise.files.record import Record
from depthwise.report.record import StageRecord


class ClassAccuracy(Record):
    """One class: how many images it has, how many are named rightly, their share, its interval."""

    name: str
    images: int
    right: int
    accuracy: float
    interval: tuple[float, float]


class Rightness(Record):
    """How many images are named rightly, with the 95 % interval of the share."""

    images: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    classes: tuple[ClassAccuracy, ...]


class AccuracyRecord(StageRecord):
    """How right the network and its library are on the same labelled images.

    `network` is None where there were no such images, `library` where it cannot be run here. Both
    name the same class in `equal` images; in `ties` others two classes' scores are as good as the
    same, and `different` names the rest. `left_out` counts images that cannot be read.
    """

    stage = "accuracy"

    data: str
    split: str
    network: Rightness | None
    library: Rightness | None = None
    left_out: int = 0
    equal: int = 0
    ties: int = 0
    different: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
