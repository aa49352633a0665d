"""In which order images are seen: an endless row of permutations, cut into batches of one size."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Seen(NamedTuple):
    """The images of a batch, and the epoch that each of them is seen in, both (B,)."""

    indices: np.ndarray
    epochs: np.ndarray


class Order:
    """Every image once an epoch, a new permutation each, and no batch smaller than the others.

    A batch may begin in one epoch and end in the next, so that nothing is left out at the end of
    one and nothing is seen twice.
    """

    def __init__(self, seed: int, size: int, batch: int):
        assert 0 < batch <= size
        self.seed, self.size, self.batch = seed, size, batch
        self._permutation = lru_cache(2)(self._permute)

    def at(self, step: int) -> Seen:
        """Return the batch of a step, counted from 0."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, places = np.divmod(positions, self.size)
        indices = np.concatenate(
            [self._permutation(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
        )
        return Seen(indices, epochs)

    def steps(self, epochs: float) -> int:
        """Return how many steps a number of epochs has, at least one."""
        return max(1, round(epochs * self.size / self.batch))

    def ends_epoch(self, step: int) -> bool:
        """Tell whether the last image of an epoch is in the batch of a step."""
        return (step + 1) * self.batch // self.size > step * self.batch // self.size

    def _permute(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)
