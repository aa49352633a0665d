"""The CPUs we compile for, and whether this machine is one of them."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Arguments = tuple[str, ...]

OPTIMISE = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno")


@dataclass(frozen=True)
class Target:
    """A CPU to compile for: `lanes` floats a vector, `registers` vectors available for a tile.

    `mcpu` is zig's name of it, `march` what gcc and clang take. `requires` names the features,
    as Linux does in /proc/cpuinfo, without which code for it stops the program.
    """

    name: str
    architecture: str
    lanes: int
    registers: int
    mcpu: str
    march: str
    requires: frozenset[str] = frozenset()

    @property
    def foreign(self) -> bool:
        """Whether this machine is of another architecture."""
        return self.architecture != host_architecture()

    @property
    def runs_here(self) -> bool:
        """Whether this machine's CPU runs what is built."""
        return not self.foreign and self.requires <= cpu_features()

    @property
    def system(self) -> str:
        """The operating system compiled for: this machine's, Linux for another architecture."""
        if self.architecture == "wasm32":
            return "wasi"
        return "macos" if sys.platform == "darwin" and not self.foreign else "linux"

    @property
    def triple(self) -> str:
        """Zig's name of architecture and system; the oldest glibc, that libraries run widely."""
        systems = {"wasi": "wasi", "macos": "macos", "linux": "linux-gnu.2.17"}
        return f"{self.architecture}-{systems[self.system]}"

    @property
    def suffix(self) -> str:
        """The ending of a library's file name."""
        return {"wasi": ".wasm", "macos": ".dylib", "linux": ".so"}[self.system]

    @property
    def runner(self) -> str | None:
        """The program that runs foreign code here; None where the CPU does."""
        if self.architecture == "wasm32":
            return "wasmtime"
        return f"qemu-{self.architecture}" if self.foreign else None


V2 = frozenset({"cx16", "popcnt", "ssse3", "sse4_1", "sse4_2"})
V3 = V2 | {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# aarch64 has 32 registers and loads every factor into one: with all 32 a tile of 14 x 2 spills.
# fmt: off
TARGETS = (
    #      name         architecture lanes registers mcpu               march              requires
    Target("x86-64-v4", "x86_64",    16,   32,       "x86_64_v4",       "-march=x86-64-v4", V4),
    Target("x86-64-v3", "x86_64",    8,    16,       "x86_64_v3",       "-march=x86-64-v3", V3),
    Target("x86-64-v2", "x86_64",    4,    16,       "x86_64_v2",       "-march=x86-64-v2", V2),
    Target("aarch64",   "aarch64",   4,    31,       "generic",         "-march=armv8-a"),
    Target("wasm32",    "wasm32",    4,    16,       "generic+simd128", "-msimd128"),
)
# fmt: on


def find_target(name: str) -> Target:
    """Return the target of that name; "native" is the best that this machine runs.

    Raises ValueError for another name, or where this machine is none of our targets.
    """
    if name == "native":
        return _native()
    for target in TARGETS:
        if target.name == name:
            return target
    accepted = ", ".join(["native", *sorted(target.name for target in TARGETS)])
    raise ValueError(f"no target is named {name!r}: take one of {accepted}")


def check_runs_here(target: Target) -> None:
    """Raise ValueError, naming what is missing, where this CPU cannot run code for `target`."""
    if target.foreign:
        raise ValueError(
            f"this is a library for {target.name}, and this machine is {host_architecture()}: "
            f'run it under {target.runner}, or compile with target="native"'
        )
    missing = sorted(target.requires - cpu_features())
    if missing:
        raise ValueError(
            f"this is a library for {target.name}, and this CPU lacks {', '.join(missing)}: "
            'compile with target="native"'
        )


def _native() -> Target:
    for target in TARGETS:  # the widest of an architecture comes first
        if target.runs_here:
            return target
    raise ValueError(
        f"this machine's CPU, {host_architecture()}, is none of our targets: "
        f"compile for one of {', '.join(target.name for target in TARGETS)}"
    )


def host_architecture() -> str:
    """Return this machine's architecture: x86_64, aarch64, or what the system calls it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@cache
def cpu_features() -> frozenset[str]:
    """Return the features of this CPU that the system lets programs use, in Linux's names."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
        return _words(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return _words(flags.partition(":")[2])


def cpu_name() -> str:
    """Return what the system calls this CPU."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    pairs = [line.partition(":") for line in lines]
    named = [value.strip() for name, _, value in pairs if name.strip() == "model name"]
    parts = [value.strip() for name, _, value in pairs if name.strip() in ARM_PARTS]
    return next(iter(named), "") or " ".join(parts[: len(ARM_PARTS)]) or platform.machine()


ARM_PARTS = ("CPU implementer", "CPU part", "CPU revision")  # where no model is named


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().replace(".", "_").split())  # SSE4.1 on macOS, sse4_1 on Linux


def thread_flags(threads: int) -> Arguments:
    """Return the flags of a program of several threads."""
    return ("-pthread",) if threads > 1 else ()
