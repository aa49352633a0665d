"""How numbers are spelled in C."""

import textwrap
from collections.abc import Mapping
from math import isinf, isnan

from depthwise.compiler.kernel import Kernel
from depthwise.graph.ops import Activation

KEPT = "\N{NO-BREAK SPACE}"  # a space at which no line is broken


def initializer(row: Kernel, members: Mapping[str, str]) -> str:
    """Return the C that initialises a kernel's struct, from the text of each member."""
    assert list(members) == [parameter.name for parameter in row.members]
    numbers = [f".{name} = {value}".replace(" ", KEPT) for name, value in members.items()]
    indent = " " * 8
    lines = textwrap.fill(
        ", ".join(numbers), 100, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ).replace(KEPT, " ")  # fmt: skip
    return f"{{\n{lines}\n    }}"


def spelled(activation: Activation | None) -> str:
    """Return a `struct act`, with every member: those left out are zeroed in memory.

    clang then knew them too late, and unrolled depthwise layers until sums went to the stack.
    """
    function, parameters = (
        (activation.function, activation.parameters) if activation else ("none", ())
    )
    a, b = (*parameters, 0.0, 0.0)[:2]
    return f"{{.kind = ACT_{function.upper()}, .a = {number(a)}, .b = {number(b)}}}"


def number(value: float) -> str:
    """Return a float as C writes it, with every digit it needs."""
    if isnan(value):
        return "NAN"
    if isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{float(value)!r}f"
