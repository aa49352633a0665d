"""What is computed in integers: layers, what lies between them, and which values are held in uint8.

A layer does its activation, and the sum with a residual, on the sums themselves before they are
rounded: so a sum is rounded once. Functions that bend (h-swish, sigmoid) are tables from uint8 to
uint8. What has no integer form is computed in float32, between a Dequantize and a Quantize.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

from depthwise.graph import Graph, Node, ops
from depthwise.graph.layers import is_layer

CLAMPS = ("relu", "relu6", "clamp")  # done on sums, by the range that integers are held in
MOVES = (ops.Reshape, ops.Permute, ops.Slice, ops.Expand, ops.MaxPool2d)  # numbers stay as they are
NO_TABLE = ("wrap",)  # functions of integers


@dataclass(frozen=True, eq=False)
class Placement:
    """Which nodes of a graph are computed in integers, and how they go together.

    Attributes:
        graph: The network, its BatchNorms folded.
        computed: The nodes that are computed in integers, by name.
        fused: The values inside a layer's sums, each with the node that ends the layer.
        quantized: The values that are held in uint8, in order.
    """

    graph: Graph
    computed: frozenset[str]
    fused: Mapping[str, str]
    quantized: tuple[str, ...]

    @cached_property
    def layers(self) -> dict[str, Node]:
        """The convolutions and linear layers among them, in order."""
        nodes = (node for node in self.graph if node.name in self.computed)
        return {node.name: node for node in nodes if is_layer(self.graph, node)}

    def end(self, layer: str) -> str:
        """Return the value that a layer's sums become: after its activation and residual."""
        return self.fused.get(layer, layer)

    def moved_from(self, value: str) -> str | None:
        """Return the value whose numbers another one has, moved; None where it has its own."""
        node = self._nodes.get(value)
        moves = node is not None and isinstance(node.op, MOVES)
        return node.inputs[0] if node and moves else None

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.graph}


def clamp_ends(op: ops.Activation) -> tuple[float, float]:
    """Return where a clamp cuts off: (0, inf) for relu."""
    if op.function == "clamp":
        return op.parameters[0], op.parameters[1]
    return 0.0, 6.0 if op.function == "relu6" else inf


def is_clamp(node: Node) -> bool:
    """Tell whether a node cuts off, and does nothing else."""
    return isinstance(node.op, ops.Activation) and node.op.function in CLAMPS


def place(graph: Graph, kept: frozenset[str] = frozenset()) -> Placement:
    """Return what of a graph is computed in integers.

    Args:
        graph: The network as `prepare` returns it.
        kept: Layers that are computed in float32 all the same.
    """
    computed = _computed(graph, kept)
    fused = _fused(graph, computed)
    readers = graph.readers()
    shrunk = {node.name for node in graph if node.name in computed and _shrinks(graph, node)}
    names = [*graph.inputs, *(node.name for node in graph)]
    quantized = tuple(
        name
        for name in names
        if name not in fused
        and (name in shrunk or any(node.name in computed for node in readers[name]))
    )
    return Placement(graph, computed, fused, quantized)


def _computed(graph: Graph, kept: frozenset[str]) -> frozenset[str]:
    """Return the layers, and what lies between what is quantised and something that reads it.

    What makes less of its input is done before others read that as floats, too.
    """
    layers = {n.name for n in graph if is_layer(graph, n) and n.name not in kept and _is_float(n)}
    between = {n.name for n in graph if _is_between(graph, n)}
    readers = graph.readers()
    while True:
        known = layers | between
        sources = {*known, *graph.inputs}
        left = {
            node.name
            for node in graph
            if node.name in between
            and any(name in sources for name in graph.activations(node))
            and any(reader.name in known or _shrinks(graph, node) for reader in readers[node.name])
        }
        if left == between:
            return frozenset(known)
        between = left


def _shrinks(graph: Graph, node: Node) -> bool:
    """Tell whether a node picks fewer numbers than it reads."""
    if not isinstance(node.op, ops.MaxPool2d):
        return False
    return prod(node.type.shape) < prod(graph.type(node.inputs[0]).shape)


def _is_float(node: Node) -> bool:
    return node.type.dtype == "float32"


def _is_between(graph: Graph, node: Node) -> bool:
    """Tell whether an operator that has no weights has a form in integers."""
    types = [graph.type(name).dtype for name in (*node.inputs, node.name)]
    return set(types) == {"float32"} and not graph.weights(node) and _has_form(node)


def _has_form(node: Node) -> bool:
    match node.op:
        case ops.Activation(function):
            return function not in NO_TABLE
        case ops.Binary(function):
            return function in ("add", "multiply") and len(set(node.inputs)) == 2
        case ops.Reduce(function) | ops.AdaptivePool2d(function):
            return function == "mean"
        case ops.Pad(mode=mode, value=value):
            return mode != "constant" or value == 0
        case ops.Resize(mode=mode):
            return mode.startswith("nearest")
    return isinstance(node.op, (ops.AvgPool2d, ops.Concat, *MOVES))


def _fused(graph: Graph, computed: frozenset[str]) -> dict[str, str]:
    """Return the values that are no more than sums on their way, with what becomes of them."""
    readers = graph.readers()
    returned = {output.value for output in graph.outputs}
    order = {node.name: place for place, node in enumerate(graph)}
    fused: dict[str, str] = {}

    def alone(value: str) -> Node | None:
        found = readers[value]
        once = len(found) == 1 and found[0].inputs.count(value) == 1
        return found[0] if once and value not in returned else None

    taken: set[str] = set()  # sums that have their layer already
    for node in reversed(graph.nodes):
        if not (node.name in computed and is_layer(graph, node)):
            continue
        chain = [node.name]
        while then := alone(chain[-1]):
            is_sum = isinstance(then.op, ops.Binary) and then.op.function == "add"
            if then.name not in computed or then.type.shape != node.type.shape:
                break
            if is_sum:
                later = max(order[name] for name in then.inputs if name in order)
                same = all(graph.type(name).shape == then.type.shape for name in then.inputs)
                if len(chain) > 1 or then.name in taken or order[node.name] != later or not same:
                    break  # what is added to is a sum, nothing that was cut off
                taken.add(then.name)
            elif not is_clamp(then):
                break
            chain.append(then.name)
        for value in chain[:-1]:
            fused[value] = chain[-1]
    for node in graph:  # a sum of its own, or a clamp after one
        is_own = isinstance(node.op, ops.Binary) and node.op.function == "add"
        if is_own and node.name in computed and node.name not in fused:
            then = alone(node.name)
            if (
                then
                and is_clamp(then)
                and then.name in computed
                and node.name not in fused.values()
            ):
                fused[node.name] = then.name
    return fused
