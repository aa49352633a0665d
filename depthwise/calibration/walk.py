"""A network computed node by node on all images, so that its weights may change on the way."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from depthwise.graph import Constant, Graph, Node, Output


class Walk:
    """The values of a network that are still needed, for all images at once.

    Attributes:
        live: The values by name.
        constants: The constants, which may be replaced before they are read.
    """

    def __init__(
        self, graph: Graph, images: Tensor, wanted: Iterable[str] = (),
        modules: dict[str, nn.Module] | None = None,
    ):  # fmt: skip
        """Begin at the network's input.

        Args:
            graph: The network.
            images: What it is given.
            wanted: What is taken by `take`, as often as it stands here.
            modules: What computes nodes without constants, by name: filled here, for other walks.
        """
        self._modules = {} if modules is None else modules
        self.graph, self.constants = graph, dict(graph.constants)
        self._readers = Counter(name for node in graph for name in dict.fromkeys(node.inputs))
        self._readers.update(wanted)
        self._nodes: Iterator[Node] = iter(graph)
        self.live: dict[str, Tensor] = dict.fromkeys(graph.inputs, images)

    def compute(self, node: Node) -> None:
        """Compute a node, whose inputs there are."""
        read = self.graph.activations(node)
        with torch.no_grad():
            value = self._module(node)(*(self.live[name] for name in read))
        self.give(node, value)

    def give(self, node: Node, value: Tensor) -> None:
        """Let this be the value of a node, whose inputs it was computed from."""
        if self._readers[node.name]:
            self.live[node.name] = value
        for name in self.graph.activations(node):
            self._read(name)

    def _module(self, node: Node) -> nn.Module:
        """Return what computes a node from its inputs that are no constants."""
        from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415

        constants = dict.fromkeys(self.graph.weights(node))
        if not constants and node.name in self._modules:
            return self._modules[node.name]
        net = to_module(
            Graph(
                {name: self.graph.type(name) for name in self.graph.activations(node)},
                {name: self.constants[name] for name in constants},
                (node,),
                (Output("", node.name),),
            )
        ).eval()
        if not constants:
            self._modules[node.name] = net
        return net

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
