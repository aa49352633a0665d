"""From a PyTorch network to a graph, by torch.export."""

import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

from depthwise.graph import aten, aten_compound, aten_shape  # noqa: F401  (they register rules)
from depthwise.graph.aten import RULES
from depthwise.graph.builder import Builder, Value
from depthwise.graph.check import check
from depthwise.graph.export import export
from depthwise.graph.graph import Constant, Graph, Output, Shape, TensorType, Unsupported
from depthwise.graph.ops import Opaque
from depthwise.graph.purity import draws, explain_draw, explain_write, takes_what_is_there, written

Network = nn.Module | ExportedProgram

SUPPORTED = (
    "convolutions (plain, transposed, deformable), linear layers, matrix products, batch, layer, "
    "instance and group normalisation, pooling, activations, arithmetic, softmax, concatenation, "
    "slicing, padding, resizing and reshaping"
)

# operators that in evaluation return their input itself, though their schema does not say so
PASSING = ("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.type_as")

# a region of the network in a mode of its own -> which argument holds its operators
MODES = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}


def capture(net: Network, *shapes: Shape) -> Graph:
    """Return the graph of `net` in evaluation mode for inputs of `shapes`, one (N, C, H, W) each.

    Works on the meta device too, where constants have no data. An ExportedProgram brings its own
    shapes. The network is not changed.
    Raises Unsupported for an operator that we do not know, ValueError for shapes that do not fit.
    """
    importer = _import(net, shapes)
    if importer.impure:
        raise Unsupported(importer.impure[0])
    return supported(importer.graph)


def supported(graph: Graph) -> Graph:
    """Return the graph, or raise Unsupported naming the first operator without a meaning to us."""
    for node in graph:
        if isinstance(node.op, Opaque):
            where = f" ({node.op.line})" if node.op.line else ""
            raise Unsupported(
                f"operator {node.op.operator} in module {node.path or '(the network itself)'!r}"
                f"{where} is not supported: build that module from {SUPPORTED}, or keep it outside "
                "of the network"
            )
    return graph


def trace(net: Network, *shapes: Shape) -> Graph:
    """Return the graph as `capture` does, with operators that we do not know as Opaque nodes.

    It may be no function of its inputs: random draws are Opaque, dropout passes its input on.
    """
    return _import(net, shapes).graph


def _import(net: Network, shapes: Sequence[Shape]) -> "_Importer":
    program = net if isinstance(net, ExportedProgram) else export(net, shapes)
    given = _input_shapes(program)
    if shapes and tuple(map(tuple, shapes)) != given:
        raise ValueError(f"shapes {shapes}: this program was exported for inputs of {given}")
    return _Importer(program)


def _input_shapes(program: ExportedProgram) -> tuple[Shape, ...]:
    named = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    specs = program.graph_signature.input_specs
    users = [named[s.arg.name] for s in specs if s.kind == InputKind.USER_INPUT]
    return tuple(_type(node.meta["val"], node.name).shape for node in users)


