"""A graph under construction: values are emitted one by one, their types inferred."""

from dataclasses import replace
from math import isfinite
from typing import NamedTuple

import numpy as np

from depthwise.graph.dtypes import FLOAT32, find_dtype
from depthwise.graph.graph import Constant, Node, TensorType
from depthwise.graph.infer import infer
from depthwise.graph.names import take_name
from depthwise.graph.ops import Cast, Op, Opaque


class Value(NamedTuple):
    """A tensor of the graph under construction."""

    name: str
    type: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.type.shape

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.type.shape)

    def axis(self, axis: int) -> int:
        """Return an axis counted from the front."""
        return axis % self.rank if self.rank else 0


class Builder:
    """Collects nodes and constants.

    `name`, `path`, `line` and `dtype` are those of the operator being lowered and of its result;
    `read` are the numbers of its results that are read, where it has several.
    Inputs, constants and nodes share one namespace: whoever comes later to a name is numbered.
    """

    def __init__(self):
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.name = self.path = self.line = self.dtype = ""
        self.read: frozenset[int] = frozenset()
        self._names: set[str] = set()
        self._numbers: dict[str, Value] = {}

    def take_name(self, name: str) -> str:
        """Return `name`, numbered where another value has it: "add", "add.1", "add.2"."""
        return take_name(name, self._names)

    def emit(self, op: Op, *inputs: Value) -> Value:
        """Append op(inputs) and return its value."""
        return self._append(op, inputs, infer(op, *(value.type for value in inputs)))

    def cast(self, value: Value, dtype: str) -> Value:
        """Return a value in another type, itself where it has that one."""
        if value.type.dtype == dtype:
            return value
        type_ = TensorType(value.shape, dtype)
        return self._append(Cast(dtype), (value,), type_, f"{value.name}.{dtype}")

    def emit_opaque(self, op: Opaque, inputs: tuple[Value, ...], type: TensorType) -> Value:
        """Append an operator that we do not know, whose result has the given type."""
        return self._append(op, inputs, type)

    def add_constant(self, name: str, constant: Constant) -> Value:
        """Add a weight, buffer or literal under a name, or a name like it."""
        name = self.take_name(name)
        self.constants[name] = constant
        return Value(name, constant.type)

    def literal(self, number: float | list[float] | np.ndarray, dtype: str) -> Value:
        """Return the constant for a number (a scalar) or an array written in the network's code."""
        data = find_dtype(dtype).encode(np.asarray(number))
        constant = Constant(TensorType(data.shape, dtype), data)
        if data.ndim:
            return self.add_constant(f"literal.{len(self.constants)}", constant)
        name = f"literal.{dtype}.{number!r}"
        if name not in self._numbers:
            element, exact = constant.type.element, float(np.asarray(number))
            if element.is_floating and element.bits < FLOAT32.bits and isfinite(exact):
                constant = replace(constant, exact=exact)
            self._numbers[name] = self.add_constant(name, constant)
        return self._numbers[name]

    def _append(self, op: Op, inputs: tuple[Value, ...], type: TensorType, name: str = "") -> Value:
        name = self.take_name(name or self.name)  # several of ours may be one of the network's
        self.nodes.append(Node(name, op, tuple(v.name for v in inputs), type, self.path, self.line))
        return Value(name, type)
