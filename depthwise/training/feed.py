"""Batches on the network's device, the next ones fetched while the network computes."""

import time
from collections.abc import Iterator
from itertools import count, tee
from typing import NamedTuple

import torch
from torch import Tensor

from depthwise.training.data.squares import Prepared, fetch
from depthwise.training.order import Order, Seen


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        squares: Pixels of uint8, (B, 3, S, S).
        labels: The class of each image, (B,).
        seen: Which images they are.
        waited: Seconds in which the step waited for them.
    """

    squares: Tensor
    labels: Tensor
    seen: Seen
    waited: float


class Feed:
    """The batches of a run, in order."""

    def __init__(self, data: Prepared, order: Order, device: torch.device, share: slice):
        """Give the part `share` of each batch: what one of several processes learns from."""
        self.data, self.order, self._device, self._share = data, order, device, share

    def since(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on, without end."""
        wanted, shown = tee(self._seen(number) for number in count(step))
        fetched = fetch(self.data.squares, (seen.indices for seen in wanted))
        for seen in shown:
            start = time.perf_counter()
            squares = next(fetched).to(self._device)
            labels = torch.from_numpy(self.data.labels[seen.indices]).to(self._device)
            yield Batch(squares, labels, seen, time.perf_counter() - start)

    def _seen(self, step: int) -> Seen:
        indices, epochs = self.order.at(step)
        return Seen(indices[self._share], epochs[self._share])
