"""A model on its way into the graph: its nodes are walked once, in order."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, defs, numpy_helper
from onnx.helper import get_attribute_value

from depthwise.errors import Unsupported
from depthwise.escaping import in_line
from depthwise.graph.builder import Builder, Value
from depthwise.graph.check import check
from depthwise.graph.frontends.onnx.inference import Types, check_memory, check_type, types_of
from depthwise.graph.frontends.onnx.known import (
    CONTROL,
    RANDOM,
    STANDARD,
    Known,
    compute,
    is_computed_now,
)
from depthwise.graph.frontends.onnx.names import has_scopes, path_of
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import RULES, Refusal, check_words, refuse
from depthwise.graph.graph import Constant, Graph, Output, TensorType
from depthwise.graph.ops import Opaque


class Importer:
    """Makes a graph of a model whose inputs have the given types.

    A value of the graph bears the name that the model gives it. Where several of our operators
    stand for one of the model's, the last bears the name and the others are numbered.
    """

    def __init__(self, model: ModelProto, opset: int, inputs: Mapping[str, TensorType]):
        self.builder = Builder()
        self.opset = opset
        self.known: dict[str, Known] = {}
        self.untrained: set[str] = set()
        self._values: dict[str, Value] = {}
        self._stored: set[str] = set()  # arrays that the file holds, not those computed from them
        self._scoped = has_scopes(model.graph)
        self._read = {output.name for output in model.graph.output}
        for name, type_ in inputs.items():
            self._take(name)
            self._values[name] = Value(name, type_)
        self._run(model.graph)
        self.graph = check(self._finish(model.graph, inputs))

    # ------------------------------------------------------------------------------- for the rules

    def value(self, name: str) -> Value:
        """Return an input, a computed value, or a known array as a constant of the graph."""
        self._check_given(name)
        if name not in self._values:
            self._values[name] = self.add_derived(name, self.known[name].data)
        return self._values[name]

    def is_read(self, name: str) -> bool:
        """Tell whether a node or an output of the model reads a value."""
        return name in self._read

    def add_derived(self, name: str, data: np.ndarray) -> Value:
        """Return a constant computed from the known array `name`.

        It takes the name, and is the parameter, unless the array itself is a constant already.
        """
        sources = self.known[name].sources
        if name not in self.builder.constants:
            return self._add_constant(name, data, sources)
        return self._add_constant(self.builder.take_name(name), data, sources or (name,))

    # ----------------------------------------------------------------------------------- the walk

    def _run(self, graph: GraphProto) -> None:
        """Import a graph's nodes, or those of a branch that is taken, as if they stood here."""
        for tensor in graph.initializer:
            self._take(tensor.name)
            self.known[tensor.name] = Known(_array(tensor))
            self._stored.add(tensor.name)
        for node in graph.node:
            for name in filter(None, node.output):
                self._take(name)
            self._read |= set(_reads(node))
        for node in graph.node:
            count = len(self.builder.nodes)
            try:
                self._node(node)
            except Refusal as reason:
                del self.builder.nodes[count:]  # what its rule had made until then
                self._leave_unknown(node, str(reason))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise ValueError(f"{_where(node)}: {_reason(error)}") from error

    def _take(self, name: str) -> None:
        if self.builder.take_name(name) != name:
            raise ValueError(f"two values of the model are named {in_line(name)!r}")

    def _node(self, node: NodeProto) -> None:
        if rule_name(node) not in RULES and node.domain not in STANDARD:
            domain = in_line(node.domain)
            refuse(True, f"it is of the domain {domain}, whose operators only their author knows")
        if not any(node.output):
            raise ValueError("it gives nothing: none of its outputs has a name")
        names = [name for name in node.input if name]
        for name in names:
            self._check_given(name)
        types = self._types_by_onnx(node)
        if node.op_type == "If" and names and names[0] in self.known:
            self._branch(node, bool(self.known[names[0]].data))
        elif is_computed_now(node) and all(name in self.known for name in names):
            check_memory(types)
            arrays = {name: self.known[name].data for name in names}
            sources = tuple(dict.fromkeys(s for name in names for s in self._sources(name)))
            results = compute(node, arrays, self.opset)
            for name, data in zip(filter(None, node.output), results, strict=False):
                self.known[name] = Known(data, sources)
                self._stored |= {name} if node.op_type == "Constant" else set()
        else:
            self._lower(node)
        self._check_results(types)

    def _check_given(self, name: str) -> None:
        if name not in self._values and name not in self.known:
            raise ValueError(f"it reads {in_line(name)!r}, which nothing before it gives")

    def _types_by_onnx(self, node: NodeProto) -> Types:
        """Return what ONNX says of a node's outputs. Raises ValueError for an unsound node."""
        values = {name: self._values[name].type for name in node.input if name in self._values}
        known = {name: self.known[name].data for name in node.input if name in self.known}
        return types_of(node, self.opset, values, known)

    def _check_results(self, types: Types) -> None:
        """Raise ValueError where what was made is not what ONNX says."""
        for name, type_ in types.items():
            if name in self.known:
                data = self.known[name].data
                check_type(name, type_, data.shape, str(data.dtype))
            elif name in self._values:
                found = self._values[name].type
                check_type(name, type_, found.shape, found.dtype)

    def _sources(self, name: str) -> tuple[str, ...]:
        """Return the parameters that a known array was computed from."""
        known = self.known[name]
        return known.sources or ((name,) if _may_train(known.data) else ())

    def _branch(self, node: NodeProto, condition: bool) -> None:
        """Import the branch of an If whose condition is known."""
        branches = {attribute.name: attribute.g for attribute in node.attribute}
        branch = branches["then_branch" if condition else "else_branch"]
        self._run(branch)
        for name, output in zip(node.output, branch.output, strict=True):
            if output.name in self.known:
                self.known[name] = self.known[output.name]
            else:
                self._values[name] = self.value(output.name)

    def _lower(self, node: NodeProto) -> None:
        """Append what the rule of a node's operator makes of it."""
        if rule_name(node) not in RULES:
            refuse(True, _why_not(node))
        self.builder.name, self.builder.path = (
            next(filter(None, node.output)),
            path_of(node, self._scoped),
        )
        first = len(self.builder.nodes)
        attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        check_words(node.op_type, attributes)
        results = RULES[rule_name(node)](Operands(self, node), **attributes)
        results = results if isinstance(results, list) else [results]
        for name, result in zip(node.output, results, strict=False):
            if isinstance(result, Known):
                self.known[name] = result
            elif name and result:  # what is not read, a rule need not give
                self._values[name] = self._named(name, result, first)

    def _leave_unknown(self, node: NodeProto, reason: str) -> None:
        """Append a node that the graph cannot say, so that the others can be counted.

        Raises Unsupported where its results have no types without running it.
        """
        outputs = [name for name in node.output if name]
        types = self._types_by_onnx(node)
        if not all(name in types and min(types[name].shape, default=1) > 0 for name in outputs):
            raise Unsupported(f"{_where(node)}: {reason}")
        values = [self._values[name] for name in dict.fromkeys(node.input) if name in self._values]
        self.builder.path = path_of(node, self._scoped)
        for name in outputs:
            first, self.builder.name = len(self.builder.nodes), name
            op = Opaque(node.op_type, f"{_where(node)}: {reason}")
            value = self.builder.emit_opaque(op, tuple(values), types[name])
            self._values[name] = self._named(name, value, first)

    def _named(self, name: str, value: Value, first: int) -> Value:
        """Let the result of a rule bear the model's name, if it is one of its nodes."""
        nodes = self.builder.nodes
        if value.name in self._values or all(value.name != node.name for node in nodes[first:]):
            return value
        for index in range(first, len(nodes)):
            node = nodes[index]
            inputs = tuple(name if old == value.name else old for old in node.inputs)
            own = name if node.name == value.name else node.name
            nodes[index] = replace(node, name=own, inputs=inputs)
        return value._replace(name=name)

    # ------------------------------------------------------------------------------------ the end

    def _add_constant(self, name: str, data: np.ndarray, sources: tuple[str, ...]) -> Value:
        type_ = TensorType(data.shape, str(data.dtype))
        stored = np.asarray(data, order="C").view(type_.element.storage)
        self.builder.constants[name] = Constant(type_, stored, sources=sources)
        return Value(name, type_)

    def _finish(self, graph: GraphProto, inputs: Mapping[str, TensorType]) -> Graph:
        values = [self._output(output.name) for output in graph.output]
        several = len(values) > 1
        outputs = tuple(Output(o.name if several else "", value.name)
                        for o, value in zip(graph.output, values, strict=True))  # fmt: skip
        constants = self.builder.constants
        read = {name for node in self.builder.nodes for name in node.inputs}
        read |= {value.name for value in values}
        sources = [s for name in read & constants.keys() for s in constants[name].sources]
        for source in sources:
            if source not in constants:
                self._add_constant(source, self.known[source].data, ())
        marked = {
            name: replace(constant, trainable=self._is_parameter(name, constant))
            for name, constant in constants.items()
            if name in read or name in sources
        }
        return Graph(dict(inputs), marked, tuple(self.builder.nodes), outputs)

    def _output(self, name: str) -> Value:
        try:
            return self.value(name)
        except ValueError:
            raise ValueError(
                f"output {in_line(name)!r}, which nothing in the model gives"
            ) from None

    def _is_parameter(self, name: str, constant: Constant) -> bool:
        """Tell whether a constant counts as a parameter: the file does not say which are trained.

        One does if it is an array of the file's, of real numbers, several, and no statistic.
        """
        stored = name in self._stored and name not in self.untrained
        return stored and constant.data is not None and _may_train(constant.data)


