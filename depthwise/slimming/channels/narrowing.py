"""Each operator with fewer channels: the weights and attributes that go with them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from depthwise.graph import Constant, Graph, Node, Shape, TensorType, ops
from depthwise.graph.infer import infer
from depthwise.graph.names import take_name
from depthwise.graph.ops import Op


@dataclass(frozen=True, eq=False)
class Cut:
    """Which places of one axis of a value stay."""

    axis: int
    stay: np.ndarray


Inputs = tuple[str, ...]


def narrowed(graph: Graph, cuts: Mapping[str, Cut]) -> Graph:
    """Return a graph without the places that are cut, its constants under their names."""
    n = Narrowing(graph, cuts)
    for node in graph:
        if cuts.keys().isdisjoint((node.name, *node.inputs)):
            n.copy(node)
        else:
            n.append(node, *_narrow(node.op, node, n))
    return replace(graph, constants=n.constants, nodes=tuple(n.nodes))


class Narrowing:
    """A graph while it loses places: what is left of it so far."""

    def __init__(self, graph: Graph, cuts: Mapping[str, Cut]):
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self._graph = graph
        self._cuts = cuts
        self._readings = Counter(name for node in graph for name in node.inputs)
        self._types: dict[str, TensorType] = dict(graph.inputs)
        self._taken = graph.names()

    def copy(self, node: Node) -> None:
        """Append a node as it is."""
        self._read(node.inputs)
        self._types[node.name] = node.type
        self.nodes.append(node)

    def append(self, node: Node, op: Op, inputs: Inputs) -> None:
        """Append a node with another operator and other inputs."""
        self._read(inputs)
        type_ = infer(op, *(self._types[name] for name in inputs))
        self._types[node.name] = type_
        self.nodes.append(replace(node, op=op, inputs=inputs, type=type_))

    def _read(self, inputs: Inputs) -> None:
        """Take over constants of which nothing was cut."""
        for name in inputs:
            if name in self._graph.constants and name not in self.constants:
                self._define(name, self._graph.constants[name])
                self._read(self._graph.constants[name].sources)  # they are still counted

    def shape(self, value: str) -> Shape:
        """Return the shape that a value had."""
        return self._graph.type(value).shape

    def shape_left(self, value: str) -> Shape:
        """Return the shape of what stays of a value."""
        shape, cut = self.shape(value), self._cuts.get(value)
        if cut is None:
            return shape
        return (*shape[: cut.axis], int(cut.stay.sum()), *shape[cut.axis + 1 :])

    def stay(self, value: str, axis: int) -> np.ndarray:
        """Return which places of an axis stay."""
        shape, cut = self.shape(value), self._cuts.get(value)
        axis %= len(shape)
        return np.ones(shape[axis], bool) if cut is None or cut.axis != axis else cut.stay

    def cut(self, value: str) -> Cut | None:
        """Return what stays of a value, None where all does."""
        return self._cuts.get(value)

    def is_constant(self, value: str) -> bool:
        """Return whether a value is a constant."""
        return value in self._graph.constants

    def data(self, constant: str) -> np.ndarray:
        """Return a constant as it is stored. Raises ValueError where its numbers are not known."""
        data = self._graph.constants[constant].data
        if data is None:
            raise ValueError(f"{constant} has no numbers: open the network with its weights")
        return data

    def keep(self, constant: str, data: np.ndarray) -> str:
        """Return the name of what stays of a constant: its own where one node alone reads it.

        What was computed from parameters is a parameter from now on.
        """
        known = self._graph.constants[constant]
        name = constant if self._readings[constant] == 1 else self.free(constant)
        trainable = known.trainable or bool(known.sources)
        type_ = replace(known.type, shape=data.shape)
        left = replace(known, type=type_, data=data, trainable=trainable, sources=())
        self._define(name, left)
        return name

    def free(self, name: str) -> str:
        """Return a name like this that nothing has."""
        return take_name(name, self._taken)

    def add(self, name: str, numbers: np.ndarray) -> str:
        """Add a constant under a name like this; return the name."""
        name = self.free(name)
        self._define(name, Constant(TensorType(numbers.shape, str(numbers.dtype)), numbers))
        return name

    def take(self, constant: str, stay: np.ndarray, axis: int = 0) -> str:
        """Return the name of a constant without the places of one axis that do not stay."""
        return self.keep(constant, np.compress(stay, self.data(constant), axis))

    def _define(self, name: str, constant: Constant) -> None:
        self._taken.add(name)
        self.constants[name] = constant
        self._types[name] = constant.type


@singledispatch
def _narrow(op: Op, node: Node, n: Narrowing) -> tuple[Op, Inputs]:
    """Return an operator and its inputs with fewer channels; by default both as they are."""
    return op, node.inputs


@_narrow.register
def _(op: ops.Conv2d | ops.ConvTranspose2d | ops.DeformConv2d, node, n):
    x, weight, *others = node.inputs
    ins, outs = n.stay(x, 1).reshape(op.groups, -1), n.stay(node.name, 1).reshape(op.groups, -1)
    rows, columns = (ins, outs) if isinstance(op, ops.ConvTranspose2d) else (outs, ins)
    data = n.data(weight)
    blocks = data.reshape(op.groups, -1, *data.shape[1:])
    left = [
        block[stay][:, read]
        for block, stay, read in zip(blocks, rows, columns, strict=True)
        if stay.any() and read.any()
    ]
    bias = [n.take(name, outs.reshape(-1)) for name in others[:1]]
    kept = n.keep(weight, np.concatenate(left))
    return replace(op, groups=len(left)), (x, kept, *bias, *others[1:])


@_narrow.register
def _(op: ops.Linear, node, n):
    x, weight, *bias = node.inputs
    outs = n.stay(node.name, -1)
    kept = n.keep(weight, n.data(weight)[outs][:, n.stay(x, -1)])
    return op, (x, kept, *(n.take(name, outs) for name in bias))


@_narrow.register
def _(op: ops.BatchNorm | ops.PRelu | ops.GroupNorm, node, n):
    x, *parameters = node.inputs
    stay = n.stay(x, 1)
    if isinstance(op, ops.GroupNorm):
        op = replace(op, groups=int(stay.reshape(op.groups, -1).any(1).sum()))
    left = (n.take(p, stay) if n.shape(p) == stay.shape else p for p in parameters)
    return op, (x, *left)


@_narrow.register
def _(op: ops.LayerNorm, node, n):
    x, *parameters = node.inputs
    rank = len(n.shape(x))
    cut = n.cut(x)
    if cut is None or cut.axis < rank - op.axes:
        return op, node.inputs
    return op, (x, *(n.take(p, cut.stay, cut.axis - rank + op.axes) for p in parameters))


@_narrow.register
def _(op: ops.Binary | ops.Compare | ops.Where, node, n):
    cut, rank = n.cut(node.name), len(node.type.shape)

    def left(name: str) -> str:
        shape = n.shape(name)
        axis = cut.axis - rank + len(shape) if cut else -1
        follows = n.is_constant(name) and axis >= 0 and shape[axis] > 1
        return n.take(name, cut.stay, axis) if cut and follows else name

    return op, tuple(map(left, node.inputs))


@_narrow.register
def _(op: ops.Reduce, node, n):
    """Let a mean over channels be that over all there were, for those cut were nearly zero."""
    (x,) = node.inputs
    cut = n.cut(x)
    if op.function != "mean" or cut is None or cut.axis not in op.axes:
        return op, node.inputs
    n.append(replace(node, name=n.free(f"{node.name}.mean")), op, node.inputs)
    share = np.asarray(cut.stay.mean(), node.type.element.numpy)
    return ops.Binary("multiply"), (n.nodes[-1].name, n.add(f"{node.name}.share", share))


@_narrow.register
def _(op: ops.Slice | ops.Gather, node, n):
    x, stay = node.inputs[0], n.stay(node.inputs[0], op.axis)
    if stay.all():
        return op, node.inputs
    if isinstance(op, ops.Slice):
        taken = np.arange(op.start, op.stop, op.step)
    else:
        taken = n.data(node.inputs[1]).astype(int) % len(stay)
    now = (np.cumsum(stay) - 1)[taken[stay[taken]]]
    step = int(now[1] - now[0]) if len(now) > 1 else 1
    if isinstance(op, ops.Slice) and step > 0 and (np.diff(now) == step).all():
        return ops.Slice(op.axis, int(now[0]), int(now[-1]) + 1, step), (x,)
    if isinstance(op, ops.Gather):
        return op, (x, n.keep(node.inputs[1], now.astype(n.data(node.inputs[1]).dtype)))
    return ops.Gather(op.axis), (x, n.add(f"{node.name}.order", now))


@_narrow.register
def _(op: ops.Pad, node, n):
    cut = n.cut(node.name)
    if cut is None:
        return op, node.inputs
    before, after = op.pads[cut.axis]
    stay = cut.stay
    left = int(stay[:before].sum()), int(stay[len(stay) - after :].sum())
    return replace(op, pads=(*op.pads[: cut.axis], left, *op.pads[cut.axis + 1 :])), node.inputs


@_narrow.register
def _(op: ops.Reshape | ops.Expand, node, n):
    return replace(op, shape=n.shape_left(node.name)), node.inputs
