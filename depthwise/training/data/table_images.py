"""Encoded images in a column of an Arrow table, which lies in files that are mapped to memory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthwise.files.cache import hash_bytes
from depthwise.training.data.dataset import ENDING
from depthwise.weights.pictures import check_file


@dataclass(frozen=True, eq=False)
class TableImages:
    """Some rows of a table.

    Attributes:
        where: What messages call the table.
        encoded: The bytes of each image, or null: a chunked array of pyarrow.
        paths: The path of each, or null; None where there is no such column.
        sizes: How many bytes each has, 0 for null.
        files: What the table lies in.
        rows: Which rows these are.
    """

    where: str
    encoded: Any
    paths: Any
    sizes: np.ndarray
    files: Sequence[str]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Return where an image lies, its row counted from 0, and its path if that is known."""
        path = self._path(index)
        return f"{self.where}, row {self.rows[index]}" + (f" ({path})" if path else "")

    def read(self, index: int) -> bytes:
        """Return an image's bytes, or those of the file that stands for it.

        Raises ValueError where there is neither, or that is no plain file.
        """
        content = self.encoded[int(self.rows[index])].as_py()
        if content:
            return content
        path = self._path(index)
        if content is not None or not path:
            raise ValueError(f"{self.name(index)} is empty")
        check_file(path)
        return Path(path).read_bytes()

    def size(self, index: int) -> int:
        """Return how many bytes an image has; 0 where it is a file apart."""
        return int(self.sizes[self.rows[index]])

    def ending(self, index: int) -> bytes:
        """Return the last bytes of an image."""
        return self.read(index)[-ENDING:]

    def fingerprint(self) -> str:
        """Return a text that differs once a file of the table has another size or time."""
        stats = [(os.path.abspath(path), os.stat(path)) for path in self.files]
        stamps = [f"{path}\0{stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        stamps = "\n".join([self.where, *stamps])
        return f"{hash_bytes(stamps.encode())} {hash_bytes(self.rows.tobytes())}"

    def chosen(self, indices: np.ndarray) -> "TableImages":
        """Return some of them, in the order of their indices."""
        return TableImages(
            self.where, self.encoded, self.paths, self.sizes, self.files, self.rows[indices]
        )

    def _path(self, index: int) -> str | None:
        return None if self.paths is None else self.paths[int(self.rows[index])].as_py()
