"""Batches on the network's device, the next ones fetched while the network computes."""

import time
from collections.abc import Iterator
from itertools import count, pairwise, tee
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from depthwise.training.data.squares import Prepared, fetch
from depthwise.training.mixing import Mixing
from depthwise.training.order import Order, Seen


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        squares: Pixels of uint8, (B, 3, S, S).
        labels: The class of each image, (B,).
        seen: Which images they are.
        waited: Seconds in which the step waited for them.
        partners: The images that these are mixed with, one each; None where they are not mixed.
    """

    squares: Tensor
    labels: Tensor
    seen: Seen
    waited: float = 0.0
    partners: "Batch | None" = None

    def parts(self, count: int) -> "Iterator[Batch]":
        """Yield so many batches of nearly one size that are this one together."""
        ends = np.linspace(0, len(self.labels), count + 1).round().astype(int)
        for first, end in pairwise(ends):
            yield self._part(slice(first, end))

    def _part(self, own: slice) -> "Batch":
        seen = Seen(self.seen.indices[own], self.seen.epochs[own])
        partners = self.partners._part(own) if self.partners else None
        return Batch(self.squares[own], self.labels[own], seen, partners=partners)


class Feed:
    """The batches of a run, in order."""

    def __init__(
        self, data: Prepared, order: Order, device: torch.device, share: slice,
        mixing: Mixing | None = None,
    ):  # fmt: skip
        """Give the part `share` of each batch: what one of several processes learns from."""
        self.data, self.order, self._device, self._share = data, order, device, share
        self._mixing = mixing

    def since(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on, without end."""
        wanted, shown = tee(self._seen(number) for number in count(step))
        indices = (np.concatenate([seen.indices for seen in each]) for each in wanted)
        fetched = fetch(self.data.squares, indices)
        for each in shown:
            start = time.perf_counter()
            squares = next(fetched).to(self._device).split(len(each[0].indices))
            own, *mixed = map(self._batch, squares, each)
            partners = mixed[0] if mixed else None
            waited = time.perf_counter() - start
            yield own._replace(waited=waited, partners=partners)

    def _batch(self, squares: Tensor, seen: Seen) -> Batch:
        labels = torch.from_numpy(self.data.labels[seen.indices]).to(self._device)
        return Batch(squares, labels, seen)

    def _seen(self, step: int) -> tuple[Seen, ...]:
        """Return the images of a step, and their partners where there are any."""
        indices, epochs = self.order.at(step)
        own = Seen(indices[self._share], epochs[self._share])
        if self._mixing is None:
            return (own,)
        return own, self._mixing.partners(own, len(self.data.labels))
