"""What a rule is given: the operands of one node, as values of the graph or as known arrays."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from onnx import NodeProto

from depthwise.graph import ops
from depthwise.graph.attributes import check_attributes
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.onnx.known import Known
from depthwise.graph.frontends.onnx.rules import refuse
from depthwise.graph.infer import infer_dtype


class OperandSource(Protocol):
    """What operands are taken from: the model on its way into the graph."""

    builder: Builder
    opset: int
    known: dict[str, Known]
    untrained: set[str]

    def value(self, name: str) -> Value:
        """Return an input, a constant or a computed value of the graph."""
        ...

    def is_read(self, name: str) -> bool:
        """Tell whether a node or an output of the model reads a value."""
        ...

    def add_derived(self, name: str, data: np.ndarray) -> Value:
        """Return a constant computed from the known array `name`."""
        ...


class Operands:
    """The operands of one node; those at the end may be absent."""

    def __init__(self, source: OperandSource, node: NodeProto):
        self.source, self.node = source, node
        self.opset = source.opset

    def __getitem__(self, index: int) -> Value:
        """Return an operand as a value of the graph."""
        return self.source.value(self._name(index))

    def __len__(self) -> int:
        """Return the number of operands that are written, absent ones between them too."""
        return len(self.node.input)

    def has(self, index: int) -> bool:
        """Tell whether an operand is there."""
        return index < len(self.node.input) and self.node.input[index] != ""

    def optional(self, index: int) -> list[Value]:
        """Return an operand in a list, which is empty if it is absent."""
        return [self[index]] if self.has(index) else []

    def _name(self, index: int) -> str:
        if not self.has(index):
            raise ValueError(f"its operand {index} is missing")
        return self.node.input[index]

    def all(self) -> list[Value]:
        """Return every operand."""
        return [self[i] for i in range(len(self.node.input))]

    def is_known(self, index: int) -> bool:
        """Tell whether an operand's elements are known."""
        return self.has(index) and self.node.input[index] in self.source.known

    def array(self, index: int) -> np.ndarray:
        """Return the elements of an operand, which must be known."""
        name = self._name(index)
        refuse(
            name not in self.source.known,
            f"its operand {name!r} is computed when the network runs, where a library needs it "
            "when it is made",
        )
        return self.source.known[name].data

    def ints(self, index: int) -> list[int]:
        """Return the whole numbers of a known operand."""
        return [int(i) for i in np.ravel(self.array(index))]

    def number(self, index: int) -> float | None:
        """Return the one number of a known operand, None if it is absent or has several."""
        data = self.array(index) if self.is_known(index) else np.empty(0)
        return float(data.reshape(())) if data.size == 1 else None

    def shape(self, index: int) -> tuple[int, ...]:
        """Return an operand's shape, known or not, without making a constant of it."""
        known = self.source.known.get(self._name(index))
        return known.data.shape if known else self[index].shape

    def axis(self, x: Value, axis: int) -> int:
        """Return an axis of x counted from the front."""
        if not -x.rank <= axis < x.rank:
            raise ValueError(f"there is no axis {axis} of a tensor of {x.rank} axes")
        return x.axis(axis)

    def dtype(self, index: int) -> str:
        """Return an operand's type of element, without making a constant of it."""
        known = self.source.known.get(self._name(index))
        return str(known.data.dtype) if known else self[index].type.dtype

    def wants(self, output: int) -> bool:
        """Tell whether anything reads an output of the node."""
        names = self.node.output
        return output < len(names) and bool(names[output]) and self.source.is_read(names[output])

    def derived(self, index: int, change: Callable[[np.ndarray], np.ndarray]) -> Value:
        """Return the constant that `change` makes of a known operand: a weight in our layout."""
        return self.source.add_derived(self.node.input[index], change(self.array(index)))

    def mark_untrained(self, *indices: int) -> None:
        """Note that operands are statistics, not parameters that training finds."""
        self.source.untrained |= {self.node.input[index] for index in indices}

    def constant(self, data: np.ndarray | float, like: Value | None = None) -> Value:
        """Return a constant of the rule's own, of the type of the first operand or of `like`."""
        return self.source.builder.literal(data, (like or self[0]).type.dtype)

    def emit(self, op: Any, *inputs: Value) -> Value:
        """Append op(inputs) and return its value."""
        check_attributes(op, *(value.shape for value in inputs))
        try:
            infer_dtype(op, *(value.type.dtype for value in inputs))
        except ValueError as error:
            refuse(True, str(error))
        result = self.source.builder.emit(op, *inputs)
        if any(size < 1 for size in result.shape):
            raise ValueError(f"its result would have the shape {result.shape}: take a larger input")
        return result

    def binary(self, function: Any, x: Value | float, y: Value | float) -> Value:
        """Combine two tensors, or a tensor and a number."""
        like = x if isinstance(x, Value) else y
        assert isinstance(like, Value)
        values = [v if isinstance(v, Value) else self.constant(float(v), like) for v in (x, y)]
        return self.emit(ops.Binary(function), *values)

    def unary(self, function: Any, x: Value, *parameters: float) -> Value:
        """Apply one function to each element."""
        return self.emit(ops.Activation(function, tuple(map(float, parameters))), x)

    def reshape(self, x: Value, *shape: int) -> Value:
        """Return x in another shape, x itself where it has that shape."""
        return x if shape == x.shape else self.emit(ops.Reshape(shape), x)

    def permute(self, x: Value, *axes: int) -> Value:
        """Return x with its axes in another order, x itself where that is the same."""
        return x if axes == tuple(range(x.rank)) else self.emit(ops.Permute(axes), x)
