"""Images in WebDataset shards, each read by itself, in any order."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from depthwise.files.cache import hash_bytes
from depthwise.training.data.dataset import ENDING
from depthwise.training.data.tar_index import ShardIndex, stamp_of


@dataclass(frozen=True, eq=False)
class ShardImages:
    """Some images of some shards.

    Attributes:
        paths: The shards.
        indices: What lies in each of them.
        places: For each image the number of its shard and its number there, (N, 2).
    """

    paths: Sequence[str]
    indices: Sequence[ShardIndex]
    places: np.ndarray

    @classmethod
    def of(cls, shards: Mapping[str, ShardIndex]) -> Self:
        """Return all images of shards, in their order."""
        sizes = [len(shard.names) for shard in shards.values()]
        rows = [np.full(size, number) for number, size in enumerate(sizes)]
        numbers = [np.arange(size) for size in sizes]
        places = np.stack([np.concatenate(rows), np.concatenate(numbers)], axis=1)
        return cls(tuple(shards), tuple(shards.values()), places)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Return where an image lies: its shard, and its name there."""
        shard, number = self.places[index]
        return f"{self.paths[shard]}/{self.indices[shard].names[number]}"

    def read(self, index: int) -> bytes:
        """Return an image's bytes. Raises ValueError where the shard was changed or it is empty."""
        return self._piece(index, self.size(index))

    def size(self, index: int) -> int:
        """Return how many bytes an image has."""
        shard, number = self.places[index]
        return self.indices[shard].sizes[number]

    def ending(self, index: int) -> bytes:
        """Return the last bytes of an image."""
        return self._piece(index, min(self.size(index), ENDING))

    def fingerprint(self) -> str:
        """Return a text that differs once a shard has another path, size or time of change."""
        stamps = [f"{os.path.abspath(path)}\0{stamp_of(path)}" for path in self.paths]
        rows = hash_bytes("\n".join(stamps).encode(errors="surrogateescape"))
        return f"{rows} {hash_bytes(self.places.tobytes())}"

    def chosen(self, indices: np.ndarray) -> "ShardImages":
        """Return some of the images, in the order of their indices."""
        return ShardImages(self.paths, self.indices, self.places[indices])

    def _piece(self, index: int, length: int) -> bytes:
        """Return the last `length` bytes of an image."""
        shard, number = self.places[index]
        found = self.indices[shard]
        if not length:
            raise ValueError(f"{self.name(index)} is empty")
        with open(self.paths[int(shard)], "rb") as file:
            file.seek(found.offsets[number] + found.sizes[number] - length)
            piece = file.read(length)
        if len(piece) < length:
            raise ValueError(f"{self.name(index)} is cut short: its shard was changed meanwhile")
        return piece
