"""What the parts of training know of labelled images: their types."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

ENDING = 4096  # bytes of an image's end: where these are the same, whole images are compared


class ImageSource(Protocol):
    """Images by their index, each read when it is asked for, by several threads at once."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def name(self, index: int) -> str:
        """What messages call an image: its path, or where it lies in another file."""
        ...

    def read(self, index: int) -> bytes | np.ndarray:
        """Return a file's bytes, as yet encoded, or pixels of uint8: (H, W) or (H, W, 3)."""
        ...


@runtime_checkable
class StoredImages(ImageSource, Protocol):
    """Images that lie on a disk: known to be the same as before without being read."""

    def fingerprint(self) -> str:
        """Return a text that differs as soon as any image was changed, added or taken away."""
        ...

    def size(self, index: int) -> int:
        """How many bytes an image has."""
        ...

    def ending(self, index: int) -> bytes:
        """Return its last ENDING bytes; all of them where there are fewer."""
        ...


class DivisibleImages(ImageSource, Protocol):
    """Images of which some can be set aside."""

    def chosen(self, indices: np.ndarray) -> ImageSource:
        """Return some of them, in the order of their indices, as a source of the same kind."""
        ...


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images of one purpose, with the class of each.

    Attributes:
        images: The images.
        labels: The index of each one's class, (N,) of int64.
    """

    images: ImageSource
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training, for choosing, and for the one judgement at the end.

    Attributes:
        name: What the user calls it.
        classes: The classes' names, in the order of the labels.
        train: What a network learns from.
        validation: What epochs and settings are chosen on.
        test: What is read once, at the end; None where there is none.
        notes: Sentences on what was found, such as images that stand in two splits.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for classes or labels of which nothing can be learned."""
        names = {name for name in self.classes if isinstance(name, str)}
        if len(names) != len(self.classes) or len(names) < 2:
            raise ValueError(
                f"{self.name} has the classes {list(self.classes)[:5]}: two different names or "
                "more are accepted"
            )
        for called, split in (
            ("train", self.train), ("validation", self.validation), ("test", self.test)
        ):  # fmt: skip
            if split is not None:
                _check_labels(f"the {called} images of {self.name}", split, len(names))


def _check_labels(what: str, split: ImageSplit, classes: int) -> None:
    labels, count = np.asarray(split.labels), len(split.images)
    if not count or labels.shape != (count,):
        raise ValueError(
            f"{what}: {count} with labels of the shape {labels.shape}: a label for each of them is "
            "accepted, of one image or more"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{what} have labels of {labels.dtype}, from {labels.min()} to {labels.max()}: whole "
            f"numbers from 0 to {classes - 1} are accepted, the places of their classes"
        )
