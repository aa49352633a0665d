"""Peers held to less than this CPU has: CPUID does not tell them of the rest.

No runtime but oneDNN can be asked for it. Linux lets CPUID fault where the CPU can; a library that
is loaded before all others answers in its place (narrow.c).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from depthwise.runtime.target import Target, find_target
from depthwise.toolchain.build import compile_c

NOT_HELD: Mapping[str, str] = MappingProxyType({})
# What peers can be held to: the flags that narrow.c is compiled with, and what is said of it.
HELD = {
    "x86-64-v3": (("-DNO_AVX512",), "CPUID without AVX-512 and AMX"),
    "x86-64-vnni": ((), "CPUID without AMX and AVX512-FP16"),
}


@dataclass(frozen=True)
class Holding:
    """Variables of the environment that hold a process, and how in words; empty for not at all."""

    environment: Mapping[str, str]
    said: str


def hold(target: Target) -> Holding:
    """Return how a process is held to what code for a target uses.

    Raises ValueError for one that peers cannot be held to, BuildError where there is no C compiler.
    """
    if target == find_target("native"):
        return Holding(NOT_HELD, "")
    if target.name not in HELD or not target.runs_here:
        fit = " or ".join(HELD)
        raise ValueError(
            f"--target {target.name}: peers use all that this CPU has, or can be held to {fit}: "
            f"give native, {fit}"
        )
    flags, said = HELD[target.name]
    text = (files("depthwise.bench") / "narrow.c").read_text(encoding="utf-8")
    library = compile_c(text, target, extra=flags)
    return Holding({"LD_PRELOAD": str(library)}, said)
