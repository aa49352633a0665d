"""Values as JSON and back, by their type hints: what comes back is what the hints say, or refused.

Tuples are lists, named ones too; numbers that JSON has not are the strings "nan", "inf" and "-inf".
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import numpy as np

NOT_FINITE = ("nan", "inf", "-inf")
LARGEST = 2**53  # whole numbers below it are floating ones too
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def encode(value: Any) -> Any:
    """Return what `json.dumps` takes for a number, a text, None, a tuple or a dataclass of them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [encode(part) for part in value]
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    assert value is None or isinstance(value, bool | int | float | str), value
    return value


def decode(hint: Any, value: Any, where: str) -> Any:
    """Return `value`, which `load` gave, as what `hint` says; `where` it stands is for the error.

    Raises ValueError for a value of another type.
    """
    kind = get_origin(hint) or hint
    if kind in WORDS:
        return _decode_plain(hint, value, where)
    if kind in (Union, UnionType):
        return _decode_optional(get_args(hint), value, where)
    if kind is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            _refuse(where, value, "one of " + ", ".join(get_args(hint)))
        return value
    if kind is tuple:
        return _decode_tuple(get_args(hint), value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_fields(kind, value, where)
    parts = tuple(_hints(kind).values())
    return kind(*_decode_tuple(parts, value, where))  # a named tuple


def load(text: str) -> Any:
    """Return what a JSON text says, without what JSON does not have, or raise ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("lists within lists without end") from None


def _decode_plain(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    if hint is float and type(value) is int and abs(value) < LARGEST:
        return float(value)
    if type(value) is not hint:  # True is no number here
        _refuse(where, value, WORDS[hint])
    return value


def _decode_optional(options: tuple[Any, ...], value: Any, where: str) -> Any:
    (hint,) = (option for option in options if option is not NoneType)
    return None if value is None else decode(hint, value, where)


def _decode_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(where, value, "a list")
    if hints and hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        _refuse(where, value, f"a list of {len(hints)}")
    pairs = zip(hints, value, strict=True)
    return tuple(decode(hint, part, f"{where}[{i}]") for i, (hint, part) in enumerate(pairs))


def _decode_fields(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(where, value, f"the attributes of {kind.__name__}")
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    for name in value:
        if name not in known:
            raise ValueError(f"{where}: {kind.__name__} has no {name!r}: it has {_join(known)}")
    missing = [n for n, f in known.items() if f.default is MISSING and n not in value]
    if missing:
        raise ValueError(f"{where}: {kind.__name__} needs {missing[0]!r}")
    parts = {n: decode(hints[n], part, f"{where}.{n}") for n, part in value.items()}
    try:
        return kind(**parts)
    except ValueError as error:  # what its own class refuses
        raise ValueError(f"{where}: {error}") from None


def _join(names: Any) -> str:
    return ", ".join(names) or "no attributes"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {max(names, key=names.count)!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _refuse(where: str, value: Any, accepted: str) -> NoReturn:
    shown = json.dumps(value)
    raise ValueError(f"{where} is {shown if len(shown) <= 60 else shown[:57] + '...'}: {accepted}")
