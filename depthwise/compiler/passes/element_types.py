"""Element types: kernels compute in float32, whatever a network says, or in quantised bytes."""

from dataclasses import replace
from functools import singledispatch
from typing import cast

import numpy as np

from depthwise.compiler.fused_ops import FloatPlaces, Holds, Select
from depthwise.errors import Unsupported
from depthwise.graph import Constant, Graph, Node, Output, TensorType, ops
from depthwise.graph.dtypes import FLOAT32, UINT8, WHOLE_FLOATS, DType
from depthwise.graph.names import take_name
from depthwise.graph.ops import Op
from depthwise.quantization.integer_ops import IntegerOp

CLOSED = (  # what leaves the range of an integer type for no number in it
    ops.Concat, ops.Slice, ops.Pad, ops.Resize, ops.Reshape, ops.Permute, ops.Expand,
    ops.MaxPool2d, ops.AdaptivePool2d, ops.Compare, ops.Where,
)  # fmt: skip


def compute_in_float32(graph: Graph) -> Graph:
    """Compute every value in float32, and convert what is not at the inputs and the outputs.

        y = compare(x, 0) (bool)                ->  y = holds(x, 0);  return cast(y, bool)
        y = where(c, a, b)                      ->  y = select(c, a, b)
        y = cast(x, int32);  z = cast(y, int8)  ->  y = trunc(x);  z = wrap(y)
        y = x (int64 input) + 1                 ->  y = cast(x, float32) + 1

    Booleans are 0 and 1, integers whole numbers, exact up to 2^24; float16, bfloat16 and float64
    are float32 at inputs and outputs too. What quantisation holds in bytes stays in bytes. Raises
    Unsupported for integers beyond.
    """
    if all(graph.type(name).dtype == FLOAT32.name for name in graph.names()):
        return graph
    return _FloatGraph(graph).result()


def held_in_bytes(graph: Graph) -> frozenset[str]:
    """Return the values in uint8 that stand for numbers by a scale: those that kernels compute."""
    held = {name for node in graph if isinstance(node.op, (ops.Dequantize, IntegerOp))
            for name in node.inputs if graph.type(name).dtype == UINT8.name}  # fmt: skip
    for node in graph:
        made = isinstance(node.op, (ops.Quantize, IntegerOp))
        moved = isinstance(node.op, CLOSED) and node.inputs[0] in held
        if node.type.dtype == UINT8.name and (made or moved):
            held.add(node.name)
    return frozenset(held)


def library_dtype(type_: TensorType) -> str:
    """Return the element type in which a library takes or gives a value of the network."""
    return FLOAT32.name if type_.element.is_floating else type_.dtype


def other_precisions(graph: Graph) -> tuple[str, ...]:
    """Return the types of floating numbers that a network computes in where a library does not."""
    types = (*graph.inputs.values(), *(node.type for node in graph))
    names = {t.dtype for t in types if t.element.is_floating and t.dtype != FLOAT32.name}
    return tuple(sorted(names))


