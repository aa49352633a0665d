"""A network while it is slimmed, and what a move offers to do to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from depthwise.graph import Constant, Graph


@dataclass(frozen=True, eq=False)
class Draft:
    """A network that is being slimmed.

    Nodes and constants that a move leaves keep their names, so that a value can be compared with
    the original's of the same name.

    Attributes:
        graph: The network as it is now, at one image, BatchNorms still apart.
        kept: For each value whose channels were cut, which of the original's channels it has, in
            order; a value that is not in it has all of them, or is none of the original's.
        frozen: The constants that have to stay as they are, in numbers and in shape.
        parts: For each new value that has some of the channels of one of the original's, the name
            of that; which channels, `kept` says.
    """

    graph: Graph
    kept: Mapping[str, np.ndarray] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    parts: Mapping[str, str] = field(default_factory=dict)

    def source(self, value: str) -> str:
        """Return the name that a value, or what it is a part of, has in the original."""
        return self.parts.get(value, value)

    def keeps_frozen(self, graph: Graph) -> bool:
        """Tell whether all that is frozen is in another graph as it is here."""
        return all(
            name in graph.constants and _is_same(self.graph.constants[name], graph.constants[name])
            for name in self.frozen
        )


def _is_same(one: Constant, other: Constant) -> bool:
    if one is other or one.data is other.data:
        return True
    assert one.data is not None
    assert other.data is not None
    return one.type == other.type and np.array_equal(one.data, other.data)


@dataclass(frozen=True, eq=False)
class Change:
    """One change that a move offers to make at one place of a network.

    Attributes:
        move: The name of the move, as in `slimming.moves.MOVES`.
        place: What is changed: the path of a convolution's module, or of a group's first one.
        words: What becomes of it: "64 to 48 channels".
        damage: By how much the scores are estimated to change: the mean divergence (Kullback-
            Leibler) from the original's, in nats an image.
        apply: Returns the draft with the change made and the weights carried over.
    """

    move: str
    place: str
    words: str
    damage: float
    apply: Callable[[Draft], Draft]
