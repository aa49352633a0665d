"""Channels in another order, without a step that moves them: the weights around are reordered.

Where a value's channels change places, so do those of whatever is coupled to it: rows of the
weights that write them, columns of those that read them, and what lies between, channel by
channel. Where that ends nowhere (at the network's outputs, say), a Gather restores the order.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from depthwise.errors import DepthwiseError
from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter

ChannelOrder = np.ndarray  # new channel i is old channel order[i]

BY_CHANNEL = (
    ops.Activation | ops.Binary | ops.BatchNorm | ops.PRelu | ops.MaxPool2d | ops.AvgPool2d
    | ops.AdaptivePool2d | ops.Resize | ops.Pad | ops.Reduce | ops.Slice
)  # fmt: skip


class _Stuck(DepthwiseError):  # noqa: N818  (no error: a Gather does what weights cannot)
    """An order that the weights around cannot take."""


def reorder(
    edit: GraphRewriter, kept: Mapping[str, np.ndarray], value: str, order: ChannelOrder,
    settled: Iterable[str],
) -> dict[str, np.ndarray] | None:  # fmt: skip
    """Let everything coupled to a value take its channels in another order.

    Args:
        edit: The graph; it is changed only where this succeeds.
        kept: Of the draft.
        value: Whose channels get the order.
        order: Which of the channels that the value had stands at each place.
        settled: The nodes that see to the order of this value themselves, writing or reading it.

    Returns:
        What is then kept, None where weights alone cannot do it.
    """
    plan = _Plan(edit, set(settled))
    try:
        plan.give(value, order)
    except _Stuck:
        return None
    for change in plan.changes:
        change()
    now = dict(kept)
    for name, found in plan.orders.items():
        now[name] = np.asarray(kept[name])[found] if name in kept else found
    return now


class _Plan:
    """The orders of coupled values, and the changes of constants that make them so."""

    def __init__(self, edit: GraphRewriter, settled: set[str]):
        self.edit = edit
        self.settled = settled
        self.orders: dict[str, ChannelOrder] = {}
        self.changes: list[Callable[[], None]] = []
        self._carried: set[str] = set()

    def give(self, first: str, order: ChannelOrder) -> None:
        """Give a value an order, and all that follows from it. Raises _Stuck where it cannot."""
        waiting = [(first, order)]
        while waiting:
            value, order = waiting.pop()
            if value in self.orders:
                if not np.array_equal(self.orders[value], order):
                    raise _Stuck(value)
                continue
            writer = self.edit.node(value)
            if writer is None or self.edit.is_output(value):
                raise _Stuck(value)
            settled = self.settled if value == first else set()
            self.orders[value] = order
            if value not in settled:
                waiting += self._write(writer, order)
            for reader in self.edit.readers(value):
                if reader.name not in settled:
                    waiting += self._read(reader, value, order)

    def _write(self, node: Node, order: ChannelOrder) -> list[tuple[str, ChannelOrder]]:
        """Let a node give its channels in an order; return the orders that its inputs must have."""
        if node.name in self.settled:
            raise _Stuck(node.name)
        if node.name in self._carried:
            return []
        match node.op:
            case ops.Conv2d(groups=1) | ops.Linear() if _has_channels(node):
                self._permute(node.inputs[1:], order)
                return []
            case ops.Conv2d(groups=groups) if groups == self._channels(node.inputs[0]):
                self._carried.add(node.name)
                self._permute(node.inputs[1:], order)
                return [(node.inputs[0], _gathered(order, node.type.shape[1] // groups))]
            case ops.Reshape():
                return [(node.inputs[0], _gathered(order, self._times(node)))]
            case ops.Gather(axis=1):
                self._change(node.inputs[1], lambda places: places[order])
                return []
            case op if isinstance(op, BY_CHANNEL):
                return self._carry(node, order)
        raise _Stuck(node.name)

    def _read(self, node: Node, value: str, order: ChannelOrder) -> list[tuple[str, ChannelOrder]]:
        """Let a node read a value in an order; return the orders that other values must have."""
        if node.name in self.settled:
            raise _Stuck(node.name)
        match node.op:
            case ops.Conv2d(groups=1) | ops.Linear() if (
                _has_channels(node) and node.inputs[0] == value
            ):
                self._permute(node.inputs[1:2], order, axis=1)
                return []
            case ops.Conv2d(groups=groups) if groups == self._channels(value):
                spread = _spread(order, node.type.shape[1] // groups)
                if node.name not in self._carried:
                    self._carried.add(node.name)
                    self._permute(node.inputs[1:], spread)
                return [(node.name, spread)]
            case ops.Reshape():
                return [(node.name, _spread(order, self._times(node)))]
            case ops.Gather(axis=1) if node.inputs[0] == value:
                back = np.argsort(order)
                self._change(node.inputs[1], lambda places: back[places])
                return []
            case ops.Concat(axis=1) if node.name not in self._carried:
                self._carried.add(node.name)
                return [(node.name, self._joined(node, value, order))]
            case op if isinstance(op, BY_CHANNEL):
                return self._carry(node, order)
        raise _Stuck(node.name)

    def _carry(self, node: Node, order: ChannelOrder) -> list[tuple[str, ChannelOrder]]:
        """Let a node that works channel by channel do it in an order: its inputs and its result."""
        if node.name in self._carried:
            return []
        self._carried.add(node.name)
        if not _is_by_channel(node.op) or self._channels(node.name) != len(order):
            raise _Stuck(node.name)
        constants = [name for name in node.inputs if self.edit.data(name) is not None]
        computed = [name for name in node.inputs if name not in constants]
        if isinstance(node.op, ops.Binary):
            rank = len(node.type.shape)
            for name in constants:  # broadcast from the last axis on
                axis = len(self.edit.type(name).shape) - rank + 1
                if axis >= 0:
                    self._permute((name,), order, axis)
            if any(len(self.edit.type(name).shape) != rank for name in computed):
                raise _Stuck(node.name)
            computed = [name for name in computed if self._channels(name) > 1]
        else:
            self._permute(constants, order)
        return [(name, order) for name in (*computed, node.name)]

    def _permute(self, constants: Iterable[str], order: ChannelOrder, axis: int = 0) -> None:
        for name in constants:
            if self.edit.type(name).shape[axis] > 1:  # one slope of a PReLU serves all channels
                self._change(name, lambda numbers: np.take(numbers, order, axis))

    def _change(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        if not self.edit.is_unshared(name):
            raise _Stuck(name)

        def apply() -> None:
            self.edit.set_constant(name, change(self.edit.numbers(name)))

        self.changes.append(apply)

    def _channels(self, value: str) -> int:
        shape = self.edit.type(value).shape
        return shape[1] if len(shape) > 1 else 1

    def _times(self, node: Node) -> int:
        """Return how many channels a reshape makes of each. Raises _Stuck where it makes none."""
        before, after = self.edit.type(node.inputs[0]).shape, node.type.shape
        if min(len(before), len(after)) < 2 or before[0] != after[0] or after[1] % before[1]:
            raise _Stuck(node.name)
        return after[1] // before[1]

    def _joined(self, node: Node, value: str, order: ChannelOrder) -> ChannelOrder:
        """Return the order of a concatenation of which one input has an order."""
        places, start = [], 0
        for name in node.inputs:
            own = order if name == value else np.arange(self._channels(name))
            places.append(start + own)
            start += len(own)
        return np.concatenate(places)


def _is_by_channel(op: ops.Op) -> bool:
    """Tell whether an operator that may work channel by channel does so."""
    match op:
        case ops.Pad(pads=pads):
            return pads[1] == (0, 0)
        case ops.Reduce(axes=axes):
            return min(axes) > 1
        case ops.Slice(axis=axis):
            return axis != 1
    return True


def _has_channels(node: Node) -> bool:
    """Tell whether a layer's channels lie on axis 1."""
    return isinstance(node.op, ops.Conv2d) or len(node.type.shape) == 2


def _spread(order: ChannelOrder, times: int) -> ChannelOrder:
    """Return the order of channels of which each has become several, side by side."""
    return (order[:, None] * times + np.arange(times)).reshape(-1)


def _gathered(order: ChannelOrder, times: int) -> ChannelOrder:
    """Return the order of which `order` is the spread. Raises _Stuck where it is of none."""
    found = order[::times] // times
    if not np.array_equal(_spread(found, times), order):
        raise _Stuck("channels of one become apart")
    return found


def restore(edit: GraphRewriter, node: Node, source: str, order: ChannelOrder) -> None:
    """Let the value of `node` be `source`, whose channels have an order, in the old order."""
    places = edit.add_constant(f"{node.name}.places", np.argsort(order))
    edit.replace(node, ops.Gather(1), source, places)
