"""The CPUs we compile for, and whether this machine is one of them."""

import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Arguments = tuple[str, ...]

OPTIMISE = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno")


System = Literal["linux", "windows", "macos"]  # that a library can be asked for


@dataclass(frozen=True)
class Target:
    """A CPU to compile for: `lanes` floats a vector, `registers` vectors available for a tile.

    `mcpu` is zig's name of it, `march` what gcc and clang take. `requires` names the features,
    as Linux does in /proc/cpuinfo, without which code for it stops the program. A family of CPUs
    has `members`, the widest first, each with the number of its `level`; a CPU that stands alone
    has level 0. Members read weights of which `panel` outputs lie side by side; of a CPU that
    stands alone, where it is 0, as many do as its tiles have. `asked` is the operating system that
    was asked for, None for the usual one. One with `tiles` has AMX, which the system lends on
    request; one with `dots` sums products of four bytes in one instruction; one with `halves`
    computes in float16.
    """

    name: str
    architecture: str
    lanes: int
    registers: int
    mcpu: str
    march: str
    requires: frozenset[str] = frozenset()
    level: int = 0
    panel: int = 0
    members: tuple["Target", ...] = ()
    asked: System | None = None
    tiles: bool = False
    dots: bool = False
    halves: bool = False

    @property
    def foreign(self) -> bool:
        """Whether this machine is of another architecture, or has another operating system."""
        return self.architecture != host_architecture() or self.system != host_system()

    @property
    def runs_here(self) -> bool:
        """Whether this machine's CPU runs what is built."""
        return not self.foreign and self.requires <= cpu_features()

    @property
    def levels(self) -> tuple["Target", ...]:
        """The CPUs that a library has code for, the widest first: a family's members, or itself."""
        return tuple(replace(each, asked=self.asked) for each in self.members) or (self,)

    @property
    def mark(self) -> str:
        """What the names of a level's functions end with in C, where there are several levels."""
        return f"_v{self.level}" if self.level else ""

    @property
    def full_name(self) -> str:
        """Its name, with the operating system that was asked for."""
        return f"{self.name}-{self.asked}" if self.asked else self.name

    @property
    def own_march(self) -> Arguments:
        """What a program that builds net.c gives its compiler to name the CPU."""
        if self.architecture == "wasm32":
            return ()  # its C runs anywhere
        # -march=native chooses the level
        return ("-march=native",) if self.members else tuple(self.march.split())

    @property
    def level_here(self) -> "Target":
        """The widest of the levels that this machine runs, where it runs any."""
        return next(each for each in self.levels if each.runs_here)

    @property
    def system(self) -> str:
        """The operating system compiled for: this machine's, Linux for another architecture."""
        if self.architecture == "wasm32":
            return "wasi"
        usual = host_system() if self.architecture == host_architecture() else "linux"
        return self.asked or usual

    @property
    def triple(self) -> str:
        """Zig's name of architecture and system; the oldest glibc, that libraries run widely."""
        systems = {"linux": "linux-gnu.2.17", "windows": "windows-gnu"}
        return f"{self.architecture}-{systems.get(self.system, self.system)}"

    @property
    def suffix(self) -> str:
        """The ending of a library's file name."""
        return {"wasi": ".wasm", "macos": ".dylib", "windows": ".dll"}.get(self.system, ".so")

    @property
    def runner(self) -> str | None:
        """The program that runs foreign code here; None where the CPU does, or nothing can."""
        if self.architecture == "wasm32":
            return "wasmtime"
        if self.system != host_system():
            return "wine" if self.system == "windows" else None
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

# What AMX needs beside AVX-512, with the narrow types that its CPUs have elsewhere. It is never
# "native" in float32, of which its tiles know nothing.
TILES = frozenset({"amx_tile", "amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512vbmi"})
AMX = Target(
    "x86-64-amx", "x86_64", 16, 32,
    "x86_64_v4+amx_tile+amx_bf16+amx_int8+avx512bf16+avx512vnni+avx512vbmi",
    "-march=x86-64-v4 -mamx-tile -mamx-bf16 -mamx-int8 -mavx512bf16 -mavx512vnni -mavx512vbmi",
    V4 | TILES, tiles=True, dots=True,
)  # fmt: skip

# What sums products of four bytes in one instruction has no use for that in float32 either.
VNNI = Target(
    "x86-64-vnni", "x86_64", 16, 32, "x86_64_v4+avx512vnni", "-march=x86-64-v4 -mavx512vnni",
    V4 | {"avx512_vnni"}, dots=True,
)  # fmt: skip
AVX_VNNI = Target(
    "x86-64-avx-vnni", "x86_64", 8, 16, "x86_64_v3+avxvnni", "-march=x86-64-v3 -mavxvnni",
    V3 | {"avx_vnni"}, dots=True,
)  # fmt: skip
OF_BYTES = (VNNI, AVX_VNNI)

