"""A network computed node by node on all images, so that its weights may change on the way."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from depthwise.graph import Constant, Graph, Node, Output


class Walk:
    """The values of a network that are still needed, for all images at once.

    Attributes:
        live: The values by name.
        constants: The constants, which may be replaced before they are read.
    """

    def __init__(self, graph: Graph, images: Tensor, wanted: Iterable[str] = ()):
        """Begin at the network's input.

        Args:
            graph: The network.
            images: What it is given.
            wanted: What is taken by `take`, as often as it stands here.
        """
        self.graph, self.constants = graph, dict(graph.constants)
        self._readers = Counter(name for node in graph for name in dict.fromkeys(node.inputs))
        self._readers.update(wanted)
        self._nodes: Iterator[Node] = iter(graph)
        self.live: dict[str, Tensor] = dict.fromkeys(graph.inputs, images)

    def compute(self, node: Node) -> None:
        """Compute a node, whose inputs there are."""
        from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415

        read = self.graph.activations(node)
        net = to_module(
            Graph(
                {name: self.graph.type(name) for name in read},
                {name: self.constants[name] for name in dict.fromkeys(self.graph.weights(node))},
                (node,),
                (Output("", node.name),),
            )
        )
        with torch.no_grad():
            value = net.eval()(*(self.live[name] for name in read))
        if self._readers[node.name]:
            self.live[node.name] = value
        for name in read:
            self._read(name)

    def take(self, value: str) -> Tensor:
        """Return a value that was wanted, computing the network in its own order up to there."""
        while value not in self.live:
            self.compute(next(self._nodes))
        found = self.live[value]
        self._read(value)
        return found

    def tensor(self, constant: str) -> Tensor:
        """Return a constant's numbers."""
        return torch.tensor(self.constants[constant].numbers)

    def set(self, constant: str, numbers: Tensor) -> None:
        """Replace a constant's numbers."""
        old = self.constants[constant]
        data = np.ascontiguousarray(numbers.detach().to(torch.float32).reshape(old.type.shape))
        self.constants[constant] = Constant(old.type, data, old.trainable, old.sources)

    def _read(self, value: str) -> None:
        self._readers[value] -= 1
        if not self._readers[value]:
            del self.live[value]
