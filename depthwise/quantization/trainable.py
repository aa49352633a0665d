"""Networks that are trained while they compute as in eight bits, and what comes of them.

A network keeps its BatchNorms while it learns: rounded before them, weights become the same
integers as when the BatchNorm is folded into them, since a factor for a channel goes into the
channel's scale. What is rounded where is what `place` says of the network with its BatchNorms
folded (Jacob et al., arXiv:1712.05877, section 3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from depthwise.graph import Graph, Node
from depthwise.graph.exporters.torch import to_module, with_weights_of
from depthwise.graph.exporters.torch.naming import name_weights
from depthwise.graph.exporters.torch.network import (
    Called,
    GraphNetwork,
    NetworkStep,
    ValueOperand,
    compute_otherwise,
)
from depthwise.graph.layers import is_layer
from depthwise.graph.ops import Dequantize, Quantize
from depthwise.graph.rewrite import GraphRewriter
from depthwise.quantization.correction import nearest
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.integer import affine_of
from depthwise.quantization.placement import Placement, place
from depthwise.quantization.preparing import fold, simplify
from depthwise.quantization.removal import remove_quantization
from depthwise.quantization.scheme import Affine
from depthwise.quantization.straight_through import ActivationRanges, round_weight

RANGES = "activation_ranges"  # the name that the ranges have among a network's modules


def graph_to_train(graph: Graph, kept: frozenset[str] = frozenset()) -> Graph:
    """Return a network as one that learns in eight bits is made of it.

    Its BatchNorms stay, but where layers of the folded network cannot be told among those that
    learn, as where a BatchNorm comes before a convolution: there they are folded.
    """
    plain = simplify(graph)
    if _layers(plain, kept) is not None:
        return plain
    return _with_parameters(fold(plain))


def _with_parameters(graph: Graph) -> Graph:
    """Return a graph whose layers' weights are parameters, under the names of their modules."""
    weights = {name for node in graph if is_layer(graph, node) for name in node.inputs[1:]}
    constants = {
        name: replace(known, trainable=True) if name in weights else known
        for name, known in graph.constants.items()
    }
    return name_weights(replace(graph, constants=constants))


def _layers(graph: Graph, kept: frozenset[str]) -> frozenset[str] | None:
    """Return the layers of a simplified graph that are computed in integers once it is folded.

    None where some of these, or some of the values that are held in uint8, are not in it.
    """
    placed = place(fold(graph), kept)
    nodes = {node.name: node for node in graph}
    found = [_origin(graph, nodes, node) for node in placed.layers.values()]
    values = {*graph.inputs, *nodes}
    if None in found or not values.issuperset(placed.quantized):
        return None
    return frozenset(name for name in found if name is not None)


def _origin(graph: Graph, nodes: Mapping[str, Node], folded: Node) -> str | None:
    """Return the layer whose result, scaled channel by channel, is what a folded one gives."""
    node = nodes.get(folded.name)
    while node is not None and not is_layer(graph, node):
        read = graph.activations(node)
        node = nodes.get(read[0]) if len(read) == 1 else None
    same = node is not None and (node.op, node.inputs[0]) == (folded.op, folded.inputs[0])
    return node.name if node and same else None


@dataclass(frozen=True, eq=False)
class RoundedResult:
    """Computes a step, and rounds what it gives to what uint8 holds of it."""

    compute: Callable[..., Any]
    ranges: ActivationRanges
    row: int

    def __call__(self, *operands: Any) -> Tensor:
        """Return the result, rounded."""
        return self.ranges(self.compute(*operands), self.row)


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """Computes a layer with its weight rounded to int8: a module's own, or the second operand."""

    compute: Callable[..., Any]

    def __call__(self, x: Tensor, *operands: Tensor) -> Tensor:
        """Return what the layer gives."""
        if isinstance(self.compute, Called):
            layer = self.compute.owner._modules[self.compute.name]
            assert isinstance(layer, nn.Module)
            assert isinstance(layer.weight, Tensor)
            return functional_call(layer, {"weight": round_weight(layer.weight)}, (x,))
        weight, *bias = operands
        return self.compute(x, round_weight(weight), *bias)


