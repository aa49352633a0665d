"""What holds a network's tensors: the arguments that it takes, and what it returns.

A structure is plain data, which a manifest and a saved graph hold as JSON. A class is known by its
name alone: see `classes` for what is made of it.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, isnan
from typing import Any, Literal, get_args

from depthwise.escaping import kind_of
from depthwise.graph.classes import (
    is_name,
    make_dataclass,
    make_named_tuple,
    make_object,
    make_size,
    make_struct_sequence,
)

Kind = Literal[
    "tuple", "list", "deque", "dict", "OrderedDict", "defaultdict", "torch.Size", "namedtuple",
    "structseq", "dataclass", "object",
]  # fmt: skip
PLACED = {"tuple": tuple, "list": list, "deque": deque, "torch.Size": make_size}
KEYED = {"dict": dict, "OrderedDict": OrderedDict, "defaultdict": partial(defaultdict, None)}
FIELDED = {
    "namedtuple": make_named_tuple, "structseq": make_struct_sequence, "dataclass": make_dataclass,
}  # fmt: skip
NAMED = (*FIELDED, "object")
FACTORIES = {kind.__name__: kind for kind in (list, dict, set, tuple, int, float, str, bool)}
MOST_DEEP = 60  # of structures within structures: what reads JSON has an end, too


@dataclass(frozen=True)
class Leaf:
    """The place of the input or output of this name."""

    name: str


@dataclass(frozen=True)
class Plain:
    """A value that is no tensor, and the same in every call."""

    value: bool | int | float | str | None


@dataclass(frozen=True)
class Nest:
    """Structures in a container or an object.

    Attributes:
        kind: Which; a tuple is a tuple, not one with names.
        parts: What it holds, in order.
        keys: Of each part: any of a dict, which is a structure without tensors, and the field's
            name of an object. None where parts are known by their position.
        origin: Of an object, module:class; of a defaultdict, the name of its factory.
        context: What else torch keeps of an object of a class that was registered with it.
    """

    kind: Kind
    parts: tuple["Structure", ...]
    keys: tuple["Structure", ...] = ()
    origin: str = ""
    context: "Structure" = Plain(None)


Structure = Leaf | Plain | Nest


@dataclass(frozen=True)
class ForwardParameter:
    """A parameter of a network's forward, and what is given to it.

    `by_name` tells that it is never given by its position.
    """

    name: str
    value: Structure
    by_name: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether there is no tensor in it, so that a call may leave it out."""
        return not list(leaves(self.value))


@dataclass(frozen=True)
class Signature:
    """What a network takes, parameter by parameter, and what it returns."""

    takes: tuple[ForwardParameter, ...]
    returns: Structure


def usual_signature(inputs: Sequence[str], outputs: Sequence[str]) -> Signature:
    """Return what is meant where nothing but the names of tensors is known.

    One output without a name is itself, those numbered from 0 are a tuple, others a dict.
    """
    takes = tuple(ForwardParameter(name, Leaf(name)) for name in inputs)
    parts = tuple(map(Leaf, outputs))
    if list(outputs) == [""]:
        return Signature(takes, parts[0])
    if list(outputs) == [str(position) for position in range(len(outputs))]:
        return Signature(takes, Nest("tuple", parts))
    return Signature(takes, Nest("dict", parts, tuple(map(Plain, outputs))))


def leaves(structure: Structure) -> Iterator[str]:
    """Yield the names of the tensors in a structure, in order."""
    if isinstance(structure, Leaf):
        yield structure.name
    elif isinstance(structure, Nest):
        for part in structure.parts:
            yield from leaves(part)


def fill(structure: Structure, tensors: Mapping[str, Any]) -> Any:
    """Return the structure with each tensor in its place."""
    if isinstance(structure, Leaf):
        return tensors[structure.name]
    if isinstance(structure, Plain):
        return structure.value
    parts = [fill(part, tensors) for part in structure.parts]
    keys = [fill(key, {}) for key in structure.keys]
    kind, origin = structure.kind, structure.origin
    if kind in PLACED:
        return PLACED[kind](parts)
    if kind in KEYED:
        pairs = zip(keys, parts, strict=True)
        return defaultdict(FACTORIES.get(origin), pairs) if origin else KEYED[kind](pairs)
    if kind in FIELDED:
        return FIELDED[kind](origin, keys, parts)
    return make_object(origin, keys, parts, fill(structure.context, {}))


