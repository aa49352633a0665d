"""From an exported program to a graph: each operator is looked at once, in order."""

import operator
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind

from depthwise.errors import Unsupported
from depthwise.graph.builder import Builder, Value
from depthwise.graph.check import check
from depthwise.graph.ending import ending, feeding
from depthwise.graph.frontends.torch import (
    aten_compound,  # noqa: F401  (they register rules)
    aten_functions,  # noqa: F401
    aten_patches,  # noqa: F401
    aten_products,  # noqa: F401
    aten_recurrent,  # noqa: F401
    aten_reductions,  # noqa: F401
    aten_resampling,  # noqa: F401
    aten_selection,  # noqa: F401
    aten_shape,  # noqa: F401
    aten_signals,  # noqa: F401
    aten_views,  # noqa: F401
    aten_volumes,  # noqa: F401
)
from depthwise.graph.frontends.torch.aten import RULES
from depthwise.graph.frontends.torch.aten_types import CONVERTING, PROMOTING
from depthwise.graph.frontends.torch.memory import MemoryRegion, WrittenView, keep_data, viewed
from depthwise.graph.frontends.torch.origin import (
    called_once,
    line_of,
    path_of,
    results_read,
    where_of,
)
from depthwise.graph.frontends.torch.products import check_products
from depthwise.graph.frontends.torch.purity import (
    draws,
    explain_draw,
    explain_write,
    takes_what_is_there,
    written,
)
from depthwise.graph.frontends.torch.refusal import Refusal
from depthwise.graph.frontends.torch.signature import outputs_of
from depthwise.graph.frontends.torch.tensors import (
    agrees,
    constant_of,
    dtype_of,
    identity_of,
    is_empty,
    takes_values_for_sizes,
    type_of,
)
from depthwise.graph.frontends.torch.unknown import unknown
from depthwise.graph.graph import Graph, Output, TensorType

NUMBERS = torch.SymInt | torch.SymBool | torch.SymFloat  # that export leaves open

# a region of the network in a mode of its own -> which argument holds its operators
MODES = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}


