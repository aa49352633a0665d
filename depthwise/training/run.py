"""A run: the directory that training leaves, and all that is read from it."""

from os import PathLike
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from depthwise import __version__
from depthwise.files.atomic import replace_text
from depthwise.training.adapt import Blueprint, build_again
from depthwise.training.recipe import Recipe
from depthwise.training.result import RunResult, read_result
from depthwise.weights import Preprocessing, load_weights

RECORD, RECIPE = "run.json", "recipe.toml"
BEST, LAST = "best.safetensors", "last.safetensors"
FORMAT = 1


class RunRecord(BaseModel):
    """What a run is of: run.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    depthwise: str = __version__
    network: str
    settings: dict[str, Any]
    weights: str
    """What the first weights are called; empty for random ones."""
    data: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    images: dict[str, int]
    """How many there are in each split."""
    notes: tuple[str, ...] = ()
    """What was found in the data, such as images that are left out."""
    teacher_accuracy: float | None = None
    """The share of the validation images that the teacher names rightly, where it names any."""

    @property
    def built(self) -> Blueprint:
        """What builds the network again."""
        return Blueprint(self.network, dict(self.settings))


class Run:
    """A directory with a trained network, how it was trained and how well.

    Attributes:
        directory: Where it is.
        record: What it is of.
        recipe: How it was trained.
    """

    def __init__(self, directory: Path, record: RunRecord, recipe: Recipe):
        self.directory, self.record, self.recipe = directory, record, recipe

    @classmethod
    def open(cls, directory: str | PathLike[str]) -> Self:
        """Open the run in a directory. Raises ValueError where there is none, or a damaged one."""
        folder = Path(directory)
        path = folder / RECORD
        if not path.is_file():
            raise ValueError(f"{folder} is no run: it has no {RECORD}")
        try:
            record = RunRecord.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise ValueError(f"{path} is damaged or of another version: {error}") from None
        return cls(folder, record, Recipe.read(folder / RECIPE))

    @staticmethod
    def check_free(directory: Path) -> None:
        """Raise ValueError where a new run cannot be in a directory."""
        if (directory / RECORD).exists():
            raise ValueError(
                f"{directory} holds a run already: go on with it (--resume), or choose "
                "another directory"
            )
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"{directory} is a file, and no directory for a run")

    def check_images(self, classes: tuple[str, ...], counts: dict[str, int]) -> None:
        """Raise ValueError where images are not those that the run began with."""
        if classes != self.record.classes:
            raise ValueError(
                f"{self.directory} learned the classes {', '.join(self.record.classes)}, and "
                f"{self.record.data} has {', '.join(classes)} now"
            )
        if counts != self.record.images:
            raise ValueError(
                f"{self.directory} began with {_said(self.record.images)}, and {self.record.data} "
                f"has {_said(counts)} now: train again from its weights, with --weights "
                f"{self.directory / BEST}"
            )

    @classmethod
    def begin(cls, directory: Path, record: RunRecord, recipe: Recipe) -> Self:
        """Return a new run, whose directory is no run's before `enter` is called.

        Raises OSError where it cannot be made.
        """
        directory.mkdir(parents=True, exist_ok=True)
        replace_text(directory / RECIPE, recipe.toml())
        return cls(directory, record, recipe)

    def enter(self) -> None:
        """Make the directory this run's: its first state is there. Raises OSError."""
        replace_text(self.directory / RECORD, self.record.model_dump_json(indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return (self.directory / RECORD).is_file()

    @property
    def result(self) -> RunResult | None:
        """How well it did; None where it is not finished."""
        return read_result(self.directory)

    def network(self, weights: str = BEST) -> nn.Module:
        """Return the trained network, in evaluation mode.

        Raises ValueError where the run has no such weights yet.
        """
        path = self.directory / weights
        if not path.is_file():
            raise ValueError(
                f"{self.directory} has no weights yet: resume it until its first epoch ends"
            )
        net = build_again(self.record.built, len(self.record.classes))
        load_weights(net, path)
        return net.eval()


def _said(counts: dict[str, int]) -> str:
    return " and ".join(f"{number} images of {name}" for name, number in counts.items())