def encode(structure: Structure) -> Any:
    """Return what JSON says of a structure."""
    if isinstance(structure, Leaf):
        return {"tensor": structure.name}
    if isinstance(structure, Plain):
        value = structure.value
        strange = isinstance(value, float) and not isfinite(value)
        return {"number": str(value)} if strange else value
    found: dict[str, Any] = {"kind": structure.kind, "parts": list(map(encode, structure.parts))}
    if structure.keys:
        found["keys"] = list(map(encode, structure.keys))
    if structure.origin:
        found["origin"] = structure.origin
    if structure.context != Plain(None):
        found["context"] = encode(structure.context)
    return found


def decode(value: Any, depth: int = 0) -> Structure:
    """Return the structure that `encode` wrote. Raises ValueError for anything else."""
    if depth > MOST_DEEP:
        raise ValueError(f"a structure of more than {MOST_DEEP} levels")
    if value is None or isinstance(value, bool | int | float | str):
        return Plain(value)
    match value:
        case {"tensor": str(name), **rest} if not rest:
            return Leaf(name)
        case {"number": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return Plain(float(text))
        case {"kind": str(kind), "parts": list(parts), **rest} if kind in get_args(Kind):
            return _decode_nest(kind, parts, rest, depth + 1)
    raise ValueError(f"{str(value)[:60]} is no part of a structure")


def _decode_nest(kind: Any, parts: list[Any], rest: dict[str, Any], depth: int) -> Nest:
    keys, origin = rest.pop("keys", []), rest.pop("origin", "")
    context = decode(rest.pop("context", None), depth)
    if rest or not isinstance(keys, list) or not isinstance(origin, str):
        raise ValueError(f"a {kind} with keys and an origin, and {', '.join(rest) or 'no more'}")
    nest = Nest(
        kind, tuple(decode(part, depth) for part in parts),
        tuple(decode(key, depth) for key in keys), origin, context,
    )  # fmt: skip
    if len(keys) != (len(parts) if kind not in PLACED else 0):
        raise ValueError(f"a {kind} of {len(parts)} parts with {len(keys)} keys")
    if any(list(leaves(key)) for key in (*nest.keys, context)) or not _are_keys(nest):
        raise ValueError(f"a {kind} with the keys {str(keys)[:60]}")
    return nest


def _are_keys(nest: Nest) -> bool:
    """Tell whether the keys of a nest are different, and names where they are of an object."""
    found = [fill(key, {}) for key in nest.keys]
    if nest.kind in NAMED and not all(isinstance(key, str) for key in found):
        return False
    if nest.kind in FIELDED and not all(map(is_name, found)):  # fields of a class that is made
        return False
    try:
        return len(set(found)) == len(found)
    except TypeError:  # a list
        return False


def encode_signature(signature: Signature) -> Any:
    """Return what JSON says of a signature."""
    takes = [
        {"name": each.name, "value": encode(each.value), "by_name": each.by_name}
        for each in signature.takes
    ]
    return {"takes": takes, "returns": encode(signature.returns)}


def decode_signature(value: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Signature:
    """Return the signature that `encode_signature` wrote, of a network with these tensors.

    Raises ValueError for anything else, and where its tensors are not those.
    """
    match value:
        case {"takes": list(takes), "returns": returns, **rest} if not rest:
            found = Signature(tuple(map(_decode_parameter, takes)), decode(returns))
        case _:
            raise ValueError("a signature says what is taken and returned")
    taken = [name for parameter in found.takes for name in leaves(parameter.value)]
    for what, held, known in (
        ("takes", taken, inputs), ("returns", leaves(found.returns), outputs)
    ):  # fmt: skip
        if sorted(held) != sorted(known):
            raise ValueError(f"what it {what} is not each of the tensors {', '.join(known)} once")
    names = [parameter.name for parameter in found.takes]
    if len(set(names)) < len(names):
        raise ValueError("two parameters have one name")
    return found


def _decode_parameter(value: Any) -> ForwardParameter:
    match value:
        case {"name": str(name), "value": given, "by_name": bool(by_name), **rest} if not rest:
            return ForwardParameter(name, decode(given), by_name)
    raise ValueError(f"{str(value)[:60]} is no parameter")


def bind(
    takes: Sequence[ForwardParameter], given: Sequence[Any], named: Mapping[str, Any], network: str
) -> dict[str, Any]:
    """Return each tensor of a call by the name of its input.

    Raises ValueError for a call that is not as the network was compiled: what was found, and what
    is accepted.
    """

    def refuse(found: str) -> ValueError:
        return ValueError(f"{network} takes {describe(takes)}; found {found}")

    places = [parameter for parameter in takes if not parameter.by_name]
    if len(given) > len(places):
        raise refuse(f"{len(given)} by position")
    arguments = {parameter.name: x for parameter, x in zip(places, given, strict=False)}
    for name, x in named.items():
        if name not in {parameter.name for parameter in takes}:
            raise refuse(f"{name!r}; what was left out when it was compiled stays as it was then")
        if name in arguments:
            raise refuse(f"{name!r} twice")
        arguments[name] = x
    tensors: dict[str, Any] = {}
    for parameter in takes:
        if parameter.name in arguments:
            _read(parameter.value, arguments[parameter.name], parameter.name, tensors)
        elif not parameter.is_fixed:
            raise refuse(f"none for {parameter.name!r}")
    return tensors


def describe(takes: Sequence[ForwardParameter]) -> str:
    """Return parameters as in "x, mask (by name), sizes {'a', 'b'}"; what is fixed is left out."""
    shown = [
        parameter.name
        + ("" if isinstance(parameter.value, Leaf) else f", a {_form(parameter.value)}")
        + (" by name" if parameter.by_name else "")
        for parameter in takes
        if not parameter.is_fixed
    ]
    count = "1 input" if len(shown) == 1 else f"{len(shown)} inputs"
    return f"{count}: {'; '.join(shown)}"


def _found(value: Any) -> str:
    """Return what was given in place of a nested argument or of a plain one, in short."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    inside = ""
    if isinstance(value, Mapping):
        inside = f" with the keys {', '.join(map(repr, value))}"
    elif isinstance(value, tuple | list):
        inside = f" of {len(value)}"
    return f"{kind_of(value)}{inside}"


def _form(value: Structure) -> str:
    """Return what a nested argument looks like, in short."""
    if isinstance(value, Leaf):
        return "a tensor"
    if isinstance(value, Plain):
        return repr(value.value)
    inner = [_form(part) for part in value.parts]
    if value.keys:
        keys = (repr(fill(key, {})) for key in value.keys)
        inner = [f"{key}: {part}" for key, part in zip(keys, inner, strict=True)]
    return f"{value.kind} ({', '.join(inner)})"


def _read(expected: Structure, given: Any, where: str, tensors: dict[str, Any]) -> None:
    """Find the tensors in an argument, and put them under their names."""
    if isinstance(expected, Leaf):
        tensors[expected.name] = given
    elif isinstance(expected, Plain):
        if not _same(expected.value, given):
            raise ValueError(
                f"{where} is {_found(given)}: the network was compiled for {expected.value!r}; "
                "leave it out, or compile it for another value"
            )
    else:
        parts = _parts(expected, given)
        if parts is None:
            raise ValueError(f"{where} is {_found(given)}: give a {_form(expected)}")
        for step, (part, own) in enumerate(zip(expected.parts, parts, strict=True)):
            key = fill(expected.keys[step], {}) if expected.keys else step
            _read(part, own, f"{where}[{key!r}]", tensors)


def _parts(expected: Nest, given: Any) -> list[Any] | None:
    """Return what a container or an object holds, in the expected order; None for another one."""
    if not expected.keys:
        fits = isinstance(given, tuple | list | deque) and len(given) == len(expected.parts)
        return list(given) if fits else None
    keys = [fill(key, {}) for key in expected.keys]
    if isinstance(given, Mapping):
        return [given[key] for key in keys] if set(given) == set(keys) else None
    fits = expected.kind in NAMED and all(hasattr(given, key) for key in keys)
    return [getattr(given, key) for key in keys] if fits else None


def _same(expected: Any, given: Any) -> bool:
    if type(given) is not type(expected):
        return False
    return given == expected or (isinstance(given, float) and isnan(given) and isnan(expected))
