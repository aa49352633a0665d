"""Images that stand in a set more than once, found by their content."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from depthwise.files.cache import hash_bytes
from depthwise.training.data.dataset import Dataset, ImageSource, ImageSplit, StoredImages

NAMED = 3  # pairs that a note names

Place = tuple[int, int]  # a source's number, and the index of an image in it


def find_copies(sources: Sequence[ImageSource]) -> list[list[Place]]:
    """Return the groups of images with the same content, in the order of the first of each.

    Files are compared by their sizes first, then by their last bytes: few are read whole.
    """
    keys = [_keys(source) for source in sources]
    groups = [[(s, i) for s, source in enumerate(sources) for i in range(len(source))]]
    for step in range(3):
        groups = list(_divided(groups, lambda place, step=step: keys[place[0]][step](place[1])))
    return groups


def note_copies(dataset: Dataset) -> tuple[str, ...]:
    """Return sentences on images that stand in two splits, or in two classes.

    Nothing is left out for that: which of two copies is the wrong one, only a person can say.
    """
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    present = {name: split for name, split in splits.items() if split is not None}
    names, held = list(present), list(present.values())
    groups = find_copies([split.images for split in held])
    notes = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if other < len(held):
            notes += _across_splits(groups, held, names, one, other)
    return (*notes, *_across_classes(groups, held))


def _across_splits(
    groups: list[list[Place]], splits: list[ImageSplit], names: list[str], one: int, other: int
) -> list[str]:
    pairs, count = [], 0
    for group in groups:
        first = [place for place in group if place[0] == one]
        second = [place for place in group if place[0] == other]
        if first and second:
            count += len(second)
            pairs.append((first[0], second[0]))
    if not pairs:
        return []
    total = len(splits[other].images)
    return [
        f"{count} of the {total} {names[other]} images ({count / total:.1%}) stand in "
        f"{names[one]} as well ({_examples(pairs, splits)}): they say nothing of images that the "
        "network has not seen; remove them from one of the two"
    ]


def _across_classes(groups: list[list[Place]], splits: list[ImageSplit]) -> list[str]:
    pairs = []
    for group in groups:
        classes = {splits[split].labels[index]: (split, index) for split, index in reversed(group)}
        if len(classes) > 1:
            pairs.append(tuple(sorted(classes.values())[:2]))
    if not pairs:
        return []
    images = "1 image stands" if len(pairs) == 1 else f"{len(pairs)} images stand"
    return [
        f"{images} in more than one class ({_examples(pairs, splits)}): keep each in the class "
        "that is right"
    ]


def _examples(pairs: list[tuple[Place, ...]], splits: list[ImageSplit]) -> str:
    texts = [
        " = ".join(splits[split].images.name(index) for split, index in pair)
        for pair in pairs[:NAMED]
    ]
    more = [f"and {len(pairs) - NAMED} more"] if len(pairs) > NAMED else []
    return ", ".join([*texts, *more])


def _divided(
    groups: Iterable[list[Place]], key: Callable[[Place], Hashable]
) -> Iterable[list[Place]]:
    """Yield the parts of each group with the same key, of two or more."""
    for group in groups:
        parts = defaultdict(list)
        for place in group:
            with suppress(OSError, ValueError):  # unreadable: it is left out later, with a sentence
                parts[key(place)].append(place)
        yield from (part for part in parts.values() if len(part) > 1)


def _keys(source: ImageSource) -> tuple[Callable[[int], Hashable], ...]:
    """Return what images are compared by, the cheapest first."""
    content = partial(_content, source)
    if isinstance(source, StoredImages):
        return source.size, source.ending, content
    return _same, _same, content


def _same(index: int) -> Hashable:  # noqa: ARG001
    return 0


def _content(source: ImageSource, index: int) -> Hashable:
    content = source.read(index)
    if isinstance(content, np.ndarray):
        return content.shape, hash_bytes(content.tobytes())
    return hash_bytes(content)
