"""What is requested: how to build a library, where, and the images to verify it with."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from depthwise.compiler.options import CompileOptions
from depthwise.precision.request import PrecisionRequest
from depthwise.progress import Say, silent
from depthwise.slimming.budget import Budget
from depthwise.slimming.request import SlimmingOptions
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.decode import IMAGE_SUFFIXES
from depthwise.training.keeper import Onlooker, Unseen

MOST_IMAGES = 16  # each is verified layer by layer, which takes a second


@dataclass(frozen=True, eq=False)
class SlimmingPlan:
    """A budget that a network is to meet, and how.

    Attributes:
        budget: What it may cost.
        data: A set of labelled images, the path of a folder of images alone, or None.
        options: How it is slimmed, and how long it is trained afterwards.
    """

    budget: Budget
    data: Dataset | str | None
    options: SlimmingOptions


@dataclass(frozen=True, eq=False)
class Request:
    """One call of `depthwise ship`, without the network itself, which goes from stage to stage.

    Attributes:
        name: What the user calls the network.
        build: How the library is built.
        directory: Where the library, the report and the state of finished stages go.
        command: A command that requests the same again.
        settings: The network's options as the user gave them.
        weights: What the user calls the weights; empty for the network's own.
        images: The images to verify the library with and to classify.
        left_out: How many more images the folder has.
        broken: For each image that cannot be read, a sentence that says why.
        data: Labelled images to judge the network and its library on.
        rounds: How often each runtime is timed.
        train: The seconds that it is trained on `data` before all else; None for no training.
        resolution: The side of the images that it is trained on; None fits it to them.
        asked: In what the library computes, and the images that decide it where they do.
        slim: What it is slimmed to; None where it stays as large as it is.
        say: Is told, in sentences, how training and slimming go.
        showing: Shows a training in a directory, as a context.
    """

    name: str
    build: CompileOptions
    directory: Path
    command: str
    settings: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    images: tuple[Path, ...] = ()
    left_out: int = 0
    broken: tuple[str, ...] = ()
    data: Dataset | None = None
    rounds: int = 5
    train: float | None = None
    resolution: int | None = None
    asked: PrecisionRequest = field(default_factory=PrecisionRequest)
    slim: SlimmingPlan | None = None
    say: Say = silent
    showing: Callable[[Path], AbstractContextManager[Onlooker]] = lambda _: nullcontext(Unseen())


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder and in its folders, by name, one of each folder in rotation."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    groups = (
        sorted(each for each in place.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
        for place in (folder, *inside)
    )
    return [path for row in zip_longest(*groups) for path in row if path and not path.is_dir()]


def find_images(folder: Path) -> tuple[tuple[Path, ...], int]:
    """Return the first images of a folder, as `list_images` orders them, and how many more it has.

    Raises:
        ValueError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: no such folder")
    found = list_images(folder)
    if not found:
        raise ValueError(f"--images {folder}: no image in it, of {', '.join(IMAGE_SUFFIXES)}")
    return tuple(found[:MOST_IMAGES]), max(0, len(found) - MOST_IMAGES)
