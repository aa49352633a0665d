"""ONNX models of one or a few operators as our graphs; only the tests read ONNX.

A rule takes the operands of one ONNX node and its attributes by name, with ONNX's defaults, and
returns the value of each output. What our operators cannot say is refused with the reason.
https://onnx.ai/onnx/operators
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto
from onnx.helper import get_attribute_value

from depthwise.graph import Constant, Graph, Node, Output, TensorType, ops
from depthwise.graph.builder import Builder, Value

RULES: dict[str, Callable[..., Any]] = {}


class Refused(Exception):  # noqa: N818
    """Our graph cannot say what an ONNX model says; the message is the reason."""


def refuse(condition: object, reason: str) -> None:
    if condition:
        raise Refused(reason)


def rule(*names: str):
    def register(function: Callable[..., Any]):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True)
class Converted:
    """A model as a graph, and the arrays that it is run on: weights are within the graph."""

    graph: Graph
    inputs: tuple[np.ndarray, ...]


class Converter:
    """One model on its way: `arrays` by name were given, `values` are part of our graph."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays
        self.builder = Builder()
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, TensorType] = {}

    def value(self, name: str) -> Value:
        """Return a computed value or an input of the network."""
        if name not in self.values:
            self.values[name] = Value(name, checked(self.arrays[name]))
            self.inputs[name] = self.values[name].type
        return self.values[name]

    def run(self, node: NodeProto) -> None:
        self.builder.name = node.output[0]
        attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        results = RULES[node.op_type](Operands(self, node), **attributes)
        results = results if isinstance(results, list) else [results]
        self.values |= dict(zip(node.output, results, strict=True))


@dataclass(frozen=True)
class Operands:
    """What one node reads: each operand as a value, as a constant of the graph, or as an array."""

    converter: Converter
    node: NodeProto

    def __getitem__(self, index: int) -> Value:
        return self.converter.value(self.node.input[index])

    def all(self) -> list[Value]:
        return [self[i] for i in range(len(self.node.input))]

    def array(self, index: int) -> np.ndarray | None:
        """Return the data of an operand that is fixed when the network is compiled."""
        name = self.node.input[index] if index < len(self.node.input) else ""
        return self.converter.arrays[name] if name else None

    def ints(self, index: int, default: Any = None) -> Any:
        data = self.array(index)
        return default if data is None else [int(i) for i in data]

    def images(self, index: int = 0) -> Value:
        refuse(self[index].rank != 4, "not images (N, C, H, W)")
        return self[index]

    def weights(self, *indices: int) -> list[Value]:
        """Return those of the operands that are there, as constants."""
        found = (self.array(index) for index in indices)
        return [self.constant(data) for data in found if data is not None]

    def constant(self, data: np.ndarray | float) -> Value:
        data = np.asarray(data)
        data = data.astype(np.float32) if data.dtype == np.float64 else data
        name = f"constant.{len(self.converter.builder.constants)}"
        return self.converter.builder.add_constant(name, Constant(checked(data), data))

    def emit(self, op: Any, *inputs: Value) -> Value:
        return self.converter.builder.emit(op, *inputs)

    def binary(self, function: Any, x: Value, y: Value | float) -> Value:
        return self.emit(ops.Binary(function), x, y if isinstance(y, Value) else self.constant(y))

    def reshape(self, x: Value, *shape: int) -> Value:
        return self.emit(ops.Reshape(shape), x)


def checked(data: np.ndarray) -> TensorType:
    refuse(data.dtype != np.float32, "another type than float32")
    refuse(data.size == 0, "no elements")
    return TensorType(data.shape)


def convert(model: ModelProto, inputs: list[np.ndarray]) -> Converted:
    """Return `model` as a graph for inputs of these shapes. Raises Refused."""
    arrays = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
    if {node.op_type for node in model.graph.node} == {"Pad"}:  # it moves what float32 can hold too
        arrays[model.graph.input[0].name] = inputs[0].astype(np.float32)
    converter = Converter(arrays)
    for node in model.graph.node:
        converter.run(node)
    outputs = tuple(Output(o.name, converter.values[o.name].name) for o in model.graph.output)
    builder = converter.builder
    graph = Graph(converter.inputs, builder.constants, tuple(builder.nodes), outputs)
    return Converted(graph, tuple(arrays[name] for name in graph.inputs))


def join(graphs: Mapping[str, Graph]) -> Graph:
    """Return one graph that computes all; each one's names begin with its own name."""
    inputs, constants = {}, {}
    nodes: list[Node] = []
    outputs: list[Output] = []
    for key, graph in graphs.items():
        inputs |= {f"{key}/{name}": type for name, type in graph.inputs.items()}
        constants |= {f"{key}/{name}": constant for name, constant in graph.constants.items()}
        for node in graph:
            read = tuple(f"{key}/{name}" for name in node.inputs)
            nodes.append(replace(node, name=f"{key}/{node.name}", inputs=read, path=key))
        outputs += [Output(f"{key}/{o.name}", f"{key}/{o.value}") for o in graph.outputs]
    return Graph(inputs, constants, tuple(nodes), tuple(outputs))
