"""A graph while a pass rewrites it: who reads what, and what dies when a node is replaced."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np

from depthwise.graph import Constant, Graph, Node, Output, TensorType, ops
from depthwise.graph.infer import infer
from depthwise.graph.names import take_name
from depthwise.graph.ops import Op


class GraphRewriter:
    """The working copy of one pass.

    Nodes keep their places: a node is replaced where it stands and under its own name, so that
    what is fused into it is computed later than before, never earlier than what it reads.
    What nothing reads any more is dropped at once.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._changed = False
        self._nodes = {node.name: node for node in graph}
        self._constants = dict(graph.constants)
        self._outputs = graph.outputs
        self._readers: dict[str, dict[str, None]] = {}
        for node in graph:
            for name in node.inputs:
                self._readers.setdefault(name, {})[node.name] = None

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the nodes in order, each as it then is; dropped ones are passed over."""
        for name in list(self._nodes):
            if name in self._nodes:
                yield self._nodes[name]

    def node(self, value: str) -> Node | None:
        """Return the node that computes a value, None for inputs and constants."""
        return self._nodes.get(value)

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read a value."""
        return [self._nodes[name] for name in self._readers.get(value, ())]

    def is_output(self, value: str) -> bool:
        """Return whether the network returns a value."""
        return any(output.value == value for output in self._outputs)

    def private(self, value: str) -> Node | None:
        """Return the node that computes a value which is read once and not returned, else None."""
        node, readers = self._nodes.get(value), self.readers(value)
        once = len(readers) == 1 and readers[0].inputs.count(value) == 1
        return node if once and not self.is_output(value) else None

    def type(self, value: str) -> TensorType:
        """Return the type of a value."""
        if value in self._nodes:
            return self._nodes[value].type
        return self._constants[value].type if value in self._constants else self._graph.type(value)

    def data(self, value: str) -> np.ndarray | None:
        """Return a constant's numbers, None for what is computed."""
        return self._constants[value].numbers if value in self._constants else None

    def numbers(self, constant: str) -> np.ndarray:
        """Return the numbers of a constant that is known to have them."""
        numbers = self.data(constant)
        assert numbers is not None, f"{constant} has no data"
        return numbers

    def is_unshared(self, value: str) -> bool:
        """Tell whether a value is a constant with numbers that one node alone reads."""
        return self.data(value) is not None and len(self.readers(value)) == 1

    def add_constant(
        self, name: str, numbers: np.ndarray, dtype: str | None = None, trainable: bool = False
    ) -> str:
        """Add a constant of the type `dtype`, else of that of its numbers; return its name.

        That is `name`, numbered where it is taken.
        """
        free = take_name(name, self._names())
        type_ = TensorType(numbers.shape, dtype or str(numbers.dtype))
        data = np.asarray(type_.element.encode(numbers), order="C")  # keeps rank 0
        self._constants[free] = Constant(type_, data, trainable)
        return free

    def set_constant(self, name: str, numbers: np.ndarray) -> None:
        """Give a constant other numbers, of any shape, in its type and under its name."""
        old = self._constants[name]
        type_ = replace(old.type, shape=numbers.shape)
        data = np.asarray(type_.element.encode(numbers), order="C")
        self._constants[name] = replace(old, type=type_, data=data, exact=None)
        self._changed = True

    def insert(self, before: Node, name: str, op: object, *inputs: str, path: str) -> str:
        """Add a node that is computed just before another; return its name.

        That is `name`, numbered where it is taken.
        """
        free, known = take_name(name, self._names()), cast(Op, op)  # as in `replace`
        node = Node(free, known, inputs, infer(known, *map(self.type, inputs)), path)
        nodes = list(self._nodes.values())
        nodes.insert(list(self._nodes).index(before.name), node)
        self._nodes = {node.name: node for node in nodes}
        for value in inputs:
            self._readers.setdefault(value, {})[free] = None
        self._changed = True
        return free

    def _names(self) -> set[str]:
        return {*self._constants, *self._nodes, *self._graph.inputs}

    def replace(
        self, node: Node, op: object, *inputs: str, path: str | None = None,
        type: TensorType | None = None,
    ) -> None:  # fmt: skip
        """Let the value of `node` be op(inputs), of the module `path` and of `type`.

        Both are as they were where they are not given.
        """
        path, type = node.path if path is None else path, type or node.type
        # graph.ops.Op lists what capture makes; check and interpret find ours by dispatch
        self._nodes[node.name] = Node(node.name, cast(Op, op), inputs, type, path, node.line)
        for name in inputs:
            self._readers.setdefault(name, {})[node.name] = None
        self._forget(node.name, [name for name in node.inputs if name not in inputs])
        self._changed = True

    def replace_with_constant(self, node: Node, numbers: np.ndarray) -> None:
        """Let the value of `node` be a constant of the same name and type."""
        del self._nodes[node.name]
        self._constants[node.name] = Constant(node.type, node.type.element.encode(numbers))
        self._forget(node.name, node.inputs)
        self._changed = True

    def bypass(self, node: Node, value: str) -> None:
        """Let everyone who reads `node` read `value` instead."""
        for reader in self.readers(node.name):
            inputs = tuple(value if name == node.name else name for name in reader.inputs)
            self._nodes[reader.name] = replace(reader, inputs=inputs)
            self._readers.setdefault(value, {})[reader.name] = None
        self._readers[node.name] = {}
        self._outputs = tuple(
            Output(output.name, value) if output.value == node.name else output
            for output in self._outputs
        )
        self.drop_if_unread(node.name)
        self._changed = True

    def drop_if_unread(self, value: str) -> None:
        """Drop a node or constant that nothing reads, then those that only it read."""
        if self._readers.get(value) or self.is_output(value):
            return
        if value in self._nodes:
            self._changed = True
            self._forget(value, self._nodes.pop(value).inputs)
        elif value in self._constants:
            self._changed = True
            del self._constants[value]

    def _forget(self, reader: str, values: list[str] | tuple[str, ...]) -> None:
        for value in dict.fromkeys(values):
            self._readers[value].pop(reader, None)
            self.drop_if_unread(value)

    def result(self) -> Graph:
        """Return the rewritten graph, the given one itself where nothing changed."""
        if not self._changed:
            return self._graph
        nodes = tuple(self._nodes.values())
        return replace(self._graph, constants=self._constants, nodes=nodes, outputs=self._outputs)


def with_bias(edit: GraphRewriter, node: Node) -> tuple[str, ...]:
    """Return the inputs of a convolution that is not fused, with a bias of zeros if it had none."""
    if len(node.inputs) > 2:
        return node.inputs
    channels = node.type.shape[-1 if isinstance(node.op, ops.Linear) else 1]
    name = f"{node.path}.bias".lstrip(".")
    return (*node.inputs, edit.add_constant(name, np.zeros(channels), node.type.dtype))