def _type(tensor: Any, name: str) -> TensorType:
    if not isinstance(tensor, torch.Tensor):
        raise Unsupported(f"value {name} is {tensor!r}: only tensors are supported")
    if any(not isinstance(size, int) for size in tensor.shape):
        raise Unsupported(
            f"value {name} has the shape {tuple(tensor.shape)}: export with static shapes"
        )
    return TensorType(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _constant(tensor: torch.Tensor, name: str, **facts: Any) -> Constant:
    """Return a constant that shares the tensor's memory; bfloat16, not in NumPy, has no data."""
    tensor = tensor.detach()
    hidden = tensor.is_meta or tensor.dtype == torch.bfloat16
    data = None if hidden else tensor.cpu().contiguous().numpy()
    return Constant(_type(tensor, name), data, **facts)


class Memory(NamedTuple):
    """Where a result lies: in memory that `owner` got, in which pieces of which splits of it."""

    owner: fx.Node
    pieces: tuple[tuple[fx.Node, int], ...] = ()

    def piece(self, split: fx.Node, index: int) -> "Memory":
        """Return where one of the results of `split` lies."""
        return Memory(self.owner, (*self.pieces, (split, index)))

    def overlaps(self, other: "Memory") -> bool:
        """Tell whether two results may share elements; pieces of one split do not."""
        if self.owner is not other.owner:
            return False
        pairs = zip(self.pieces, other.pieces, strict=False)
        first = next(((mine, its) for mine, its in pairs if mine != its), None)
        return first is None or first[0][0] is not first[1][0]


class _Importer:
    """Walks an exported program once, in order; `values` maps what it computes to our values.

    `impure` says what makes the network no function of its inputs.
    """

    def __init__(self, program: ExportedProgram):
        self.program = program
        self.builder = Builder()
        self.inputs: dict[str, TensorType] = {}
        self.values: dict[fx.Node, Any] = {}
        self.memory: dict[fx.Node, Any] = {}  # node -> Memory, for a region one for each result
        self.tensors: dict[str, torch.Tensor] = {}  # what constants are computed from
        self.targets: dict[str, str] = {}  # placeholder -> the network's own tensor
        self.impure: list[str] = []
        self.graph = check(self._run())

    def _run(self) -> Graph:
        signature = self.program.graph_signature
        specs = {spec.arg.name: spec for spec in signature.input_specs}
        outputs: tuple[Output, ...] = ()
        for node in self.program.graph.nodes:
            match node.op:
                case "placeholder":
                    self.values[node] = self._placeholder(node, specs[node.name])
                    self.memory[node] = Memory(node)
                case "call_function":
                    self._call(node)
                case "output":
                    self._note_mutations(node)
                    outputs = self._outputs(node)
        builder = self.builder
        read = {name for node in builder.nodes for name in node.inputs}
        read |= {output.value for output in outputs}
        read |= {source for name in read & set(builder.constants)
                 for source in builder.constants[name].sources}  # fmt: skip
        constants = {
            name: constant for name, constant in builder.constants.items()
            if constant.trainable or name in read
        }  # fmt: skip
        return Graph(self.inputs, constants, tuple(builder.nodes), outputs)

    def _placeholder(self, node: fx.Node, spec: InputSpec) -> Value | None:
        if spec.kind == InputKind.USER_INPUT:
            self.inputs[node.name] = _type(node.meta.get("val"), node.name)
            return Value(node.name, self.inputs[node.name])
        target = spec.target
        if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise Unsupported(
                f"input {node.name} is a {spec.kind.name}: only tensors are supported"
            )
        assert target is not None
        self.targets[node.name] = target
        tensor = self.program.state_dict.get(target)
        if tensor is None:
            tensor = self.program.constants[target]
        assert isinstance(tensor, torch.Tensor)
        return self._add_tensor(target, tensor, trainable=spec.kind == InputKind.PARAMETER)

    def _add_tensor(self, name: str, tensor: torch.Tensor, **facts: Any) -> Value:
        self.tensors[name] = tensor
        return self.builder.add_constant(name, _constant(tensor, name, **facts))

    def _call(self, node: fx.Node) -> None:
        if node.meta.get("val") is None and not node.users:
            return  # an assertion: it computes nothing
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            assert isinstance(index, int)
            self.values[node] = self.values[source][index]
            memory = self.memory[source]
            known = isinstance(memory, Memory)
            self.memory[node] = memory.piece(source, index) if known else memory[index]
            return
        name = str(node.target)
        if name in MODES:
            self._enter(node)
            return
        packet = ".".join(name.split(".")[:2])
        in_place = packet.endswith("_") and not packet.endswith("__")
        self.builder.name, self.builder.path = node.name, _path(node)
        self._note_impure(node)
        own = self._writes_own(node)
        if own and not node.users:
            return  # what it leaves there is for the next call
        self.values[node] = self._lower(node, packet.removesuffix("_") if in_place else packet)
        self.memory[node] = self.memory.get(_viewed(node, packet), Memory(node))
        if in_place and not own:
            self._overwrite(node)

    def _note_impure(self, node: fx.Node) -> None:
        """Keep in `impure` what is wrong with a draw, or a write into the network's tensors."""
        where = f"operator {node.target} in module {_path(node) or '(the network itself)'!r}"
        where += f" ({_line(node)})" if _line(node) else ""
        if draws(node):
            self.impure.append(f"{where} {explain_draw(node)}")
        self.impure += [f"{where} {explain_write(node, name)}" for name in self._writes_own(node)]

    def _note_mutations(self, node: fx.Node) -> None:
        """Keep in `impure` the outputs of a decomposed program that are to replace its tensors."""
        kinds = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)
        values = cast("tuple[fx.Node, ...]", node.args[0])
        for value, spec in zip(values, self.program.graph_signature.output_specs, strict=True):
            if spec.kind in kinds:
                where = f"operator {value.target} in module {_path(value)!r}"
                self.impure.append(f"{where} {explain_write(value, str(spec.target))}")

    def _writes_own(self, node: fx.Node) -> list[str]:
        """Return the names of the network's own tensors that an operator writes into."""
        return [name for name in map(self._own, written(node)) if name]

    def _own(self, node: fx.Node) -> str:
        """Return the name of the network's own tensor in whose memory a result lies, else ""."""
        memory = self.memory.get(node)
        owner = memory.owner.name if isinstance(memory, Memory) else ""
        return self.targets.get(owner, "")

    def _enter(self, node: fx.Node) -> None:
        """Import the operators that a network runs in a mode of its own, as if they stood here."""
        at = MODES[str(node.target)]
        region, inputs = node.args[at], node.args[at + 1 :]
        assert isinstance(region, fx.Node)
        if node.target is torch.ops.higher_order.wrap_with_autocast and node.args[2]:
            raise Unsupported(
                f"module {_path(node)!r} computes in {node.args[1]} under autocast: networks are "
                "compiled in float32, disable it there"
            )
        owner = node.graph.owning_module
        assert owner is not None
        body = owner.get_submodule(str(region.target))
        assert isinstance(body, fx.GraphModule)
        placeholders = [n for n in body.graph.nodes if n.op == "placeholder"]
        for inner, outer in zip(placeholders, inputs, strict=True):
            self.values[inner] = self.values[outer]  # type: ignore[index]
            self.memory[inner] = self.memory[outer]  # type: ignore[index]
        for inner in body.graph.nodes:
            if inner.op == "call_function":
                self._call(inner)
            elif inner.op == "output":
                self.values[node] = fx.map_arg(inner.args[0], self.values.__getitem__)
                self.memory[node] = fx.map_arg(inner.args[0], self.memory.__getitem__)

    def _lower(self, node: fx.Node, packet: str) -> Any:
        read = [v for v in map(self.values.get, node.all_input_nodes) if v is not None]
        constants = [v.name for v in read if isinstance(v, Value) and v.name in self.tensors]
        pure = not draws(node) and not self._writes_own(node)
        known = len(constants) == len(read) and isinstance(node.meta.get("val"), torch.Tensor)
        if pure and known:
            return self._compute(node, constants)
        arguments = fx.map_arg(node.args, self.values.__getitem__)
        named = fx.map_arg(node.kwargs, self.values.__getitem__)
        dropout = "dropout" in packet  # counted as in evaluation, where it passes its input on
        lower = RULES.get(packet) if dropout or not draws(node) else None
        try:
            result = lower(self.builder, *arguments, **named) if lower else None
        except TypeError as error:
            # an overload with arguments that the rule does not take
            raise Unsupported(
                f"operator {node.target} in module {_path(node)!r}: {error}"
            ) from error
        if result is None:
            return self._opaque(node, read)
        return result

    def _compute(self, node: fx.Node, constants: list[str]) -> Value:
        """Compute what depends on constants alone, such as a standardised weight, once and now."""
        tensors = {n: self.tensors[self.values[n].name] for n in node.all_input_nodes}
        with torch.no_grad():
            result = node.target(  # type: ignore[operator]
                *fx.map_arg(node.args, tensors.__getitem__),
                **fx.map_arg(node.kwargs, tensors.__getitem__),
            )
        if takes_what_is_there(node) and result.is_floating_point():
            result = torch.full_like(result, torch.nan)  # so that what is never set is seen
        known = self.builder.constants
        sources = dict.fromkeys(s for c in constants for s in (known[c].sources or (c,)))
        return self._add_tensor(node.name, result, sources=tuple(sources))

    def _opaque(self, node: fx.Node, read: list[Any]) -> Any:
        inputs = tuple(value for value in read if isinstance(value, Value))
        result, op = node.meta.get("val"), Opaque(str(node.target), _line(node))
        if isinstance(result, tuple | list):
            return [self.builder.emit_opaque(op, inputs, _type(part, node.name)) for part in result]
        return self.builder.emit_opaque(op, inputs, _type(result, node.name))

    def _overwrite(self, node: fx.Node) -> None:
        """Let later readers of what an in-place operator wrote to see its result.

        They read the same elements. A reader of others in that memory would have to see a part
        of them change, which the graph has no operator for.
        """
        target = node.args[0]
        assert isinstance(target, fx.Node)
        old, new, memory = self.values[target], self.values[node], self.memory[target]
        if old.name in self.tensors and new.name in self.tensors:
            return  # computed now, in PyTorch's own memory
        for other, place in self.memory.items():
            if other is node or not isinstance(place, Memory) or not place.overlaps(memory):
                continue
            if self.values[other] == old:
                self.values[other] = new
                continue
            later = next((reader for reader in other.users if reader not in self.values), None)
            if later:
                raise Unsupported(
                    f"operator {node.target} in module {_path(node) or '(the network itself)'!r} "
                    f"writes into a tensor of which {later.name} reads another view afterwards: "
                    "write out of place there"
                )

    def _outputs(self, node: fx.Node) -> tuple[Output, ...]:
        spec = self.program.call_spec.out_spec
        assert spec is not None
        kinds = self.program.graph_signature.output_specs
        values = [self.values[n] for n in node.args[0] if isinstance(n, fx.Node)]  # type: ignore[union-attr]
        results = [
            v for v, kind in zip(values, kinds, strict=True) if kind.kind.name == "USER_OUTPUT"
        ]
        skeleton = spec.unflatten(list(range(len(results))))
        if isinstance(skeleton, int):
            return (Output("", results[0].name),)
        items = skeleton.items() if hasattr(skeleton, "items") else enumerate(skeleton)
        named = {position: str(key) for key, position in items if isinstance(position, int)}
        if len(named) != len(results):
            raise Unsupported(
                "the network returns nested structures: return a tensor, tuple or dict"
            )
        return tuple(Output(named[i], value.name) for i, value in enumerate(results))


def _viewed(node: fx.Node, packet: str) -> Any:
    """Return the node in whose memory the result of an operator may lie, None for memory anew."""
    schema = getattr(node.target, "_schema", None)
    returned = schema is not None and any(value.alias_info for value in schema.returns)
    return node.args[0] if returned or packet in PASSING else None


def _line(node: fx.Node) -> str:
    """Return the file and line of the network's code that called a node, if export kept them."""
    frames = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""


def _path(node: fx.Node) -> str:
    """Return the innermost module's path; a module called twice has one path."""
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0].split("@")[0] if stack else ""
