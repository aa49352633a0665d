"""A graph as the steps that a picture shows: each with what hangs on it and needs no box."""

from collections.abc import Iterable
from dataclasses import dataclass

from depthwise.analysis.cost import Layer
from depthwise.graph import Graph, Node, ops

QUIET = (
    ops.BatchNorm, ops.GroupNorm, ops.LayerNorm, ops.Activation, ops.PRelu, ops.Softmax,
    ops.Reshape, ops.Permute, ops.Expand, ops.Pad,
)  # fmt: skip
JOINS = (ops.Binary, ops.Concat)


@dataclass(frozen=True, eq=False)
class Step:
    """An operator with a box of its own, and the operators around it that have none.

    `inputs` are the names of steps and of the graph's inputs. `before` and `after` are the quiet
    operators (a normalisation, an activation), `layers` the costs of all of them.
    """

    node: Node
    inputs: tuple[str, ...]
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """The name of its operator's value."""
        return self.node.name

    @property
    def kind(self) -> str:
        """The kind of its operator."""
        return next(layer.kind for layer in self.layers if layer.name == self.name)


@dataclass(frozen=True)
class StepInput:
    """A value as the steps see it: the value that a step ends with, and quiet nodes on the way."""

    value: str
    quiet: tuple[Node, ...] = ()


def find_steps(graph: Graph, layers: tuple[Layer, ...]) -> tuple[Step, ...]:
    """Return the steps of a graph; `layers` are the costs of its nodes.

    A quiet operator belongs to the step that it follows where it alone reads it, otherwise to the
    step that reads the operator; read by several, it is a step. Each layer is in one step.
    """
    return _Finder(graph).find({layer.name: layer for layer in layers})


class _Finder:
    """Walks over a graph's nodes once. `owner` maps values to the steps that end with them."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.reads = {name: StepInput(name) for name in graph.inputs}
        self.owner: dict[str, str] = {}
        self.before: dict[str, tuple[Node, ...]] = {}
        self.after: dict[str, list[Node]] = {}
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.readers = {
            value: {node.name for node in nodes} for value, nodes in graph.readers().items()
        }
        for output in graph.outputs:
            self.readers[output.value].add("")  # whoever runs the network

    def find(self, layers: dict[str, Layer]) -> tuple[Step, ...]:
        for node in self.graph:
            self._add(node)
        nodes = {node.name: node for node in self.graph}
        steps = []
        for name, inputs in self.inputs.items():
            before, after = self.before[name], tuple(self.after[name])
            around = (*before, nodes[name], *after)
            costs = tuple(layers[node.name] for node in around)
            steps.append(Step(nodes[name], inputs, before, after, costs))
        return tuple(steps)

    def _add(self, node: Node) -> None:
        reads = [self.reads[name] for name in self.graph.activations(node)]
        values = tuple(dict.fromkeys(read.value for read in reads))
        quiet = tuple(dict.fromkeys(n for read in reads for n in read.quiet))
        if len(values) != 1 or not self._is_quiet(node, values[0]):
            self._begin(node, values, quiet)
            return
        (value,) = values
        around = {n.name for n in (*quiet, node)}
        inner = (self.readers[name] for name in (value, *(n.name for n in quiet)))
        closed = all(readers <= around for readers in inner)
        if closed and value in self.owner:  # nothing else reads what this hangs on
            step = self.owner[node.name] = self.owner[value]
            self.after[step] += [*quiet, node]
            self.reads[node.name] = StepInput(node.name)
        elif len(self.readers[node.name]) > 1 or "" in self.readers[node.name]:
            self._begin(node, values, quiet)
        else:
            self.reads[node.name] = StepInput(value, (*quiet, node))

    def _begin(self, node: Node, values: Iterable[str], quiet: tuple[Node, ...]) -> None:
        taken = {n for before in self.before.values() for n in before}
        self.before[node.name] = tuple(n for n in quiet if n not in taken)
        self.after[node.name] = []
        self.inputs[node.name] = tuple(dict.fromkeys(self.owner.get(v, v) for v in values))
        self.owner[node.name] = node.name
        self.reads[node.name] = StepInput(node.name)

    def _is_quiet(self, node: Node, value: str) -> bool:
        """Tell whether a node that hangs on one value alone needs no box."""
        match node.op:
            case ops.Slice(axis=axis):
                return axis != 1
            case ops.AdaptivePool2d():
                return node.type.shape == self.graph.type(node.inputs[0]).shape
            case ops.AvgPool2d():  # local response normalisation pools folded planes
                return self.graph.type(node.inputs[0]).shape[-2:] != self._plane(value)
        return isinstance(node.op, QUIET + JOINS)

    def _plane(self, value: str) -> tuple[int, ...]:
        return self.graph.type(value).shape[-2:]