class Importer:
    """Walks an exported program once, in order; `values` maps what it computes to our values.

    `impure` says what makes the network no function of its inputs, `called` which modules it calls
    once.
    """

    def __init__(self, program: ExportedProgram):
        self.program = program
        self.builder = Builder()
        self.inputs: dict[str, TensorType] = {}
        self.values: dict[fx.Node, Any] = {}
        self.memory: dict[fx.Node, Any] = {}  # node -> Memory, for a region one for each result
        self.tensors: dict[str, torch.Tensor] = {}  # what constants are computed from
        self.known: dict[Hashable, Value] = {}  # a tensor under several names is one constant
        self.targets: dict[str, str] = {}  # placeholder -> the network's own tensor
        self.impure: list[str] = []
        self.called = called_once(program)
        self.refused: dict[fx.Node, str] = {}  # operators that a rule knows, and why it takes none
        self.graph = check(self._run())

    def _run(self) -> Graph:
        signature = self.program.graph_signature
        specs = {spec.arg.name: spec for spec in signature.input_specs}
        for name, spec in specs.items():
            if spec.kind == InputKind.USER_INPUT:
                self.builder.take_name(name)  # inputs keep their names, whatever else bears them
        outputs: tuple[Output, ...] = ()
        for node in self.program.graph.nodes:
            match node.op:
                case "placeholder":
                    self.values[node] = self._placeholder(node, specs[node.name])
                    self.memory[node] = MemoryRegion(node)
                case "call_function":
                    self._call(node)
                case "output":
                    self._note_mutations(node)
                    outputs = outputs_of(self.program, node, self.values)
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
        if isinstance(spec.arg, ConstantArgument):
            return None  # no tensor: export has worked with it
        if spec.kind == InputKind.USER_INPUT:
            self.inputs[node.name] = type_of(node.meta.get("val"), node.name)
            if is_empty(node.meta["val"]):
                raise ValueError(
                    f"input {node.name} has the shape {self.inputs[node.name].shape}: each axis "
                    "needs one element or more"
                )
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
        value = self.known.get(identity_of(tensor)) or self._add_tensor(target, tensor)
        self.known[identity_of(tensor)] = value
        if spec.kind == InputKind.PARAMETER:
            constants = self.builder.constants
            constants[value.name] = replace(constants[value.name], trainable=True)
        return value

    def _add_tensor(self, name: str, tensor: torch.Tensor, **facts: Any) -> Value:
        value = self.builder.add_constant(name, constant_of(tensor, name, **facts))
        self.tensors[value.name] = tensor
        return value

    def _call(self, node: fx.Node) -> None:
        if node.meta.get("val") is None and not node.users:
            return  # an assertion: it computes nothing
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            assert isinstance(index, int)
            self.values[node] = self._part(node, source, index)
            memory = self.memory[source]
            known = isinstance(memory, MemoryRegion)
            self.memory[node] = memory.piece(source, index) if known else memory[index]
            return
        if isinstance(node.meta.get("val"), NUMBERS):
            self.values[node] = self._number(node)
            return
        name = str(node.target)
        if name in MODES:
            self._enter(node)
            return
        packet = ".".join(name.split(".")[:2])
        in_place = packet.endswith("_") and not packet.endswith("__")
        self._announce(node, node)
        self._note_impure(node)
        own = self._writes_own(node)
        if own and not node.users:
            return  # what it leaves there is for the next call
        self.values[node] = self._lower(node, packet.removesuffix("_") if in_place else packet)
        self.memory[node] = self.memory.get(viewed(node, packet), MemoryRegion(node))
        if in_place and not own:
            self._overwrite(node)

    def _number(self, node: fx.Node) -> Any:
        """Return a size that follows from constants, which export leaves open, or a test of it."""
        if node.target is torch.ops.aten.sym_size.int:
            source, axis = node.args
            return self.values[cast("fx.Node", source)].shape[axis]
        values = [self.values[each] for each in node.all_input_nodes]
        if read := [value for value in values if isinstance(value, Value)]:
            raise Unsupported(self._by_values(node, read))
        return node.target(*fx.map_arg(node.args, self.values.__getitem__))  # type: ignore[operator]

    def _announce(self, node: fx.Node, operator: fx.Node) -> None:
        """Tell the builder what is lowered: `node` is the operator or one of its results."""
        builder, result = self.builder, node.meta.get("val")
        builder.name, builder.path, builder.line = node.name, path_of(operator), line_of(operator)
        builder.dtype = dtype_of(result)
        builder.read = results_read(operator)

    def _note_impure(self, node: fx.Node) -> None:
        """Keep in `impure` what is wrong with a draw, or a write into the network's tensors."""
        if draws(node):
            self.impure.append(f"{where_of(node)} {explain_draw(node)}")
        own = self._writes_own(node)
        self.impure += [f"{where_of(node)} {explain_write(node, name)}" for name in own]

    def _note_mutations(self, node: fx.Node) -> None:
        """Keep in `impure` the outputs of a decomposed program that are to replace its tensors."""
        kinds = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)
        values = cast("tuple[fx.Node, ...]", node.args[0])
        for value, spec in zip(values, self.program.graph_signature.output_specs, strict=True):
            if spec.kind in kinds:
                where = f"operator {value.target} in module {path_of(value)!r}"
                self.impure.append(f"{where} {explain_write(value, str(spec.target))}")

    def _writes_own(self, node: fx.Node) -> list[str]:
        """Return the names of the network's own tensors that an operator writes into."""
        return [name for name in map(self._own, written(node)) if name]

    def _own(self, node: fx.Node) -> str:
        """Return the name of the network's own tensor in whose memory a result lies, else ""."""
        memory = self.memory.get(node)
        owner = memory.owner.name if isinstance(memory, MemoryRegion) else ""
        return self.targets.get(owner, "")

    def _enter(self, node: fx.Node) -> None:
        """Import the operators that a network runs in a mode of its own, as if they stood here."""
        at = MODES[str(node.target)]
        region, inputs = node.args[at], node.args[at + 1 :]
        assert isinstance(region, fx.Node)
        if node.target is torch.ops.higher_order.wrap_with_autocast and node.args[2]:
            raise Unsupported(
                f"{where_of(node)} computes in {node.args[1]} under autocast: networks are "
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
        result = node.meta.get("val")
        if is_empty(result):
            return self._add_empty(node)
        values = map(self.values.get, node.all_input_nodes)
        read = [value for value in values if isinstance(value, Value)]
        check_products(node, packet, [value.type.dtype for value in read])
        dtype, pure = dtype_of(result), not draws(node) and not self._writes_own(node)
        if dtype and pure and all(value.name in self.tensors for value in read):
            return self._compute(node, [value.name for value in read])
        computed = {value.type.dtype for value in read if value.name not in self.tensors}
        count = len(self.builder.nodes)
        known = computed <= {dtype} or packet in CONVERTING or packet in PROMOTING
        found = self._apply(node, packet, dtype) if known else None
        if found is None or not agrees(found, result, node.name):
            del self.builder.nodes[count:]
            return self._opaque(node, node)
        return found

    def _apply(self, node: fx.Node, packet: str, dtype: str) -> Any:
        """Return what the rule of an operator makes of it, None where none takes it."""

        def operand(n: fx.Node) -> Any:
            value = self.values[n]
            other = isinstance(value, Value) and value.type.dtype != dtype
            if not other or packet not in PROMOTING:
                return value
            if value.name not in self.tensors:
                return self.builder.cast(value, dtype)
            tensor = self.tensors[value.name].to(getattr(torch, dtype))
            return self._add_tensor(value.name, tensor, sources=self._sources([value.name]))

        dropout = "dropout" in packet  # counted as in evaluation, where it passes its input on
        if packet not in RULES or (draws(node) and not dropout):
            return None
        arguments, named = fx.map_arg(node.args, operand), fx.map_arg(node.kwargs, operand)
        try:
            return RULES[packet](self.builder, *arguments, **named)
        except Refusal as reason:
            self.refused[node] = f"{where_of(node)} {reason}"
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass  # an overload, or sizes, that the rule does not take
        return None

    def _part(self, node: fx.Node, source: fx.Node, index: int) -> Any:
        """Return one result of an operator that has several."""
        if is_empty(node.meta.get("val")):
            return self._add_empty(node)
        part = self.values[source][index]
        if part is None and node.users:  # ours does not give it, such as the indices of a maximum
            self._announce(node, source)
            return self._opaque(node, source)
        return part

    def _add_empty(self, node: fx.Node) -> Value:
        """Add what has no elements as a constant: there is nothing to compute."""
        like = node.meta["val"]
        empty = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return self._add_tensor(node.name, empty)

    def _compute(self, node: fx.Node, constants: list[str]) -> Any:
        """Compute what depends on constants alone, such as a standardised weight, once and now."""
        values = {n: self.values[n] for n in node.all_input_nodes}
        tensors = {
            n: self.tensors[v.name] if isinstance(v, Value) else v for n, v in values.items()
        }
        for target in written(node):
            keep_data(self.builder.constants, self.tensors, tensors[target])
        with torch.no_grad():
            result = node.target(  # type: ignore[operator]
                *fx.map_arg(node.args, tensors.__getitem__),
                **fx.map_arg(node.kwargs, tensors.__getitem__),
            )
        sources = self._sources(constants)
        if not isinstance(result, torch.Tensor):
            return [self._add_tensor(node.name, part, sources=sources) for part in result]
        if takes_what_is_there(node) and result.is_floating_point():
            result = torch.full_like(result, torch.nan)  # so that what is never set is seen
        return self._add_tensor(node.name, result, sources=sources)

    def _sources(self, constants: list[str]) -> tuple[str, ...]:
        """Return the parameters and buffers that constants were computed from."""
        known = self.builder.constants
        return tuple(dict.fromkeys(s for c in constants for s in (known[c].sources or (c,))))

    def _opaque(self, node: fx.Node, operator: fx.Node) -> Any:
        """Return the results of an operator that we do not know; `node` is it or one of them."""
        values = map(self.values.get, operator.all_input_nodes)
        inputs = tuple(value for value in values if isinstance(value, Value))
        op = unknown(operator, self.values, inputs, self.refused.get(operator, ""))
        result = node.meta.get("val")
        if takes_values_for_sizes(result) or isinstance(result, NUMBERS):
            raise Unsupported(self._by_values(operator, inputs, op.reason))
        if isinstance(result, tuple | list):
            return [
                self.builder.emit_opaque(replace(op, result=i), inputs, type_of(part, node.name))
                for i, part in enumerate(result)
            ]
        which = None if node is operator else cast("int", node.args[1])
        return self.builder.emit_opaque(
            replace(op, result=which), inputs, type_of(result, node.name)
        )

    def _by_values(self, node: fx.Node, read: Sequence[Value], reason: str = "") -> str:
        """Return why values must not decide on a result, and with what the network may end."""
        number = isinstance(node.meta.get("val"), NUMBERS)
        what = "reads a number" if number else "makes as many elements as the values say"
        reason = reason or (
            f"{where_of(node)} {what}: a library runs the same steps for every input, and gives "
            "results of one shape"
        )
        names = [value.name for value in read]
        return reason + ending(feeding(self.builder.nodes, names, path_of(node), self.called))

    def _overwrite(self, node: fx.Node) -> None:
        """Let later readers of what an in-place operator wrote to see its result.

        They read the same elements. A reader of others in that memory would have to see a part
        of them change, which the graph has no operator for.
        """
        target = node.args[0]
        assert isinstance(target, fx.Node)
        old, new, memory = self.values[target], self.values[node], self.memory[target]
        if is_empty(node.meta["val"]):
            return
        constant = old.name in self.tensors and new.name in self.tensors
        for other, place in list(self.memory.items()):
            if other is node or not isinstance(place, MemoryRegion) or not place.overlaps(memory):
                continue
            value = self.values[other]
            if constant and isinstance(value, Value):  # computed now, in PyTorch's own memory
                sources = self._sources([value.name, new.name])
                tensor = self.tensors[value.name]
                self.values[other] = self._add_tensor(value.name, tensor, sources=sources)
                continue
            if self.values[other] == old:
                self.values[other] = new
                continue
            later = next((reader for reader in other.users if reader not in self.values), None)
            if later:
                raise WrittenView(
                    f"{where_of(node)} "
                    f"writes into a tensor of which {later.name} reads another view afterwards: "
                    "write out of place there"
                )
