"""What a program takes and returns: its tensors by name, and the structures that hold them."""

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from depthwise.errors import Unsupported
from depthwise.graph.builder import Value
from depthwise.graph.classes import name_class
from depthwise.graph.graph import Output
from depthwise.graph.names import take_name
from depthwise.graph.structure import (
    FACTORIES,
    ForwardParameter,
    Kind,
    Leaf,
    Nest,
    Plain,
    Signature,
    Structure,
)

RETURN = (
    "return tensors in tuples, lists, dicts and dataclasses, with numbers, texts, True, False or "
    "None beside them"
)
KINDS: dict[Any, Kind] = {
    tuple: "tuple", list: "list", deque: "deque", torch.Size: "torch.Size", dict: "dict",
    OrderedDict: "OrderedDict", defaultdict: "defaultdict", namedtuple: "namedtuple",
}  # fmt: skip


def outputs_of(
    program: ExportedProgram, node: fx.Node, values: Mapping[fx.Node, Any]
) -> tuple[Output, ...]:
    """Return the tensors that a network returns, those within others too, named by their path."""
    assert program.call_spec.out_spec is not None
    paths = _paths(program.call_spec.out_spec)
    taken: set[str] = set()
    outputs = []
    for path, returned in zip(paths, _returned(program, node), strict=True):
        value = values.get(returned) if isinstance(returned, fx.Node) else None
        if isinstance(value, Value):
            name = take_name(path, taken)  # paths may be spelled alike
            outputs.append(Output(name, value.name))
    return tuple(outputs)


def signature_of(program: ExportedProgram, outputs: Sequence[Output]) -> Signature:
    """Return what a program takes and returns, in the structures that its caller sees.

    Raises Unsupported for what a library cannot give back as it is.
    """
    if not outputs:
        raise Unsupported(f"the network returns no tensor: {RETURN}")
    assert program.call_spec.out_spec is not None
    node = next(node for node in program.graph.nodes if node.op == "output")
    names = iter(outputs)
    held = [
        Leaf(next(names).name) if isinstance(value, fx.Node) else Plain(value)
        for value in _returned(program, node)
    ]
    try:
        returns = _structure(program.call_spec.out_spec, iter(held))
    except ValueError as error:
        raise Unsupported(f"the network returns {error}: {RETURN}") from None
    return Signature(_parameters(program), returns)


def _parameters(program: ExportedProgram) -> tuple[ForwardParameter, ...]:
    """Return the arguments that a program was exported with, by the names of its parameters."""
    given = [
        Plain(spec.arg.value) if isinstance(spec.arg, ConstantArgument) else Leaf(spec.arg.name)
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT
    ]
    assert program.call_spec.in_spec is not None
    by_position, by_name = program.call_spec.in_spec.children()
    arguments, positions = iter(given), range(by_position.num_children)
    called = program.module_call_graph[0].signature
    names = (called and called.forward_arg_names) or [f"argument_{i}" for i in positions]
    try:
        first = [
            ForwardParameter(name, _structure(part, arguments))
            for name, part in zip(names, by_position.children(), strict=False)
        ]
        rest = [
            ForwardParameter(name, _structure(part, arguments), by_name=True)
            for name, part in zip(by_name.context, by_name.children(), strict=True)
        ]
    except ValueError as error:
        raise Unsupported(
            f"the network takes {error}: give it tensors in tuples, lists, dicts and dataclasses"
        ) from None
    return (*first, *rest)


class Contents(NamedTuple):
    """What a container of PyTorch's says of its parts; `fixed` has fields that are none of them."""

    kind: Kind
    keys: tuple[Any, ...] = ()
    origin: str = ""
    context: Any = None
    fixed: Mapping[str, Any] = {}


