"""Image files of which the classes are known: what folders and lists of labels have in common."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from depthwise.errors import nearest
from depthwise.files.cache import hash_bytes
from depthwise.training.data.dataset import Dataset, ImageSplit
from depthwise.training.data.duplicates import find_copies, note_copies
from depthwise.training.data.split import split_off
from depthwise.weights.pictures import check_file

# What people call the three, in small letters: as folders, and in a column.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
ENDING = 4096  # bytes: two images that have the same are compared whole
NAMED = 5  # things that a message names


@dataclass(frozen=True)
class LabelledFile:
    """An image file and its class."""

    path: str
    label: str


class FileImages:
    """Image files, each read when it is asked for."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        """How many there are."""
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path of one."""
        return self._paths[index]

    def read(self, index: int) -> bytes:
        """Return the bytes of one. Raises ValueError for what is no file, or is empty."""
        check_file(self._paths[index])
        return Path(self._paths[index]).read_bytes()

    def fingerprint(self) -> str:
        """Return a text that differs once a file has another path, size or time of change."""
        rows = [f"{os.path.abspath(path)}\0{_size_and_time(path)}" for path in self._paths]
        return hash_bytes("\n".join(rows).encode(errors="surrogateescape"))

    def size(self, index: int) -> int:
        """Return how many bytes a file has; -1 where there is none."""
        size, _ = _size_and_time(self._paths[index])
        return size

    def ending(self, index: int) -> bytes:
        """Return the last bytes of a file."""
        with open(self._paths[index], "rb") as file:
            file.seek(max(0, self.size(index) - ENDING))
            return file.read()


def dataset_of_files(
    name: str, found: Mapping[str, Sequence[LabelledFile]], seed: int, notes: Sequence[str] = ()
) -> Dataset:
    """Return files as a set, with images set aside for validation where it has none.

    Args:
        name: What messages call the set.
        found: The files of "train", "validation" and "test"; a split without files may be missing.
        seed: Of the images that are set aside.
        notes: What was found before.

    Raises ValueError for a set that no network can be trained on.
    """
    train = found.get("train", ())
    classes = tuple(sorted({file.label for file in train}))
    _check(name, found, classes)
    parts = {split: _as_split(files, classes) for split, files in found.items() if files}
    if "validation" not in parts:
        parts |= _set_aside(name, parts["train"], seed)
    dataset = Dataset(
        name, classes, parts["train"], parts["validation"], parts.get("test"), tuple(notes)
    )
    said = *dataset.notes, *_unseen_classes(dataset), *note_copies(dataset)
    return replace(dataset, notes=said)


def listed(names: Sequence[object]) -> str:
    """Return the first few of some names, and how many more there are."""
    text = ", ".join(map(str, names[:NAMED]))
    return text if len(names) <= NAMED else f"{text} and {len(names) - NAMED} more"


def _check(name: str, found: Mapping[str, Sequence[LabelledFile]], classes: Sequence[str]) -> None:
    if not any(found.values()):
        raise ValueError(f"{name} has no images")
    if not classes:
        others = " and ".join(split for split, files in found.items() if files)
        raise ValueError(f"{name} has images for {others}, and none for training")
    for split in ("validation", "test"):
        strange = sorted({file.label for file in found.get(split, ())} - set(classes))
        if strange:
            raise ValueError(
                f"{name} has classes for {split} that have no images for training: "
                f"{listed(strange)}; classes are matched by name "
                f"({strange[0]}: {nearest(strange[0], classes)})"
            )
    if len(classes) == 1:
        raise ValueError(
            f"{name} has one class only, {classes[0]}: there is nothing to tell apart; give images "
            "of two classes or more"
        )


def _as_split(files: Sequence[LabelledFile], classes: Sequence[str]) -> ImageSplit:
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[file.label] for file in files], np.int64)
    return ImageSplit(FileImages([file.path for file in files]), labels)


def _set_aside(name: str, split: ImageSplit, seed: int) -> dict[str, ImageSplit]:
    """Return a split as two, for training and validation; what stands twice in it stays."""
    stay = np.zeros(len(split.labels), bool)
    for group in find_copies([split.images]):
        stay[[index for _, index in group]] = True
    both = split_off(split.labels, seed=seed, stay=stay)
    if not len(both[1]):
        raise ValueError(
            f"{name} has no class with two different images, so that none can be set aside for "
            "validation: give more images"
        )
    paths = [split.images.name(index) for index in range(len(split.images))]
    return {
        part: ImageSplit(FileImages([paths[index] for index in chosen]), split.labels[chosen])
        for part, chosen in zip(("train", "validation"), both, strict=True)
    }


def _unseen_classes(dataset: Dataset) -> list[str]:
    """Return a sentence for each split that has no images of some classes."""
    notes = []
    for name, split in (("validation", dataset.validation), ("test", dataset.test)):
        seen = set() if split is None else set(split.labels.tolist())
        missing = [label for number, label in enumerate(dataset.classes) if number not in seen]
        if split is not None and missing:
            notes.append(f"no {name} image is of {listed(missing)}: nothing is known of such")
    return notes


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def count_suffixes(paths: Sequence[str]) -> str:
    """Return which kinds of files there are, the most frequent first: 30 .npy, 2 without."""
    kinds = Counter(Path(path).suffix.lower() or "without a suffix" for path in paths)
    return listed([f"{count} {kind}" for kind, count in kinds.most_common()])
