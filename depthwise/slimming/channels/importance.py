"""How much each channel of a value varies, told from the network's own BatchNorms."""

from functools import singledispatch

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import Op


class Variances:
    """The variances of the channels (axis 1) of values, as far as BatchNorms say; else 1."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._nodes = {node.name: node for node in graph}
        self._known: dict[str, np.ndarray] = {}

    def __getitem__(self, value: str) -> np.ndarray:
        """Return one variance a channel of a value."""
        if value not in self._known:
            node = self._nodes.get(value)
            found = None if node is None else _variance(node.op, node, self)
            self._known[value] = self.ones(value) if found is None else found
        return self._known[value]

    def ones(self, value: str) -> np.ndarray:
        """Return what is taken where nothing is known."""
        shape = self.graph.type(value).shape
        return np.ones(shape[1] if len(shape) > 1 else 1)


@singledispatch
def _variance(op: Op, node: Node, known: Variances) -> np.ndarray | None:
    """Return the variances of the channels that a node gives, None where nobody knows."""
    return None


@_variance.register
def _(op: ops.BatchNorm, node: Node, known: Variances):
    """Take what a BatchNorm multiplies by, whatever the images (arXiv:1708.06519)."""
    weight = known.graph.constants[node.inputs[1]].numbers
    return None if weight is None else weight.astype(np.float64) ** 2


@_variance.register
def _(
    op: ops.Activation | ops.PRelu | ops.MaxPool2d | ops.AvgPool2d | ops.AdaptivePool2d
    | ops.Resize | ops.Reduce | ops.Reshape,
    node: Node, known: Variances,
):  # fmt: skip
    """Take those of what is read, spread over the planes that are flattened."""
    given, count = known[node.inputs[0]], len(known.ones(node.name))
    return None if count % len(given) else np.repeat(given, count // len(given))


@_variance.register
def _(op: ops.Binary, node: Node, known: Variances):
    shape = node.type.shape
    terms = [known[name] for name in node.inputs if known.graph.type(name).shape == shape]
    if not terms:
        return None
    return np.sum(terms, 0) if op.function in ("add", "subtract") else terms[0]


@_variance.register
def _(op: ops.Concat, node: Node, known: Variances):
    return np.concatenate([known[name] for name in node.inputs]) if op.axis == 1 else None
