"""WebDataset shards: tar files of images and their labels, for what does not fit in memory."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from depthwise.errors import nearest
from depthwise.progress import track
from depthwise.training.data.assembling import SPLIT_NAMES, LabelledImages, assemble, listed
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.shard_images import ShardImages
from depthwise.training.data.shard_paths import find_shards, splits_of
from depthwise.training.data.tar_index import ShardIndex, index_shard

CLASS_FILES = ("classes.txt", "classnames.txt")
_NUMBER = re.compile("[0-9]{1,18}")


def open_shards(data: str, seed: int) -> Dataset:
    """Return the images of shards.

    Args:
        data: One shard; several, as in `train-{000..009}.tar` or `{train,val}-0.tar`; or a folder
            of shards, or of the folders train, validation and test with shards.
        seed: Of the images that are set aside, where none are for validation.

    Raises ValueError for shards that are damaged or compressed, and for labels that do not fit.
    """
    paths = find_shards(data)
    splits = splits_of(data, paths)
    shards = {
        path: index_shard(path) for path in track(paths, f"reading what {len(paths)} shards hold")
    }
    listed_classes = _read_classes(data, paths)
    names = _class_of_each(data, shards, listed_classes)
    found = {}
    for split in dict.fromkeys(splits):
        own = {path: shards[path] for path, of in zip(paths, splits, strict=True) if of == split}
        labels = [names[label] for shard in own.values() for label in shard.labels]
        found[split] = LabelledImages(ShardImages.of(own), labels)
    notes = [note for shard in shards.values() for note in shard.notes]
    order = listed_classes or sorted(set(names.values()), key=_numbers_by_size)
    return assemble(data, found, seed=seed, classes=order, notes=notes)


def _read_classes(data: str, paths: Sequence[str]) -> list[str]:
    """Return the names in a file of classes beside the shards; none where there is no file."""
    folders = {os.path.dirname(path) for path in paths}
    folders |= {
        os.path.dirname(each) for each in folders if os.path.basename(each).lower() in SPLIT_NAMES
    }
    files = [Path(folder, name) for folder in sorted(folders) for name in CLASS_FILES]
    files = [file for file in files if file.is_file()]
    if not files:
        return []
    try:
        texts = {file.read_text(encoding="utf-8-sig").strip() for file in files}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{data}: its file of classes cannot be read: {error}") from None
    if len(texts) > 1:
        raise ValueError(f"{listed(files)} name other classes: keep one of them")
    names = [line.strip() for line in texts.pop().splitlines()]
    if len(set(names)) < len(names) or not all(names):
        raise ValueError(f"{files[0]} has a class twice, or a line without a name")
    return names


def _class_of_each(
    data: str, shards: Mapping[str, ShardIndex], classes: Sequence[str]
) -> dict[str, str]:
    """Return the name of the class that each label stands for.

    A number is a class's place among `classes`, counted from 0, or its name where there are none.
    Raises ValueError for a label that stands for no class, or for one or another.
    """
    labels = {label for shard in shards.values() for label in shard.labels}
    numbers = {label for label in labels if _NUMBER.fullmatch(label)}
    if not classes:
        negative = {label for label in labels if re.fullmatch("-[0-9]+", label)}
        _refuse(data, shards, negative, classes)
        if numbers and numbers != labels:
            raise ValueError(
                f"{data}: labels are numbers at {_holder(shards, numbers)} and names at "
                f"{_holder(shards, labels - numbers)}: write one of the two, or put a "
                f"{CLASS_FILES[0]} beside the shards"
            )
        return {label: str(int(label)) if numbers else label for label in labels}
    by_name = {label: label for label in labels if label in classes}
    by_place = {label: classes[int(label)] for label in numbers if int(label) < len(classes)}
    if len(by_name) == len(by_place) == len(labels) and by_name != by_place:
        raise ValueError(
            f"{data}: the classes that {CLASS_FILES[0]} names are numbers in another order than "
            "their own, so that a label may be a name or a place: put them in order"
        )
    names = by_place if len(by_place) >= len(by_name) else by_name
    _refuse(data, shards, labels - set(names), classes)
    return names


def _refuse(
    data: str, shards: Mapping[str, ShardIndex], strange: Collection[str], classes: Sequence[str]
) -> None:
    """Raise ValueError if there are labels that stand for no class."""
    if not strange:
        return
    label = min(strange)
    accepted = "numbers from 0 on"
    if classes:
        accepted = f"0 to {len(classes) - 1} or a name of its file ({nearest(label, classes)})"
    raise ValueError(
        f"{data}: {_holder(shards, strange)} has the label {label}, and no class is that: "
        f"expected {accepted}"
    )


def _holder(shards: Mapping[str, ShardIndex], labels: Collection[str]) -> str:
    """Return the name of the first image that has one of these labels; the first of them alone."""
    wanted = min(labels)
    return next(
        f"{path}/{shard.names[shard.labels.index(wanted)]}"
        for path, shard in shards.items()
        if wanted in shard.labels
    )


def _numbers_by_size(name: str) -> tuple[int, str]:
    return (int(name), "") if _NUMBER.fullmatch(name) else (0, name)
