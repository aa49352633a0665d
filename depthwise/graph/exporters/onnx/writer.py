"""An ONNX graph under construction: its names, its nodes and its tensors."""

from collections import Counter
from typing import Any

import numpy as np
from onnx import NodeProto
from onnx.helper import make_node

from depthwise.graph import ops
from depthwise.graph.frontends.onnx.names import SCOPES
from depthwise.graph.graph import Constant, Graph, Node, Shape, TensorType
from depthwise.graph.names import take_name
from depthwise.graph.ops import Op


class OnnxGraph:
    """What is written: `nodes` in order, and `tensors` by name, the constants of our graph first.

    `values` has the ONNX name of each value of ours. Inputs and constants keep their names, and a
    value that the network returns has the name of the output ("output" where it has none).
    """

    def __init__(self, graph: Graph):
        self.graph, self.readers = graph, graph.readers()
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, Constant] = {}
        self._taken: set[str] = set()
        self.values = {name: self.take_name(name) for name in (*graph.inputs, *graph.constants)}
        self.outputs = [self.take_name(output.name or "output") for output in graph.outputs]
        self._paths = Counter(path for node in graph for path in enclosing(node.path))

    def take_name(self, name: str) -> str:
        """Return a name that no value has yet: `name`, else numbered as in add.1, add.2."""
        return take_name(name.encode(errors="backslashreplace").decode(), self._taken)

    def name_node(self, node: Node) -> str:
        """Return a readable name: the module's path, if there is one operator only in all of it.

        Others in a module are told apart by what they compute, as in blocks.3.add.
        """
        alone = node.path and self._paths[node.path] == 1
        return self.take_name(node.path if alone else f"{node.path}.{kind(node.op)}".lstrip("."))

    def add(
        self, operator: str, inputs: list[str], *outputs: str, path: str = "", **attributes: Any
    ) -> None:
        """Append a node that has the name of its first output and lies in the module `path`."""
        name = outputs[0]
        node = make_node(operator, inputs, outputs, name, **attributes)
        scopes = ["", *reversed(enclosing(path)), name] if path else ["", name]
        node.metadata_props.add(key=SCOPES, value=repr(scopes))
        self.nodes.append(node)


class NodeWriter:
    """Writes one node of ours as one or more of ONNX, whose names begin with its own.

    A rule appends nodes with `add` and returns the name of the result.
    """

    def __init__(self, written: OnnxGraph, node: Node):
        self.type = node.type
        self._written, self._node = written, node.name
        self.name = written.name_node(node)
        self._path = node.path
        self._types = {written.values[name]: written.graph.type(name) for name in node.inputs}

    def shape(self, value: str) -> Shape:
        """Return the shape of an input of the node."""
        return self._types[value].shape

    def add(self, operator: str, *inputs: str | None, **attributes: Any) -> str:
        """Append operator(inputs) and return the name of its result; None is an absent input."""
        return self.add_several(operator, 1, *inputs, **attributes)[0]

    def add_several(
        self, operator: str, outputs: int, *inputs: str | None, **attributes: Any
    ) -> list[str]:
        """Append operator(inputs) and return the names of its first results."""
        given = [value or "" for value in inputs]
        while given and not given[-1]:
            given.pop()
        names = [self._own_name(operator) for _ in range(outputs)]
        self._written.add(operator, given, *names, path=self._path, **attributes)
        return names

    def readers(self, name: str = "") -> list[Node]:
        """Return the nodes that read a value, this node's unless named; none of one returned."""
        name = name or self._node
        returned = any(output.value == name for output in self._written.graph.outputs)
        return [] if returned else self._written.readers[name]

    def constant(self, data: Any, name: str, dtype: str = "") -> str:
        """Add a tensor: whole numbers as int64, others in the element type of the first input.

        `dtype` is another type for it. Returns its name, which is `name` within the node's own.
        """
        array = np.asarray(data)
        usual = "int64" if array.dtype.kind in "iu" else next(iter(self._types.values())).dtype
        name = self._own_name(name)
        type_ = TensorType(array.shape, dtype or usual)
        self._written.tensors[name] = Constant(type_, type_.element.encode(array))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """Append a Reshape to `shape`."""
        return self.add("Reshape", value, self.constant(np.array(shape, np.int64), "shape"))

    def slice(self, value: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Append a Slice of one axis."""
        numbers = {"starts": start, "ends": stop, "axes": axis, "steps": step}
        given = (self.constant([number], name) for name, number in numbers.items())
        return self.add("Slice", value, *given)

    def finish(self, result: str, value: str) -> None:
        """Give the result of a rule, which its last node computes, the name `value`."""
        if result in self._types:  # an operator that does nothing
            result = self.add("Identity", result)
        last = self._written.nodes[-1]
        last.output[list(last.output).index(result)], last.name = value, self.name

    def _own_name(self, name: str) -> str:
        return self._written.take_name(f"{self.name}/{name}")


def enclosing(path: str) -> list[str]:
    """Return the path of a module and of each that it lies in: a.b.c, a.b, a."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def kind(op: Op) -> str:
    """Return what an operator computes in one word, as in relu, add or conv2d."""
    named = isinstance(op, ops.Activation | ops.Binary | ops.Reduce)
    return op.function if named else type(op).__name__.lower()
