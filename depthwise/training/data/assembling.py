"""A set made of what was found for its splits: what all kinds of data have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthwise.errors import nearest
from depthwise.escaping import in_line, is_text
from depthwise.training.data.dataset import Dataset, DivisibleImages, ImageSplit
from depthwise.training.data.duplicates import find_copies, note_copies
from depthwise.training.data.split import split_off

# What people call the three, in small letters: as folders, and in a column.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
NAMED = 5  # things that a message names


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, and what the class of each is called."""

    images: DivisibleImages
    labels: Sequence[str]


def assemble(
    name: str,
    found: Mapping[str, LabelledImages],
    *,
    seed: int,
    classes: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """Return images as a set, with some of them set aside for validation where it has none.

    Args:
        name: What messages call the set.
        found: Those of "train", "validation" and "test"; a split without images may be missing.
        seed: Of the images that are set aside.
        classes: The names in their order, of classes without images too, which are left out; None
            for those of the images, in alphabetical order.
        notes: What was found before.

    Raises ValueError for a set that no network can be trained on.
    """
    found = {split: part for split, part in found.items() if len(part.labels)}
    learned = set(found["train"].labels) if "train" in found else set()
    kept = tuple(label for label in classes or sorted(learned) if label in learned)
    _check(name, found, kept)
    parts = {split: _as_split(part, kept) for split, part in found.items()}
    if "validation" not in parts:
        parts |= _set_aside(name, found["train"].images, parts["train"].labels, seed)
    dataset = Dataset(
        name, kept, parts["train"], parts["validation"], parts.get("test"), tuple(notes)
    )
    unused = [label for label in classes or () if label not in learned]
    without = (f"no image is of {listed(unused)}: left out of the classes",) if unused else ()
    said = *dataset.notes, *without, *_unseen_classes(dataset), *note_copies(dataset)
    return replace(dataset, notes=said)


def listed(names: Sequence[object]) -> str:
    """Return the first few of some names, and how many more there are."""
    text = ", ".join(map(str, names[:NAMED]))
    return text if len(names) <= NAMED else f"{text} and {len(names) - NAMED} more"


def _check(name: str, found: Mapping[str, LabelledImages], classes: Sequence[str]) -> None:
    if not found:
        raise ValueError(f"{name} has no images")
    for label in sorted(set().union(*(part.labels for part in found.values()))):
        if not is_text(label):
            raise ValueError(
                f"{name}: the name of the class {in_line(label)} is not in UTF-8: rename it"
            )
    if not classes:
        others = " and ".join(found)
        raise ValueError(f"{name} has images for {others}, and none for training")
    for split, part in found.items():
        strange = sorted(set(part.labels) - set(classes))
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


def _as_split(part: LabelledImages, classes: Sequence[str]) -> ImageSplit:
    numbers = {label: number for number, label in enumerate(classes)}
    return ImageSplit(part.images, np.array([numbers[label] for label in part.labels], np.int64))


def _set_aside(
    name: str, images: DivisibleImages, labels: np.ndarray, seed: int
) -> dict[str, ImageSplit]:
    """Return images as two splits, training and validation; what stands twice in it stays."""
    stay = np.zeros(len(labels), bool)
    for group in find_copies([images]):
        stay[[index for _, index in group]] = True
    both = split_off(labels, seed=seed, stay=stay)
    if not len(both[1]):
        raise ValueError(
            f"{name} has no class with two different images, so that none can be set aside for "
            "validation: give more images"
        )
    return {
        part: ImageSplit(images.chosen(chosen), labels[chosen])
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
