"""The weights of a plan in the making: one array after the other, equal ones once."""

import hashlib
from functools import cached_property

import numpy as np

from depthwise.compiler.schedule.arena import align
from depthwise.runtime.library import aligned_bytes


class WeightPool:
    """Collects arrays of any type; `bytes` is how many there are, gaps between them included."""

    def __init__(self):
        self.bytes = 0
        self._arrays: list[np.ndarray] = []
        self._stored: dict[bytes, int] = {}  # by content -> the byte where it begins

    def add(self, array: np.ndarray) -> int:
        """Return the byte where a packed array begins: one of equal content, or the end."""
        content = hashlib.sha256(array.reshape(-1).data).digest()
        if content not in self._stored:
            self._stored[content] = self.bytes
            self._arrays.append(array.reshape(-1))
            self.bytes += align(array.nbytes)
        return self._stored[content]

    @cached_property
    def packed(self) -> np.ndarray:
        """All of them, once the last is added."""
        weights = aligned_bytes(self.bytes)
        at = 0
        self._arrays.reverse()
        while self._arrays:  # each is freed when it is there: all may be half of a gigabyte
            array = self._arrays.pop().view(np.uint8)
            end = at + align(array.size)
            weights[at : at + array.size] = array
            weights[at + array.size : end] = 0
            at = end
        return weights.view(np.float32)
