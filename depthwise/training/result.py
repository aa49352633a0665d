"""How well a run did, judged on the validation split, and once on the test split."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from depthwise.files.atomic import replace_text
from depthwise.files.record import first_fault
from depthwise.sources.run_folder import damaged
from depthwise.training.evaluation import Evaluation, interval

FILE = "result.json"


class ClassResult(BaseModel):
    """One class of a split: how many images it has, and how many of them were named rightly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    images: int
    right: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share that is named rightly."""
        return interval(self.right, self.images)


class SplitResult(BaseModel):
    """How right a network is on a split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    right: int
    loss: float
    """Mean cross entropy in nats."""
    classes: tuple[ClassResult, ...]

    @classmethod
    def of(cls, found: Evaluation) -> Self:
        """Return what an evaluation comes to."""
        table = found.confusion
        classes = tuple(
            ClassResult(name=name, images=int(row.sum()), right=int(row[place]))
            for place, (name, row) in enumerate(zip(found.classes, table, strict=True))
        )
        right = int(found.right.sum())
        return cls(images=len(found.labels), right=right, loss=found.loss, classes=classes)

    @property
    def accuracy(self) -> float:
        """The share of images that are named rightly."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return interval(self.right, self.images)

    def __str__(self) -> str:
        """Return the accuracy in words."""
        low, high = self.interval
        return f"{self.accuracy:.2%} of {self.images:,} (95 %: {100 * low:.1f} to {100 * high:.1f})"


class RunResult(BaseModel):
    """What a finished run came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    """The epoch whose weights are the best."""
    seconds: float
    """Of training and judging."""
    validation: SplitResult
    test: SplitResult | None
    """Read once, at the end; None where there is no test split."""


def write_result(directory: Path, result: RunResult) -> None:
    """Keep a run's result in its directory. Raises OSError where it cannot be written."""
    replace_text(directory / FILE, result.model_dump_json(indent=1) + "\n")


def read_result(directory: Path) -> RunResult | None:
    """Return the result of a run; None where it is not finished.

    Raises ValueError for a file that is damaged.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None