class _FloatGraph:
    """The graph under construction; `values` has where each of the given one's is, in float32."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.inputs = {n: replace(t, dtype=library_dtype(t)) for n, t in graph.inputs.items()}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.values: dict[str, str] = {}
        self._held = held_in_bytes(graph)
        self._taken = graph.names()
        self._numbers: dict[float, str] = {}

    def result(self) -> Graph:
        """Convert every node, and what the network returns."""
        for node in self.graph:
            if node.name in self._held or isinstance(node.op, (ops.Dequantize, IntegerOp)):
                self._keep(node)
            else:
                convert(node.op, node, self)
        returned: dict[str, str] = {}
        for output in self.graph.outputs:
            if output.value not in returned:
                returned[output.value] = self._give(output.value)
        outputs = tuple(Output(o.name, returned[o.value]) for o in self.graph.outputs)
        return replace(
            self.graph, inputs=self.inputs, constants=self.constants, nodes=tuple(self.nodes),
            outputs=outputs,
        )  # fmt: skip

    def read(self, name: str) -> str:
        """Return the name of a value in float32."""
        if name not in self.values:
            self.values[name] = self._take(name)
        return self.values[name]

    def element(self, name: str) -> DType:
        """Return the element type of a value of the given graph."""
        return self.graph.type(name).element

    def emit(self, node: Node, op: object, *inputs: str, within: bool = False) -> str:
        """Append op(inputs), the value of `node`, or one `within` it from which that is made."""
        name = take_name(f"{node.name}.{len(self.nodes)}", self._taken) if within else node.name
        type_ = replace(node.type, dtype=FLOAT32.name)
        # graph.ops.Op lists what capture makes; check and interpret find ours by dispatch
        self.nodes.append(replace(node, name=name, op=cast(Op, op), inputs=inputs, type=type_))
        return name

    def number(self, number: float) -> str:
        """Return a constant."""
        if number not in self._numbers:
            name = self._numbers[number] = take_name(f"literal.float32.{number!r}", self._taken)
            self.constants[name] = Constant(TensorType(()), np.array(number, np.float32))
        return self._numbers[number]

    def _keep(self, node: Node) -> None:
        """Append a node that computes in bytes, or from or to them."""
        kept = {name for name in node.inputs if self._stays(name)}
        for name in kept & self.graph.constants.keys():
            self.constants[name] = self.graph.constants[name]
        inputs = tuple(name if name in kept else self.read(name) for name in node.inputs)
        type_ = replace(node.type, dtype=library_dtype(node.type))
        op = replace(node.op, dtype=type_.dtype) if isinstance(node.op, ops.Dequantize) else node.op
        self.nodes.append(replace(node, op=op, inputs=inputs, type=type_))

    def _stays(self, name: str) -> bool:
        """Tell whether what computes in bytes reads a value as it is."""
        constant = name in self.graph.constants
        return name in self._held or (constant and self.element(name).is_integer)

    def _take(self, name: str) -> str:
        """Return an input, a constant or what is in bytes in float32; other nodes are in it."""
        type_ = replace(self.graph.type(name), dtype=FLOAT32.name)
        if name in self.graph.constants:
            shared = self._held and self.element(name).is_integer  # what is in bytes may read it
            made = take_name(f"{name}.float32", self._taken) if shared else name
            self.constants[made] = _in_float32(name, self.graph.constants[name])
            return made
        if name in self._held or self.inputs.get(name, type_).dtype != FLOAT32.name:
            return self._cast(name, type_)
        return name

    def _give(self, name: str) -> str:
        """Return a value as a library gives it."""
        if name in self._held:
            return name
        type_ = self.graph.type(name)
        type_ = replace(type_, dtype=library_dtype(type_))
        value = self.read(name)
        return value if type_.dtype == FLOAT32.name else self._cast(value, type_)

    def _cast(self, name: str, type_: TensorType) -> str:
        made = take_name(f"{name}.{type_.dtype}", self._taken)
        self.nodes.append(Node(made, ops.Cast(type_.dtype), (name,), type_, ""))
        return made


def _in_float32(name: str, constant: Constant) -> Constant:
    """Return a constant as float32. Raises Unsupported for integers that it does not hold."""
    numbers, element = constant.numbers, constant.type.element
    if numbers is not None:
        largest = (
            max(map(int, np.abs([numbers.min(initial=0), numbers.max(initial=0)])))
            if element.is_integer
            else 0
        )
        if largest > WHOLE_FLOATS:
            raise Unsupported(
                f"the network computes with {largest:,}, in {name} of {element.name}: libraries "
                f"compute in float32, which holds whole numbers up to {WHOLE_FLOATS:,} exactly; "
                "keep larger ones outside of the network"
            )
        exact = numbers if constant.exact is None else np.array(constant.exact)
        numbers = exact.astype(np.float32)
    return replace(constant, type=replace(constant.type, dtype=FLOAT32.name), data=numbers)


# ---------------------------------------------------------------------------- operator by operator


def plain(op: Op, node: Node, b: _FloatGraph) -> None:
    """Append the operator itself, and what keeps its result in the range of narrow integers."""
    inputs = map(b.read, node.inputs)
    element = node.type.element
    wrap = _wrapping(element) if element.is_integer and not isinstance(op, CLOSED) else None
    if wrap:
        b.emit(node, wrap, b.emit(node, op, *inputs, within=True))
    else:
        b.emit(node, op, *inputs)


@singledispatch
def convert(op: Op, node: Node, b: _FloatGraph) -> None:
    """Append what computes `node` in float32."""
    plain(op, node, b)


def _wrapping(to: DType) -> ops.Activation | None:
    """Return what keeps whole numbers in the range of a type; None for 32 and 64 bits."""
    lowest = float(np.iinfo(to.numpy).min)
    return ops.Activation("wrap", (lowest, 2.0**to.bits)) if to.bits < 32 else None


@convert.register
def _(op: ops.Cast, node: Node, b: _FloatGraph) -> None:  # noqa: ARG001
    given, made = b.element(node.inputs[0]), node.type.element
    value = b.read(node.inputs[0])
    if made.name == "bool" and given.name != "bool":
        b.emit(node, Holds("not_equal"), value, b.number(0.0))
    elif made.is_integer and (function := _to_integers(given, made)):
        b.emit(node, function, value)
    else:
        b.values[node.name] = value


def _to_integers(given: DType, made: DType) -> ops.Activation | None:
    """Return what takes numbers of one type to integers; None where they are such already."""
    if given.is_floating:
        return _wrapping(made) or ops.Activation("trunc")
    if given.is_integer:
        known, held = np.iinfo(given.numpy), np.iinfo(made.numpy)
        return None if held.min <= known.min and known.max <= held.max else _wrapping(made)
    return None


@convert.register
def _(op: ops.Compare, node: Node, b: _FloatGraph) -> None:
    b.emit(node, Holds(op.function), *map(b.read, node.inputs))


@convert.register
def _(op: ops.Where, node: Node, b: _FloatGraph) -> None:  # noqa: ARG001
    b.emit(node, Select(), *map(b.read, node.inputs))


@convert.register
def _(
    op: ops.ArgReduce | ops.TopK | ops.MaxPoolIndices | ops.MaxUnpool2d | ops.TakeAlong,
    node: Node,
    b: _FloatGraph,
) -> None:
    b.emit(node, FloatPlaces(op), *map(b.read, node.inputs))


@convert.register
def _(op: ops.Binary, node: Node, b: _FloatGraph) -> None:
    whole = op.function == "divide" and node.type.element.is_integer
    if whole:
        quotient = b.emit(node, op, *map(b.read, node.inputs), within=True)
        b.emit(node, _wrapping(node.type.element) or ops.Activation("trunc"), quotient)
    else:
        plain(op, node, b)
