"""What couples channels: identities of a value's elements, passed on from operator to operator.

Each value has an array of identities with as many axes as it has itself, of one element along axes
where they do not vary. Elements of one identity are there, or cut, together. A convolution gives
its outputs new identities; arithmetic lets those of its operands be one; what moves elements moves
their identities alike. So residual sums, gates, concatenations, splits, shuffles and flattening
need no rules of their own. Identities of a value vary along one axis at most: whatever is cut,
what stays is a box.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.slimming.channels.identities import Identities, Ids

NO_CHANNEL = "it is one value for all channels"
RETURNED = "the network returns it"


@dataclass(frozen=True, eq=False)
class Coupled:
    """Identities, one for each channel, that a node gives or reads."""

    node: Node
    ids: Ids


class Coupling:
    """The identities of each value of a graph.

    Attributes:
        born: What convolutions and linear layers give, new identities.
        read: What they read: whatever is cut there is a column of their weights less.
        parts: What nodes read or give in parts (parts, size): of each part as many are cut.
        refused: Why weights of convolutions and linear layers stay whole.
        inexact: What nodes read that compute one value of all channels without weights: with fewer
            channels they give others, though the channels cut were zero.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.sets = Identities()
        self.born: list[Coupled] = []
        self.read: list[Coupled] = []
        self.parts: list[Coupled] = []
        self.refused: dict[str, str] = {}
        self.inexact: list[Coupled] = []
        self._ids: dict[str, Ids] = {}
        self._readings: dict[str, int] = {}
        for node in graph:
            for name in node.inputs:
                self._readings[name] = self._readings.get(name, 0) + 1
        for name in graph.inputs:
            self.define(name, self.fixed(name, "it is what the network is given"))

    def __getitem__(self, value: str) -> Ids:
        """Return the identities of a value as they are now known, without axes of no variation."""
        if value in self.graph.constants:
            return self.fixed(value, "it is a constant")
        return compressed(self.sets.find(self._ids[value]))

    def define(self, value: str, ids: Ids) -> None:
        """Let a value have these identities, along one axis at most."""
        self._ids[value] = self.boxed(ids)

    def fixed(self, value: str, reason: str) -> Ids:
        """Return one identity that stays, for all of a value."""
        ids = self.sets.fresh(1).reshape((1,) * len(self.graph.type(value).shape))
        self.sets.pin(ids, reason)
        return ids

    def pin(self, value: str, reason: str) -> None:
        """Let all of a value stay, for a reason; constants are cut wherever they have to be."""
        if value not in self.graph.constants:
            self.sets.pin(self._ids[value], reason)

    def refuse(self, node: Node, reason: str) -> Ids:
        """Let all that a node reads and gives stay; return what it gives."""
        if isinstance(node.op, ops.Convolution):
            self.refused[node.name] = reason
        for value in node.inputs:
            self.pin(value, reason)
        return self.fixed(node.name, reason)

    def along(self, value: str, axis: int, reason: str) -> Ids:
        """Return one identity for each place of an axis; where they vary elsewhere, all stay."""
        ids, size = self[value], self.graph.type(value).shape[axis]
        if ids.size != ids.shape[axis]:
            self.pin(value, reason)
            ids = ids.reshape(-1)[:1]
        return np.broadcast_to(ids.reshape(-1), (size,))

    def placed(self, node: Node, ids: Ids, axis: int = 1) -> Ids:
        """Return the identities of the places of one axis as those of a node's value."""
        rank = len(node.type.shape)
        return ids.reshape(*(1,) * (axis % rank), -1, *(1,) * (rank - 1 - axis % rank))

    def bear(self, node: Node, axis: int = 1) -> Ids:
        """Return new identities for the channels that a node gives."""
        ids = self.sets.fresh(node.type.shape[axis])
        self.born.append(Coupled(node, ids))
        return self.placed(node, ids, axis)

    def boxed(self, ids: Ids) -> Ids:
        """Return identities that vary along one axis at most, the longest: others are merged."""
        ids = compressed(self.sets.find(ids))
        if ids.size == max(ids.shape, default=1):
            return ids
        axis = max(range(ids.ndim), key=lambda axis: (ids.shape[axis], axis))
        first = ids[tuple(slice(None) if i == axis else slice(0, 1) for i in range(ids.ndim))]
        self.sets.merge(ids, first)
        return compressed(self.sets.find(first))

    def owned(self, node: Node) -> str | None:
        """Return why the weights of a node cannot be cut, None where they can."""
        for name in node.inputs[1:3]:
            known = self.graph.constants.get(name)
            if known is None:
                return "its weights are computed"
            if self._readings[name] > 1 and known.trainable:
                return "its weights are shared"
        return None

    def blocks(self, node: Node, ids: Ids, groups: int) -> None:
        """Let channels go by whole groups where these are as many as channels in one, else alike.

        Alike: as many of each group.
        """
        parts = ids.reshape(groups, -1)
        if groups >= parts.shape[1]:
            self.sets.merge(parts, parts[:, :1])
        elif groups > 1:
            self.parts.append(Coupled(node, parts))


def compressed(ids: Ids) -> Ids:
    """Return identities with one element along each axis on which they do not vary."""
    for axis in range(ids.ndim):
        first = ids[(slice(None),) * axis + (slice(0, 1),)]
        if ids.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, ids.shape), ids):
            ids = first
    return ids


def spread(ids: Ids, shape: tuple[int, ...]) -> Ids:
    """Return identities for each element of a value."""
    return np.broadcast_to(ids, shape)


def varies(ids: Ids, *axes: int) -> bool:
    """Return whether identities vary along any of these axes."""
    return prod(ids.shape[axis] for axis in axes) > 1
