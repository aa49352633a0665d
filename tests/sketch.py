"""A graph under construction by chance, with the numbers that its values take."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from depthwise.graph import Constant, Graph, Node, Output, TensorType, check, ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.infer import infer_shape
from depthwise.graph.interpret import evaluate
from depthwise.graph.ops import Padding

LARGEST = 6000  # elements of a value
ROUNDING = 1e-10  # in float64, of numbers near 1
FLAT = Padding(0, 0, 0, 0)


class Unfit(Exception):  # noqa: N818
    """An operator does not suit the value that was drawn for it."""


@dataclass(frozen=True)
class Drawn:
    """A graph and the arrays to run it on."""

    graph: Graph
    inputs: tuple[np.ndarray, ...]


class Sketch:
    """A graph under construction, with the numbers that its values take in float64."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.builder = Builder()
        self.inputs: dict[str, np.ndarray] = {}
        self.numbers: dict[str, np.ndarray] = {}
        self.values: list[Value] = []  # that may be read
        self.returned: list[Value] = []  # of other types: shown, and not read by any operator

    def whole(self, low: int, high: int) -> int:
        """Draw from low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, choices: Any) -> Any:
        choices = list(choices)
        if not choices:
            raise Unfit
        return choices[self.whole(0, len(choices) - 1)]

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape).astype(np.float32)

    def input(self, data: np.ndarray) -> Value:
        name = f"input{len(self.inputs)}"
        self.inputs[name] = data.astype(np.float32)
        self.numbers[name] = self.inputs[name].astype(np.float64)
        return Value(name, TensorType(data.shape))

    def constant(self, data: np.ndarray | float) -> Value:
        data = np.asarray(data, np.float32)
        name = f"weight{len(self.builder.constants)}"
        self.numbers[name] = data.astype(np.float64)
        return self.builder.add_constant(name, Constant(TensorType(data.shape), data))

    def places(self, numbers: np.ndarray) -> Value:
        """Return a constant of whole numbers."""
        name = f"places{len(self.builder.constants)}"
        self.numbers[name] = numbers.astype(np.int64)
        constant = Constant(TensorType(numbers.shape, "int64"), self.numbers[name])
        return self.builder.add_constant(name, constant)

    def emit(self, op: ops.Op, *inputs: Value) -> Value:
        try:
            shape = infer_shape(op, *(value.shape for value in inputs))
        except ValueError as error:
            raise Unfit from error
        if min(shape, default=1) < 1 or prod(shape) > LARGEST or len(shape) > 5:
            raise Unfit
        with np.errstate(all="ignore"):
            result = evaluate(op, *(self.numbers[value.name] for value in inputs))
        if not np.isfinite(result).all():
            raise Unfit
        self.builder.name = type(op).__name__.lower()
        value = self.builder.emit(op, *inputs)
        self.numbers[value.name] = result
        return value

    def binary(self, function: Any, a: Value, b: Value | np.ndarray | float) -> Value:
        return self.emit(ops.Binary(function), a, b if isinstance(b, Value) else self.constant(b))

    def tame(self, value: Value) -> Value:
        """Return a value scaled to where float32 is as good as float64.

        What is left of a difference of equal numbers is refused: rounding errors alone.
        """
        largest = float(np.abs(self.numbers[value.name]).max())
        if 0 < largest < ROUNDING:
            raise Unfit
        scaled = largest and not 0.01 < largest < 30
        return self.binary("multiply", value, 1 / largest) if scaled else value

    def clamp(self, value: Value, low: float, high: float) -> Value:
        return self.emit(ops.Activation("clamp", (low, high)), value)

    def finish(self, *outputs: Value) -> Drawn:
        """Return the graph, without what its nodes do not read."""
        types = {name: TensorType(data.shape) for name, data in self.inputs.items()}
        named = tuple(Output(str(i), value.name) for i, value in enumerate(outputs))
        graph = check(Graph(types, self.builder.constants, tuple(self.builder.nodes), named))
        return trim(Drawn(graph, tuple(self.inputs.values())))

    def filters(self, outs: int, *rest: int) -> Value:
        """Return a weight that keeps the size of what it is applied to."""
        return self.constant(self.normal(outs, *rest) / np.sqrt(prod(rest)))

    def bias(self, channels: int) -> tuple[Value, ...]:
        return (self.constant(self.normal(channels)),) if self.chance(0.6) else ()

    def channels(self) -> int:
        return self.pick((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 19, 24, 31, 33, 40))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        """Draw two numbers, that are the same as often as not."""
        first = self.whole(low, high)
        return (first, first if self.chance(0.5) else self.whole(low, high))

    def padding(self, highest: int) -> Padding:
        """Draw a padding: none, equal on opposite sides, or any."""
        top, left = self.pair(0, highest)
        if self.chance(0.3):
            return Padding(top, self.whole(0, highest), left, self.whole(0, highest))
        return Padding(top, top, left, left) if self.chance(0.8) else FLAT


def trim(drawn: Drawn) -> Drawn:
    """Return it without the inputs and constants that nothing reads; dead nodes stay."""
    graph = drawn.graph
    read = {name for node in graph for name in node.inputs} | {o.value for o in graph.outputs}
    kept = {name: x for name, x in zip(graph.inputs, drawn.inputs, strict=True) if name in read}
    types = {name: type for name, type in graph.inputs.items() if name in read}
    constants = {name: c for name, c in graph.constants.items() if name in read}
    return Drawn(Graph(types, constants, graph.nodes, graph.outputs), tuple(kept.values()))


def without_dead_code(drawn: Drawn) -> Drawn:
    """Return it with the nodes alone that an output depends on."""
    graph, needed = drawn.graph, {o.value for o in drawn.graph.outputs}
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            nodes.insert(0, node)
            needed.update(node.inputs)
    return trim(Drawn(Graph(graph.inputs, graph.constants, tuple(nodes), graph.outputs),
                      drawn.inputs))  # fmt: skip