# What computes in float16, twice as many numbers a vector; 64 bits of ARM have had it since 8.2.
AVX512_FP16 = Target(
    "x86-64-avx512-fp16", "x86_64", 16, 32, "x86_64_v4+avx512fp16", "-march=x86-64-v4 -mavx512fp16",
    V4 | {"avx512_fp16"}, halves=True,
)  # fmt: skip
ARM_FP16 = Target(
    "aarch64-fp16", "aarch64", 4, 31, "generic+fullfp16", "-march=armv8.2-a+fp16",
    frozenset({"asimdhp"}), halves=True,
)  # fmt: skip
OF_HALVES = (AVX512_FP16, ARM_FP16)

# The best of each narrow type where a machine has it; elsewhere it is computed with what there is.
BEST: dict[str, tuple[Target, ...]] = {"bfloat16": (AMX,), "float16": OF_HALVES}

PANEL = 16  # floats of the widest vectors
X86 = tuple(
    replace(t, level=int(t.name[-1]), panel=PANEL) for t in TARGETS if t.architecture == "x86_64"
)
# What chooses a level must itself run on any CPU of the family, and on those before it.
FAMILIES = (Target("x86-64", "x86_64", 16, 16, "x86_64", "-march=x86-64", V2, members=X86),)


def find_target(name: str, system: str | None = None) -> Target:
    """Return the target of that name; "native" is the best that this machine runs.

    `system` is the operating system to compile for; None is this machine's, and Linux for another
    architecture. Raises ValueError for other names, or where this machine is none of our targets.
    """
    known = {
        target.name: target
        for target in (*FAMILIES, *TARGETS, AMX, *OF_BYTES, *OF_HALVES, _portable())
    }
    if name != "native" and name not in known:
        accepted = ", ".join(["native", *sorted(known)])
        raise ValueError(f"no target is named {name!r}: take one of {accepted}")
    target = _native() if name == "native" else known[name]
    if system is None or system == target.system:
        return target
    if system not in get_args(System) or target.architecture == "wasm32":
        accepted = ", ".join(get_args(System))
        where = "wasm32 has none" if target.architecture == "wasm32" else f"take one of {accepted}"
        raise ValueError(f"system={system!r} is no operating system for {target.name}: {where}")
    return replace(target, asked=system)


def check_runs_here(target: Target) -> None:
    """Raise ValueError, naming what is missing, where this CPU cannot run code for `target`."""
    if target.system not in (host_system(), "wasi"):
        raise ValueError(
            f"this is a library for {target.system}, and this machine runs {host_system()}: "
            "compile without `system`, for this machine's"
        )
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


def _portable() -> Target:
    """Return what any CPU and any C11 compiler is: vectors of one float, compiled for this one."""
    return Target("portable", host_architecture(), 1, 16, "baseline", "-mtune=generic")


def native_for(precision: str) -> Target:
    """Return the target that "native" is for a precision, int8 among them."""
    if precision == "int8":
        return native_of_bytes()
    return next((t for t in BEST.get(precision, ()) if t.runs_here), _native())


def native_of_bytes() -> Target:
    """Return the best target of this machine for networks of bytes."""
    chosen = _native()
    better = (AMX, VNNI) if chosen.lanes == VNNI.lanes else (AVX_VNNI,)
    return next((target for target in better if target.runs_here), chosen)


def _native() -> Target:
    for target in TARGETS:  # the widest of an architecture comes first
        if target.runs_here:
            return target
    raise ValueError(
        f"this machine's CPU, {host_architecture()}, is none of our targets: "
        f"compile for one of {', '.join(target.name for target in TARGETS)}"
    )


def host_system() -> str:
    """Return this machine's operating system, as libraries are asked for it."""
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")


def host_architecture() -> str:
    """Return this machine's architecture: x86_64, aarch64, or what the system calls it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@cache
def cpu_features() -> frozenset[str]:
    """Return the features of this CPU that the system lets programs use, in Linux's names."""
    if sys.platform == "darwin":
        return _words(ask_sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features"))
    lines = read_cpuinfo().splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return _words(flags.partition(":")[2])


def cpu_name() -> str:
    """Return what the system calls this CPU."""
    if sys.platform == "darwin":
        return ask_sysctl("machdep.cpu.brand_string")
    pairs = [line.partition(":") for line in read_cpuinfo().splitlines()]
    named = [value.strip() for name, _, value in pairs if name.strip() == "model name"]
    parts = [value.strip() for name, _, value in pairs if name.strip() in ARM_PARTS]
    return next(iter(named), "") or " ".join(parts[: len(ARM_PARTS)]) or platform.machine()


ARM_PARTS = ("CPU implementer", "CPU part", "CPU revision")  # where no model is named


def read_cpuinfo() -> str:
    """Return what Linux says of each core; "" elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.is_file() else ""


def ask_sysctl(*names: str) -> str:
    """Return what macOS says under some names, a line each; "" where it knows none of them."""
    command = ("sysctl", "-n", *names)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().replace(".", "_").split())  # SSE4.1 on macOS, sse4_1 on Linux


def thread_flags(threads: int, system: str = "linux") -> Arguments:
    """Return the flags of a program of several threads; Windows needs none."""
    return ("-pthread",) if threads > 1 and system != "windows" else ()
