"""How well a run did, judged on the validation split, and once on the test split."""

import math
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    computed_field,
    field_serializer,
    model_validator,
)

from depthwise.files.atomic import replace_text
from depthwise.files.record import first_fault
from depthwise.sources.run_folder import damaged
from depthwise.training.evaluation import Evaluation, interval

FILE = "result.json"


class Rightness(BaseModel):
    """How many of some images are named rightly. The share and its interval are written, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    right: int

    @model_validator(mode="before")
    @classmethod
    def _count_again(cls, given: Any) -> Any:
        """Leave out of what is read that which follows from the rest."""
        if not isinstance(given, dict):
            return given
        return {key: each for key, each in given.items() if key not in cls.model_computed_fields}

    @computed_field
    @property
    def accuracy(self) -> float:
        """The share that is named rightly; NaN of no images, which is written as null."""
        return self.right / self.images if self.images else math.nan

    @field_serializer("accuracy")
    def _write_accuracy(self, accuracy: float) -> float | None:
        return accuracy if self.images else None

    @computed_field
    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return interval(self.right, self.images)


class ClassResult(Rightness):
    """How right a network is on a class of a split."""

    name: str


class SplitResult(Rightness):
    """How right a network is on a split."""

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
