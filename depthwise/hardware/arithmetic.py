"""What a core multiplies numbers with: vectors of a type, or tiles; and what this machine has."""

from collections.abc import Mapping
from typing import Literal

from depthwise.graph.dtypes import FLOAT32
from depthwise.runtime.target import (
    AMX,
    AVX_VNNI,
    OF_HALVES,
    VNNI,
    Target,
    find_target,
)

# bfloat16 has no vectors of its own: without tiles it is multiplied as float32
Arithmetic = Literal[
    "float32", "float16", "bfloat16 tiles", "int8 tiles", "int8 dots", "int8 pairs"
]  # fmt: skip
VECTORS: Arithmetic = "float32"
assert FLOAT32.name == VECTORS

TITLES: Mapping[Arithmetic, str] = {
    "float32": "float32", "float16": "float16", "bfloat16 tiles": "bfloat16 by AMX",
    "int8 tiles": "int8 by AMX", "int8 dots": "int8 by VNNI", "int8 pairs": "int8 as 16 bits",
}  # fmt: skip

INTEGERS: frozenset[Arithmetic] = frozenset({"int8 tiles", "int8 dots", "int8 pairs"})


def halves_of(target: Target) -> Arithmetic:
    """Return what float16 is multiplied with."""
    return "float16" if target.halves else VECTORS


def bytes_of(target: Target) -> Arithmetic:
    """Return what vectors multiply bytes with; plain C has no vectors."""
    if target.lanes == 1:
        return VECTORS
    return "int8 dots" if target.dots else "int8 pairs"


def narrow_arithmetic() -> dict[Arithmetic, Target]:
    """Return what this machine multiplies narrow types with, each with a target that has it.

    Bytes as 16 bits are those of AVX2, or of vectors that have nothing better.
    """
    usual = find_target("native")
    rows: list[tuple[Arithmetic, tuple[Target, ...]]] = [
        ("float16", OF_HALVES), ("bfloat16 tiles", (AMX,)), ("int8 tiles", (AMX,)),
        ("int8 dots", (VNNI, AVX_VNNI)),
    ]  # fmt: skip
    found: dict[Arithmetic, Target] = {
        name: next(target for target in targets if target.runs_here)
        for name, targets in rows
        if any(target.runs_here for target in targets)
    }
    if usual.architecture == "x86_64":
        found["int8 pairs"] = find_target("x86-64-v3") if "int8 dots" in found else usual
    return found