def rule_name(node: NodeProto) -> str:
    """Return the name under which the rule of a node's operator is registered, if there is one."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def _array(tensor) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise ValueError(
            f"initializer {in_line(tensor.name)} is damaged: {error}; export the model again"
        ) from None


def _may_train(data: np.ndarray) -> bool:
    return data.size > 1 and data.dtype.kind not in "iub"


def _reads(node: NodeProto) -> Iterable[str]:
    """Yield the names that a node reads, in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from (output.name for output in attribute.g.output)
            for inner in attribute.g.node:
                yield from _reads(inner)


def _where(node: NodeProto) -> str:
    name = node.name or next(filter(None, node.output), "")
    return f"node {in_line(name)!r}, operator {in_line(node.op_type)}"


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, TypeError | ArithmeticError):  # a division by zero, say
        return f"its attributes are not those of its operator ({text})"
    return text


def _why_not(node: NodeProto) -> str:
    """Return why a node without a rule is not read."""
    if not defs.has(node.op_type):
        return "ONNX has no such operator"
    if node.op_type in CONTROL:
        return (
            "it decides by values which steps to run, and a library runs the same for every input"
        )
    if node.op_type in RANDOM:
        return "it draws random numbers"
    if "Sequence" in node.op_type or "Optional" in node.op_type:
        return "it works on sequences of tensors, the graph on tensors"
    return "the graph has no such operator"
