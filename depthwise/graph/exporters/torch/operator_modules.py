"""Modules without weights: activations and poolings that a network has as modules of their own.

They stay at their paths, so that hooks find what they return.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from depthwise.graph.exporters.torch.layers import TorchLayer
from depthwise.graph.exporters.torch.rules import Sized, TensorFunction
from depthwise.graph.graph import Graph, Node
from depthwise.graph.ops import Op


class Operator(nn.Module):
    """Computes one operator of a graph."""

    def __init__(self, op: Op, function: TensorFunction):
        super().__init__()
        self.op, self._function = op, function

    def forward(self, *inputs: Any) -> Any:
        """Return op(inputs)."""
        return self._function(*inputs)

    def _get_name(self) -> str:
        return type(self.op).__name__

    def extra_repr(self) -> str:
        """Return the operator's attributes."""
        return ", ".join(f"{each.name}={getattr(self.op, each.name)!r}" for each in fields(self.op))


def find_operators(
    graph: Graph, layers: Mapping[str, TorchLayer], functions: Mapping[str, TensorFunction | Sized]
) -> dict[str, TorchLayer]:
    """Return the nodes that are all of a module, which has no other in it and is called once."""
    inside: dict[str, list[Node]] = defaultdict(list)
    for node in graph:
        for path in enclosing(layers[node.name].path if node.name in layers else node.path):
            inside[path].append(node)
    taken = {path for name in graph.constants for path in enclosing(name)}
    found = {}
    for node in graph:
        function = functions[node.name]
        if inside[node.path] != [node] or node.name in layers or node.path in taken:
            continue
        if node.path and not isinstance(function, Sized) and not graph.weights(node):
            found[node.name] = operator_layer(node, function)
    return found


def operator_layer(node: Node, function: TensorFunction) -> TorchLayer:
    """Return a node without weights as a module."""
    return TorchLayer(node.path, lambda: Operator(node.op, function), node.inputs)


def enclosing(path: str) -> list[str]:
    """Return a path and each that it lies in: a.b.c, a.b, a."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
