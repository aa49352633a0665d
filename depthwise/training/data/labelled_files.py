"""Image files of which the classes are known: what folders and lists of labels have in common."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthwise.files.cache import hash_bytes
from depthwise.training.data.assembling import LabelledImages, assemble, listed
from depthwise.training.data.dataset import ENDING, Dataset
from depthwise.weights.pictures import check_file


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

    def chosen(self, indices: np.ndarray) -> "FileImages":
        """Return some of them, in the order of their indices."""
        return FileImages([self._paths[int(index)] for index in indices])

    def read(self, index: int) -> bytes:
        """Return the bytes of one. Raises ValueError for what is no file, or cannot be read."""
        check_file(self._paths[index])
        try:
            return Path(self._paths[index]).read_bytes()
        except OSError as error:
            raise ValueError(f"{self._paths[index]} cannot be read: {error.strerror}") from None

    def fingerprint(self) -> str:
        """Return a text that differs once a file has another path, size or time of change."""
        rows = [f"{os.path.abspath(path)}\0{_size_and_time(path)}" for path in self._paths]
        return hash_bytes("\0".join(rows).encode(errors="surrogateescape"))

    def size(self, index: int) -> int:
        """Return how many bytes a file has; -1 where there is none."""
        size, _ = _size_and_time(self._paths[index])
        return size

    def ending(self, index: int) -> bytes:
        """Return the last bytes of a file. Raises ValueError for what is no file, or is empty."""
        check_file(self._paths[index])
        with open(self._paths[index], "rb") as file:
            file.seek(max(0, self.size(index) - ENDING))
            return file.read()


def dataset_of_files(
    name: str, found: Mapping[str, Sequence[LabelledFile]], seed: int, notes: Sequence[str] = ()
) -> Dataset:
    """Return files as a set: `assemble` says how, and when it raises ValueError.

    Args:
        name: What messages call the set.
        found: The files of "train", "validation" and "test"; a split without files may be missing.
        seed: Of the images that are set aside.
        notes: What was found before.
    """
    parts = {
        split: LabelledImages(
            FileImages([file.path for file in files]), [file.label for file in files]
        )
        for split, files in found.items()
    }
    return assemble(name, parts, seed=seed, notes=notes)


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
