"""What an operator is called with that the graph does not know: its arguments, as a structure.

A tuple of a list of arguments and a dict of those by name. Tensors are called by their places among
the node's inputs, "0" the first; types and layouts as PyTorch writes them: "torch.float32".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from depthwise.graph.structure import Leaf, Nest, Plain, Structure, decode, leaves


def make_call(given: Sequence[Structure], named: Mapping[str, Structure]) -> Structure:
    """Return a call with these arguments."""
    keys = tuple(map(Plain, named))
    parts = Nest("list", tuple(given)), Nest("dict", tuple(named.values()), keys)
    return Nest("tuple", parts)


def arguments_of(call: Structure) -> tuple[tuple[Structure, ...], dict[str, Structure]]:
    """Return the arguments of a call, and those by name. Raises ValueError for what is none."""
    match call:
        case Nest("tuple", (Nest("list", given), Nest("dict", named, keys))):
            names = [key.value for key in keys if isinstance(key, Plain)]
            if all(isinstance(name, str) for name in names) and all(
                map(_is_argument, given + named)
            ):
                return given, {str(n): part for n, part in zip(names, named, strict=True)}
    raise ValueError("a call has a list of arguments, and others by name")


def decode_call(value: Any, inputs: int) -> Structure:
    """Return the call that `structure.encode` wrote, of an operator with so many inputs.

    Raises ValueError for anything else.
    """
    call = decode(value)
    arguments_of(call)
    known = set(map(str, range(inputs)))
    strange = [name for name in leaves(call) if name not in known]
    if strange:
        raise ValueError(f"a call with input {strange[0]}, of {inputs}")
    return call


def say_call(call: Structure) -> str:
    """Return a call in short: (%0, 1, dim=[2, 3])."""
    given, named = arguments_of(call)
    parts = [*map(_say, given), *(f"{name}={_say(part)}" for name, part in named.items())]
    return f"({', '.join(parts)})"


def _is_argument(value: Structure) -> bool:
    """Tell whether a structure is a tensor, a plain value, or a list of such."""
    if isinstance(value, Nest):
        return value.kind == "list" and all(map(_is_argument, value.parts))
    return True


def _say(value: Structure) -> str:
    if isinstance(value, Leaf):
        return f"%{value.name}"
    if isinstance(value, Plain):
        return repr(value.value)
    return f"[{', '.join(map(_say, value.parts))}]"
