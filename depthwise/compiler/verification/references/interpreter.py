"""The reference of a graph that has no other: the graph itself, computed in NumPy."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np

from depthwise.compiler.verification.references import Arrays, library_types, shake
from depthwise.errors import CannotRun
from depthwise.graph import Constant, Graph, Node, TensorType, ops
from depthwise.graph.interpret import compute
from depthwise.graph.passes.constants import fold_constants

FAILURES = (ValueError, IndexError, OverflowError)  # of values that an operator is not for


class InterpreterReference:
    """A graph as its own judge, for one that was read from a file or rewritten.

    It shares nothing with the compiler but the graph, and computes one value after another as their
    definitions say. The same inputs always give the same numbers.
    """

    title = "the interpreter"

    def __init__(self, graph: Graph):
        self._graph = fold_constants(graph)  # in the types that it has
        self.types = library_types(graph)
        self.paths = {node.name: node.path for node in graph}

    def start(
        self, inputs: Arrays, wanted: Collection[str] = (), double: bool = False, shaken: int = 0
    ) -> "Interpretation":
        """Begin a run; see `Reference.start`."""
        dtype = "float64" if double else "float32"
        graph = _in_type(self._graph, dtype)
        moved = _shake(graph, shaken) if shaken else graph
        return Interpretation(moved, inputs, wanted, self.compute_node)

    def check_repeats(self) -> None:
        """Return: a graph has no state."""

    def compute_node(self, node: Node, *inputs: np.ndarray) -> np.ndarray:
        """Return a node's value from those that it reads."""
        return compute(node.op, node.type, *inputs)


class Interpretation:
    """A run of the interpreter; a value is freed when its last reader has run.

    `compute_node` gives a node's value from those that it reads.
    """

    def __init__(
        self, graph: Graph, inputs: Arrays, wanted: Collection[str],
        compute_node: Callable[..., np.ndarray],
    ):  # fmt: skip
        self._graph, self._compute = graph, compute_node
        self._steps = self._run()
        self._wanted = {node.name for node in graph} & set(wanted)
        self._left = Counter(name for node in graph for name in dict.fromkeys(node.inputs))
        self._left.update(output.value for output in graph.outputs)
        self._left.update(self._wanted)
        self._values: dict[str, np.ndarray] = {
            name: np.asarray(x, type_.element.numpy)
            for (name, type_), x in zip(graph.inputs.items(), inputs, strict=True)
        }

    def value(self, name: str) -> np.ndarray | None:
        """Return a wanted value; None for others."""
        while name in self._wanted and name not in self._values and next(self._steps, None):
            pass
        return self._values.get(name) if name in self._wanted else None

    def drop(self, name: str) -> None:
        """Free a value, once its readers have run."""
        if name in self._wanted:
            self._wanted.discard(name)
            self._use(name)

    def outputs(self) -> list[np.ndarray]:
        """Return what the graph returns, once all of it has run."""
        for _ in self._steps:
            pass
        return [self._read(output.value) for output in self._graph.outputs]

    def _run(self) -> Iterator[str]:
        for node in self._graph:
            try:
                with np.errstate(all="ignore"):
                    result = self._compute(node, *map(self._read, node.inputs))
            except FAILURES as error:
                raise CannotRun(f"{node.name} of {node.path!r}: {error}") from error
            self._values[node.name] = result
            for name in dict.fromkeys(node.inputs):
                self._use(name)
            yield node.name

    def _read(self, name: str) -> np.ndarray:
        constant = self._graph.constants.get(name)
        if constant is None:
            return self._values[name]
        assert constant.numbers is not None, f"{name} has no data"
        return constant.numbers

    def _use(self, name: str) -> None:
        self._left[name] -= 1
        if self._left[name] <= 0:
            self._values.pop(name, None)


def _in_type(graph: Graph, dtype: str) -> Graph:
    """Return the graph with all floating numbers in one type, its weights too."""

    def typed(type_: TensorType) -> TensorType:
        return replace(type_, dtype=dtype) if type_.element.is_floating else type_

    def op_of(node: Node) -> ops.Op:
        converts = isinstance(node.op, ops.Cast | ops.Dequantize) and node.type.element.is_floating
        return replace(node.op, dtype=dtype) if converts else node.op

    def constant_of(constant: Constant) -> Constant:
        type_ = typed(constant.type)
        if constant.numbers is None or type_ == constant.type:
            return constant
        exact = constant.numbers if constant.exact is None else np.array(constant.exact)
        return replace(constant, type=type_, data=type_.element.encode(exact))

    return replace(
        graph,
        inputs={name: typed(type_) for name, type_ in graph.inputs.items()},
        constants={name: constant_of(constant) for name, constant in graph.constants.items()},
        nodes=tuple(replace(node, op=op_of(node), type=typed(node.type)) for node in graph),
    )


def _shake(graph: Graph, number: int) -> Graph:
    """Return the graph with its weights moved in their last digits."""
    random = np.random.default_rng(number)
    constants = {
        name: replace(c, data=shake(c.data, random))
        if c.data is not None and c.data.dtype.kind == "f"
        else c
        for name, c in graph.constants.items()
    }
    return replace(graph, constants=constants)