def _contents(spec: pytree.TreeSpec) -> Contents:
    """Return what a container says of its parts."""
    type_, context = spec.type, spec.context
    match KINDS.get(type_):
        case "dict" | "OrderedDict" as kind:
            return Contents(kind, tuple(context))
        case "defaultdict":
            factory = getattr(context[0], "__name__", "")
            known = FACTORIES.get(factory) is context[0]
            return Contents("defaultdict", tuple(context[1]), factory if known else "")
        case "namedtuple":
            return Contents("namedtuple", context._fields, name_class(context))
        case str(kind):
            return Contents(kind)
    if issubclass(type_, tuple) and type_.__module__ == "torch.return_types":
        return Contents("structseq", getattr(type_, "__match_args__", ()), name_class(type_))
    return _contents_of_object(type_, context, spec.num_children)


def _contents_of_object(type_: Any, context: Any, count: int) -> Contents:
    """Return what an object says of its parts; they are found in one that is made of marks."""
    node, marks = pytree.SUPPORTED_NODES[type_], [object() for _ in range(count)]
    made = node.unflatten_fn(marks, context)
    if is_dataclass(made):
        held = {field.name: getattr(made, field.name) for field in fields(made) if field.init}
        at = {id(value): name for name, value in held.items()}
        if all(id(mark) in at for mark in marks):
            keys = tuple(at[id(mark)] for mark in marks)
            rest = {name: value for name, value in held.items() if name not in keys}
            return Contents("dataclass", keys, name_class(type_), fixed=rest)
    keys = tuple(map(str, range(count)))
    if node.flatten_with_keys_fn:
        keys = tuple(_key(key) for key, _ in node.flatten_with_keys_fn(made)[0])
    return Contents("object", keys, name_class(type_), context)


def _structure(spec: pytree.TreeSpec, leaves: Iterator[Structure]) -> Structure:
    """Return PyTorch's structure as ours. Raises ValueError for what is no plain data."""
    if spec.is_leaf():
        return next(leaves)
    found = _contents(spec)
    parts = tuple(_structure(part, leaves) for part in spec.children())
    keys = tuple(map(_plain, found.keys))
    context = _plain(found.context)
    if found.kind == "dataclass":
        named = dict(zip(found.keys, parts, strict=True))
        named |= {name: _plain(value) for name, value in found.fixed.items()}
        order = [field.name for field in fields(spec.type) if field.init]
        keys, parts = tuple(map(Plain, order)), tuple(named[name] for name in order)
    return Nest(found.kind, parts, keys, found.origin, context)


def _plain(value: Any) -> Structure:
    """Return a key, or what PyTorch keeps of an object, as a structure without tensors."""
    if value is None or type(value) in (bool, int, float, str):
        return Plain(value)
    if type(value) in (tuple, list):
        return Nest("tuple" if type(value) is tuple else "list", tuple(map(_plain, value)))
    if type(value) is dict:
        keys, parts = (tuple(map(_plain, each)) for each in (value, value.values()))
        return Nest("dict", parts, keys)
    raise ValueError(f"a structure that holds {value!r}, which is no plain data")


def _paths(spec: pytree.TreeSpec, above: str = "") -> Iterator[str]:
    """Yield the path of each leaf: "1.0" or "features.2", empty where it is returned alone."""
    if spec.is_leaf():
        yield above
        return
    found = _contents(spec)
    steps = map(_step, found.keys) if found.keys else map(str, range(spec.num_children))
    for step, part in zip(steps, spec.children(), strict=True):
        yield from _paths(part, f"{above}.{step}" if above else step)


def _step(key: Any) -> str:
    """Return a key as it stands in a path."""
    if isinstance(key, tuple):
        return ",".join(map(_step, key))
    return str(key) if key != "" else "''"


def _returned(program: ExportedProgram, node: fx.Node) -> list[Any]:
    """Return the leaves: nodes, or the numbers, names and None that are no tensors."""
    kinds = program.graph_signature.output_specs
    pairs = zip(node.args[0], kinds, strict=True)  # type: ignore[arg-type]
    return [value for value, kind in pairs if kind.kind.name == "USER_OUTPUT"]


def _key(part: Any) -> str:
    """Return a step of PyTorch's paths: a position, a key or a field's name."""
    return str(next(getattr(part, a) for a in ("idx", "key", "name") if hasattr(part, a)))
