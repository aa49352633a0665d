"""Folders with the images of a class each, with or without train/, validation/ and test/."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from depthwise.escaping import counted
from depthwise.training.data.assembling import SPLIT_NAMES, listed
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.decode import IMAGE_SUFFIXES
from depthwise.training.data.labelled_files import (
    LabelledFile,
    count_suffixes,
    dataset_of_files,
)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, hidden files apart: paths, each in alphabetical order."""

    folders: tuple[str, ...]
    images: tuple[str, ...]
    others: tuple[str, ...]


def open_folder(path: str, seed: int) -> Dataset:
    """Return the images below a folder. Raises ValueError where they are no set to train on."""
    listing = list_folder(path)
    splits = _splits(path, listing)
    notes: list[str] = []
    found: dict[str, list[LabelledFile]] = {}
    if splits:
        unused = set(listing.folders) - set(splits.values())
        if unused:
            notes.append(f"not used: {listed(sorted(unused))}, beside the folders of the splits")
        for split, folder in splits.items():
            found[split] = _labelled(folder, list_folder(folder), split == "train", notes)
    else:
        found["train"] = _labelled(path, listing, True, notes)
    return dataset_of_files(path, found, seed, notes)


def list_folder(path: str) -> Listing:
    """Return what lies in a folder. Raises ValueError where it cannot be read."""
    folders, images, others = [], [], []
    for entry in entries_of(path):
        if entry.name == "__MACOSX":
            continue
        if os.path.isdir(entry.path):  # not entry.is_dir(), which fails at a link to itself
            folders.append(entry.path)
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            images.append(entry.path)
        else:
            others.append(entry.path)
    return Listing(tuple(folders), tuple(images), tuple(others))


def entries_of(folder: str) -> list[os.DirEntry[str]]:
    """Return what lies in a folder by name, hidden files apart.

    Raises ValueError where it cannot be read.
    """
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(found, key=lambda entry: entry.name)


def _splits(path: str, listing: Listing) -> dict[str, str]:
    """Return the folder of each split; none where the folders are classes.

    A class may be called train: it then has images and no folders, and other classes beside it.
    """
    splits: dict[str, str] = {}
    named = [folder for folder in listing.folders if _split_name(folder)]
    if not any(list_folder(folder).folders for folder in named) and (
        len(named) < len(listing.folders)
    ):
        return {}
    for folder in named:
        split = _split_name(folder)
        if split in splits:
            raise ValueError(
                f"{path} has two folders for {split}: {os.path.basename(splits[split])} and "
                f"{os.path.basename(folder)}; keep one"
            )
        splits[split] = folder
    return {split: splits[split] for split in SPLIT_NAMES if split in splits}


def _split_name(folder: str) -> str:
    return SPLIT_NAMES.get(os.path.basename(folder).lower(), "")


def _labelled(path: str, listing: Listing, learned: bool, notes: list[str]) -> list[LabelledFile]:
    """Return the images of a folder of classes, and add to the notes what is not used.

    Args:
        path: The folder.
        listing: What lies in it.
        learned: Whether a class without images is refused.
        notes: Where sentences are added.
    """
    if not listing.folders:
        _refuse_without_classes(path, listing)
    if listing.images:
        notes.append(
            f"not used: {counted(len(listing.images), 'image')} in no class's folder "
            f"({listed(listing.images)})"
        )
    found: list[LabelledFile] = []
    others: list[str] = []
    for folder in listing.folders:
        _refuse_splits_within(folder)
        images, beside = _below(folder)
        if not images and learned:
            kinds = f"only {count_suffixes(beside)}" if beside else "nothing"
            raise ValueError(
                f"the class {os.path.basename(folder)} has no images: there is {kinds} in "
                f"{folder}; put images there, or remove the folder"
            )
        found += [LabelledFile(image, os.path.basename(folder)) for image in images]
        others += beside
    if others:
        notes.append(f"not used: files of other kinds in {path} ({count_suffixes(others)})")
    return found


def _refuse_splits_within(folder: str) -> None:
    """Refuse a class's folder that is a whole set, or that is itself divided into splits."""
    splits = _splits(folder, list_folder(folder))
    if not splits:
        return
    names = ", ".join(os.path.basename(inner) for inner in splits.values())
    if any(list_folder(inner).folders for inner in splits.values()):
        raise ValueError(f"{folder} holds {names}, and not the images of a class: give {folder}")
    raise ValueError(
        f"{folder} is divided into {names} within a class: put the folders of the classes into "
        "those of the splits, as in train/" + os.path.basename(folder)
    )


def _refuse_without_classes(path: str, listing: Listing) -> None:
    if listing.images:
        raise ValueError(
            f"{path} has {counted(len(listing.images), 'image')} and no classes: put the images of "
            "each class into a folder of its name, or give a CSV file with the columns path and "
            "label"
        )
    kinds = f"only {count_suffixes(listing.others)}" if listing.others else "nothing"
    raise ValueError(
        f"{path} has no images: there is {kinds} in it; give a folder that has a folder of images "
        "for each class"
    )


def _below(folder: str) -> tuple[list[str], list[str]]:
    """Return the images in a folder and in the folders within it, and the files of other kinds."""
    images: list[str] = []
    others: list[str] = []
    for listing in _walk(folder, set()):
        images += listing.images
        others += listing.others
    return images, others


def _walk(folder: str, seen: set[str]) -> Iterator[Listing]:
    """Yield a folder's listing and those of all within it, each once: links may make circles."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    listing = list_folder(folder)
    yield listing
    for inner in listing.folders:
        yield from _walk(inner, seen)
