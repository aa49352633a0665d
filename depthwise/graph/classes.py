"""Objects of classes that a structure knows by name, made without importing anything.

What a manifest names may be anything. So a class is looked for among the modules that the program
has imported, and is used only where it is of the kind, and has the fields, that the structure
says. Elsewhere an equivalent is made: a named tuple of the same fields, and a dataclass for a
dataclass; what another class was registered for is a dict by its keys.
"""

import sys
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from dataclasses import make_dataclass as new_dataclass
from functools import cache
from keyword import iskeyword
from typing import Any
from weakref import WeakValueDictionary

_seen: WeakValueDictionary[str, type] = WeakValueDictionary()  # those that no module holds, too


def name_class(kind: type) -> str:
    """Return how a structure names a class, which this process will find by it."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    _seen[name] = kind
    return name


def find_class(name: str) -> type | None:
    """Return a class of this process, None where no imported module has it."""
    if name in _seen:
        return _seen[name]
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for step in path.split("."):
        # not getattr: modules may import what they are asked for
        found = getattr(found, "__dict__", {}).get(step)
    return found if isinstance(found, type) else None


def make_size(sizes: Sequence[int]) -> Any:
    """Return a torch.Size where PyTorch is there, else a tuple."""
    torch = sys.modules.get("torch")
    return torch.Size(sizes) if torch else tuple(sizes)


def make_named_tuple(name: str, keys: Sequence[str], parts: Sequence[Any]) -> Any:
    """Return a named tuple: of its own class, or of one made from its fields."""
    kind = find_class(name)
    fits = kind and issubclass(kind, tuple) and getattr(kind, "_fields", None) == tuple(keys)
    found: Any = kind if fits else _new_named_tuple(_short(name), tuple(keys))
    return found._make(parts)


def make_struct_sequence(name: str, keys: Sequence[str], parts: Sequence[Any]) -> Any:
    """Return what torch.max and its like return: a tuple with names, of a class in torch."""
    kind = find_class(name) if name.startswith("torch.return_types:") else None
    if kind and issubclass(kind, tuple) and getattr(kind, "__match_args__", None) == tuple(keys):
        return kind(parts)
    return _new_named_tuple(_short(name), tuple(keys))._make(parts)


def make_dataclass(name: str, keys: Sequence[str], parts: Sequence[Any]) -> Any:
    """Return an object of a dataclass: its own, or one made from its fields."""
    kind: Any = find_class(name)
    own = [field.name for field in fields(kind) if field.init] if is_dataclass(kind) else None
    found: Any = kind if own == list(keys) else _new_dataclass(_short(name), tuple(keys))
    return found(**dict(zip(keys, parts, strict=True)))


def make_object(name: str, keys: Sequence[str], parts: Sequence[Any], context: Any) -> Any:
    """Return an object of a class that was registered with torch, else a dict by its keys."""
    pytree = sys.modules.get("torch.utils._pytree")
    kind = find_class(name)
    registered = pytree.SUPPORTED_NODES.get(kind) if pytree and kind else None
    if registered is None:
        return dict(zip(keys, parts, strict=True))
    return registered.unflatten_fn(parts, context)


@cache
def _new_named_tuple(name: str, keys: tuple[str, ...]) -> Any:
    return namedtuple(name, keys, rename=True)


@cache
def _new_dataclass(name: str, keys: tuple[str, ...]) -> Any:
    return new_dataclass(name, keys)


def _short(name: str) -> str:
    """Return what a class is called, without where it lies."""
    last = name.rpartition(".")[2].rpartition(":")[2]
    return last if is_name(last) else "Result"


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a field."""
    return text.isidentifier() and not iskeyword(text)
