"""A graph under construction: values are emitted one by one, their shapes inferred."""

from typing import NamedTuple

import numpy as np

from depthwise.graph.graph import Constant, Node, TensorType
from depthwise.graph.ops import Op, Opaque
from depthwise.graph.shapes import infer


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
    """Collects nodes and constants; `name` and `path` are those of the operator being lowered."""

    def __init__(self):
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.name = self.path = ""
        self._names: set[str] = set()

    def emit(self, op: Op, *inputs: Value) -> Value:
        """Append op(inputs) and return its value."""
        shape = infer(op, *(value.shape for value in inputs))
        return self._append(op, inputs, TensorType(shape, inputs[0].type.dtype))

    def emit_opaque(self, op: Opaque, inputs: tuple[Value, ...], type: TensorType) -> Value:
        """Append an operator that we do not know, whose result has the given type."""
        return self._append(op, inputs, type)

    def add_constant(self, name: str, constant: Constant) -> Value:
        """Add a named weight, buffer or literal."""
        self.constants[name] = constant
        return Value(name, constant.type)

    def literal(self, number: float | list[float] | np.ndarray, dtype: str) -> Value:
        """Return the constant for a number (a scalar) or an array written in the network's code."""
        data = np.asarray(number, dtype)
        name = f"literal.{len(self.constants)}" if data.ndim else f"literal.{dtype}.{number!r}"
        return self.add_constant(name, Constant(TensorType(data.shape, dtype), data))

    def _append(self, op: Op, inputs: tuple[Value, ...], type: TensorType) -> Value:
        # an operator of the network may take several of ours: the later ones are numbered
        name, count = self.name, 1
        while name in self._names:
            name, count = f"{self.name}.{count}", count + 1
        self._names.add(name)
        self.nodes.append(Node(name, op, tuple(v.name for v in inputs), type, self.path))
        return Value(name, type)