def _unchanged(x: Tensor) -> Tensor:
    return x


def to_trainable(graph: Graph, kept: frozenset[str] = frozenset()) -> GraphNetwork:
    """Return a module that computes a network as in eight bits, through which it learns.

    Its state dict has the names of the network's own, and the ranges beside them, which
    `ActivationRanges.draw` is to give their ends.

    Args:
        graph: The network as `graph_to_train` returned it.
        kept: Layers that are computed in float32 all the same.
    """
    net = to_module(graph)
    assert isinstance(net, GraphNetwork)
    layers, rows = _layers(graph, kept), _rows(place(fold(graph), kept))
    assert layers is not None, "the graph is not one of graph_to_train"
    ranges = ActivationRanges(max(rows.values(), default=-1) + 1)
    net.add_module(RANGES, ranges)

    def change(step: NetworkStep) -> NetworkStep:
        compute = step.compute
        if step.result in layers:
            compute = RoundedLayer(compute)
        if step.result in rows:
            compute = RoundedResult(compute, ranges, rows[str(step.result)])
        return replace(step, compute=compute)

    given = [name for name in graph.inputs if name in rows]
    first = [
        NetworkStep(name, RoundedResult(_unchanged, ranges, rows[name]), (ValueOperand(name),))
        for name in given
    ]
    compute_otherwise(net, change, first)
    return net


def _rows(placed: Placement) -> dict[str, int]:
    """Return the row of each value's range: what moves numbers has that of what it reads."""
    rows: dict[str, int] = {}
    count = 0
    for name in placed.quantized:
        source = placed.moved_from(name)
        if source in rows:
            rows[name] = rows[source]
        else:
            rows[name], count = count, count + 1
    return rows


def draw_ranges(graph: Graph, net: GraphNetwork, encoding: Encoding) -> None:
    """Let the ranges of a network that `to_trainable` made begin as an encoding has them."""
    rows = _rows(place(fold(graph), encoding.kept))
    first = {row: name for name, row in reversed(rows.items())}
    ranges_of(net).draw([encoding.values[first[row]] for row in sorted(first)])


def ranges_of(net: nn.Module) -> ActivationRanges:
    """Return the ranges of a network that `to_trainable` made."""
    found = net.get_submodule(RANGES)
    assert isinstance(found, ActivationRanges)
    return found


def learned(graph: Graph, net: nn.Module, kept: frozenset[str] = frozenset()) -> Encoding:
    """Return what a network that `to_trainable` made of a graph has learned: weights and ranges."""
    ranges = ranges_of(net)
    values = {name: ranges.affine(row) for name, row in _rows(place(fold(graph), kept)).items()}
    return Encoding(with_weights_of(graph, net), values, kept=kept)


def in_integers(encoding: Encoding) -> Encoding:
    """Return what a network has learned with its BatchNorms folded, and the integers of that."""
    return nearest(replace(encoding, graph=fold(encoding.graph)))


def dequantized(graph: Graph) -> Encoding:
    """Return a quantised network in real numbers, with how its values are held.

    Its weights are those that its integers stand for, and can be trained. Raises ValueError for a
    value that is not held in uint8 by one scale, as networks of others may have it.
    """
    edit, values = GraphRewriter(graph), dict[str, Affine]()
    held = {node.name for node in graph if isinstance(node.op, Dequantize)}
    for node in graph:
        if isinstance(node.op, Quantize) and node.inputs[0] not in graph.constants:
            affine = affine_of(edit, node)
            if affine is None:
                raise ValueError(
                    f"{node.inputs[0]} is held in {node.op.dtype} by several scales, or by one "
                    "that is computed: a network is trained further where each value is held in "
                    "uint8 by one scale, as `depthwise quantize` makes it"
                )
            values[node.inputs[0]] = affine
    rounded = {node.name for node in graph if len(node.inputs) > 1 and node.inputs[1] in held}
    real = _with_parameters(simplify(remove_quantization(graph)))
    kept = {node.name for node in real if is_layer(real, node) and node.name not in rounded}
    return Encoding(real, values, kept=frozenset(kept))
