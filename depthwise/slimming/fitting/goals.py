"""What layers of a slimmed network should give: what the original gave in their place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.layers import is_layer
from depthwise.graph.rewrite import GraphRewriter, with_bias
from depthwise.slimming.draft import Draft


@dataclass(frozen=True, eq=False)
class Addition:
    """A sum that a layer's output goes into: a shortcut's, most often.

    Attributes:
        norm: The BatchNorm between the layer and the sum, if there is one.
        other: The other part, in the slimmed network.
        original: The other part, in the original.
    """

    norm: Node | None
    other: str
    original: str


@dataclass(frozen=True, eq=False)
class Goal:
    """Layers whose outputs, added up, should be a value of the original's.

    Attributes:
        layers: The nodes; most often one alone.
        value: The original's value.
        channels: Which of its channels.
        addition: What the output is added to, which errors of the other part can be made up for in.
    """

    layers: tuple[Node, ...]
    value: str
    channels: np.ndarray
    addition: Addition | None = None


def find_goals(draft: Draft, original: Graph) -> tuple[Graph, tuple[Goal, ...]]:
    """Return the network, with a bias wherever a fit needs one, and what can be fitted in it.

    A layer can be if its value is in the original, or a part of one that is (a Ghost module's
    maps), or what is made of it by concatenation and addition alone (a sum of separable
    convolutions), and if nothing else reads its weights.
    """
    found = tuple(_Goals(draft, original).goals())
    edit = GraphRewriter(draft.graph)
    for goal in found:
        first = goal.layers[0]
        if len(first.inputs) < 3 and not norm_after(goal, draft):
            edit.replace(first, first.op, *with_bias(edit, first))
    graph = edit.result()
    nodes = {node.name: node for node in graph}
    return graph, tuple(
        replace(goal, layers=tuple(nodes[layer.name] for layer in goal.layers)) for goal in found
    )


def kept_channels(draft: Draft, original: Graph, value: str) -> np.ndarray | None:
    """Return which of the original's channels a value has; None where the two do not compare."""
    channels = _channels(draft, original, value)
    if channels is None or _planes(draft.graph, value) != _planes(original, draft.source(value)):
        return None
    return channels


def _channels(draft: Draft, original: Graph, value: str) -> np.ndarray | None:
    """Return the same, also where planes are smaller, as those of smaller images are."""
    source = draft.source(value)
    if all(source != node.name for node in original):
        return None
    shape, own = original.type(source).shape, draft.graph.type(value).shape
    axis = channel_axis(shape)
    kept = np.asarray(draft.kept.get(value, np.arange(shape[axis])))
    if len(own) != len(shape) or own[: axis + 1] != (*shape[:axis], len(kept)):
        return None
    sides = zip(_planes(draft.graph, value), _planes(original, source), strict=True)
    images = zip(*(_planes(graph, name) for graph in (draft.graph, original)
                   for name in graph.inputs), strict=True)  # fmt: skip
    alike = all(
        abs(side * image - before * now) < image
        for (side, before), (now, image) in zip(sides, images, strict=False)
    )
    return kept if alike else None


def _planes(graph: Graph, value: str) -> tuple[int, ...]:
    """Return the rows and columns of maps; nothing of vectors."""
    shape = graph.type(value).shape
    return shape[2:] if len(shape) == 4 else ()


def channel_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of the channels: the second of maps, the last of vectors."""
    return 1 if len(shape) == 4 else len(shape) - 1


def norm_after(goal: Goal, draft: Draft) -> Node | None:
    """Return the BatchNorm that alone reads a layer, and makes up for its mean; none if frozen."""
    readers = draft.graph.readers()[goal.layers[0].name] if len(goal.layers) == 1 else []
    if len(readers) != 1:
        return None
    norm = readers[0]
    free = isinstance(norm.op, ops.BatchNorm) and draft.frozen.isdisjoint(norm.inputs)
    return norm if free else None


class _Goals:
    """What is asked of two networks to find the goals of one in the other."""

    def __init__(self, draft: Draft, original: Graph):
        self.draft, self.graph, self.original = draft, draft.graph, original
        self.nodes = {node.name: node for node in self.graph}
        self.readers = self.graph.readers()
        self.before = {node.name: node for node in original}
        self.outputs = {output.value for output in self.graph.outputs}

    def goals(self) -> Iterator[Goal]:
        for node in self.graph:
            channels = _channels(self.draft, self.original, node.name)
            if channels is None:
                continue
            for layers, own in self._parts(node, channels):
                addition = self._addition_after(node) if layers == (node,) else None
                yield Goal(layers, self.draft.source(node.name), own, addition)

    def _parts(self, node: Node, channels: np.ndarray) -> Iterator[tuple]:
        """Yield the layers that a value is made of, and which channels they give."""
        if self._is_free(node):
            yield (node,), channels
        elif isinstance(node.op, ops.Concat) and node.op.axis == 1:
            start = 0
            for name in node.inputs:
                end = start + self.graph.type(name).shape[1]
                if self._is_new(name):
                    yield from self._parts(self.nodes[name], channels[start:end])
                start = end
        elif (addends := self._addends(node)) and all(map(self._is_free, addends)):
            yield tuple(addends), channels

    def _addends(self, node: Node) -> list[Node]:
        """Return what a tree of additions adds up; none if any of it is not new."""
        if not _is_addition(node) or not all(map(self._is_new, node.inputs)):
            return []
        inner = [self.nodes[name] for name in node.inputs]
        return [leaf for each in inner for leaf in (self._addends(each) or [each])]

    def _is_new(self, value: str) -> bool:
        """Tell whether a value is none of the original's, and read by one node alone."""
        fresh = value in self.nodes and self.draft.source(value) not in self.before
        return fresh and len(self.readers[value]) == 1 and value not in self.outputs

    def _is_free(self, node: Node) -> bool:
        """Tell whether a node is a layer whose weights are its own, and not frozen."""
        frozen = self.draft.frozen
        own = all(len(self.readers[name]) == 1 and name not in frozen for name in node.inputs[1:])
        return own and is_layer(self.graph, node)

    def _addition_after(self, node: Node) -> Addition | None:
        """Return the sum that a layer's output goes into, by itself or through a BatchNorm."""
        reader = self._only_reader(node)
        norm = reader if reader and isinstance(reader.op, ops.BatchNorm) else None
        branch = norm or node
        reader = self._only_reader(branch)
        same = self.before.get(reader.name) if reader else None
        if reader is None or same is None or not (_is_addition(reader) and _is_addition(same)):
            return None
        if branch.name not in same.inputs:
            return None
        (other,) = set(reader.inputs) - {branch.name} or {branch.name}
        (wanted,) = set(same.inputs) - {branch.name} or {branch.name}
        computed = other not in self.graph.constants and wanted not in self.original.constants
        own, theirs = self.graph.type, self.original.type
        alike = own(other) == own(node.name) and theirs(wanted) == theirs(node.name)
        return Addition(norm, other, wanted) if computed and alike else None

    def _only_reader(self, node: Node) -> Node | None:
        readers = self.readers[node.name]
        return readers[0] if len(readers) == 1 and node.name not in self.outputs else None


def _is_addition(node: Node) -> bool:
    return isinstance(node.op, ops.Binary) and node.op.function == "add"
