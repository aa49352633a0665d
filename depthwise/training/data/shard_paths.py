"""Which files are meant by the name of shards, and of which split each is."""

import math
import os
import re
from collections.abc import Sequence
from itertools import product

from depthwise.training.data.assembling import SPLIT_NAMES, listed
from depthwise.training.data.folder import entries_of

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")  # all but one refused
MOST_SHARDS = 100_000  # that braces may stand for

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_shards(data: str) -> bool:
    """Whether a text names shards: by its ending, or a folder by what lies in it."""
    return data.lower().endswith(SUFFIXES) or bool(os.path.isdir(data) and _in_folder(data))


def find_shards(data: str) -> list[str]:
    """Return the paths of the shards that a text names.

    Raises ValueError where one of them is missing, or the text has braces that mean nothing.
    """
    if os.path.isdir(data):
        return _in_folder(data)
    paths = [data] if os.path.exists(data) else expand_braces(data)
    if missing := [path for path in paths if not os.path.isfile(path)]:
        raise ValueError(f"{data}: no shard at {listed(missing)}")
    return paths


def splits_of(data: str, paths: Sequence[str]) -> list[str]:
    """Return the split of each shard: a word of its name, or its folder; else all are train."""
    found = [_split_of(path) for path in paths]
    if not any(found):
        return ["train"] * len(paths)
    if not all(found):
        bare, other = paths[found.index("")], next(path for path in paths if _split_of(path))
        raise ValueError(
            f"{data}: {other} is of the split {_split_of(other)}, by its name, and {bare} of none: "
            "name each shard after its split, as in train-000.tar, or none"
        )
    return found


def expand_braces(pattern: str) -> list[str]:
    """Return the paths that braces stand for: {000..009} numbers, {train,val} words.

    Raises ValueError for braces with something else, or that stand for too many.
    """
    pieces = _BRACES.split(pattern)
    choices = [[piece] if number % 2 == 0 else _choices(pattern, piece)
               for number, piece in enumerate(pieces)]  # fmt: skip
    if math.prod(map(len, choices)) > MOST_SHARDS:
        raise ValueError(f"{pattern} stands for more than {MOST_SHARDS:,} shards")
    return ["".join(each) for each in product(*choices)]


def _choices(pattern: str, inside: str) -> Sequence[str]:
    """Return what one pair of braces stands for."""
    if found := _RANGE.fullmatch(inside):
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        if 0 < len(numbers) <= MOST_SHARDS:
            width = len(first) if first.startswith("0") else 0
            return [f"{number:0{width}d}" for number in numbers]
    elif "," in inside:
        return inside.split(",")
    raise ValueError(
        f"{pattern}: braces hold numbers, as in {{000..009}}, at most {MOST_SHARDS:,} of them, or "
        f"words, as in {{train,val}}; found {{{inside}}}"
    )


def _in_folder(folder: str) -> list[str]:
    """Return the shards in a folder, or in its folders of splits; none where it has other folders.

    A tar file beside folders of images is what these came in.
    """
    folders = [entry for entry in entries_of(folder) if entry.is_dir()]
    homes = [entry.path for entry in folders if entry.name.lower() in SPLIT_NAMES]
    return [
        entry.path
        for home in (homes if folders else [folder])
        for entry in entries_of(home)
        if entry.name.lower().endswith(SUFFIXES)
    ]


def _split_of(path: str) -> str:
    """Return the split that a shard's name says, or that of its folder; "" for neither."""
    folder, name = os.path.split(path)
    words = re.findall("[a-z]+", name.lower())
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    if len(splits) > 1:
        raise ValueError(f"{path} says two splits, {' and '.join(sorted(splits))}: rename it")
    return splits.pop() if splits else SPLIT_NAMES.get(os.path.basename(folder).lower(), "")
