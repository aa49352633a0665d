"""From C to a library: the compiler called once for a text, its result kept by content."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from depthwise.errors import BuildError
from depthwise.escaping import counted
from depthwise.files.atomic import replace_text
from depthwise.files.cache import (
    cache_directory,
    find_built,
    hash_file,
    in_workspace,
    keep_built,
    units_directory,
)
from depthwise.progress import report_progress
from depthwise.runtime.artifact import SHARED
from depthwise.runtime.target import OPTIMISE, Arguments, Target, host_system
from depthwise.toolchain.children import Children

FLAGS = (*OPTIMISE, "-fPIC", "-g0")
EXPORTS = ("net_arena_bytes", "net_weights_bytes", "net_run")
WASM_STACK = 64 * 1024  # bytes: no kernel's frame has 2 KiB, and what is not used is memory lost
MOMENT = 0.3  # seconds in which what was compiled before is found
KERNEL = re.compile(r"visibility\(\"hidden\"\)\)\) .*\{$", re.MULTILINE)  # as emit defines each
WINDOWS_LIBRARY = 120.0  # seconds that zig takes for it, once
FIRST_LINES = 12  # of a compiler's errors


@dataclass(frozen=True)
class Compiler:
    """A C compiler: the command that starts it and what it says of itself and of its machine."""

    command: Arguments
    identity: str
    machine: str
    is_zig: bool

    @property
    def version(self) -> str:
        """The number in what it says of itself, as in 12.2.0; empty where there is none."""
        number = re.search(r"\d+(\.\d+)+", re.sub(r"\(.*?\)", "", self.identity))
        return number[0] if number else ""

    def compiles_for(self, target: Target) -> bool:
        """Tell whether it is for the target's architecture and system; zig is for all."""
        same = target.architecture == _architecture(self.machine)
        return self.is_zig or (same and target.system == host_system())

    def flags(self, target: Target) -> Arguments:
        """Return the flags that choose the CPU, with those of every library."""
        if self.is_zig:
            return (*FLAGS, "-target", target.triple, f"-mcpu={target.mcpu}")
        if not self.compiles_for(target):
            where = f" on {target.system}" if target.system != host_system() else ""
            raise ValueError(
                f"{self.command[0]} compiles for {self.machine}, not for {target.name}{where}: "
                "name a compiler for that machine, or leave out cc, for the one that is installed "
                "with us"
            )
        return (*FLAGS, *target.march.split())


class Unit(NamedTuple):
    """A text to be compiled, with the flags that it takes."""

    text: str
    flags: Arguments


def compile_c(
    source: str | Sequence[str], target: Target, cc: str | None = None, extra: Arguments = ()
) -> Path:
    """Compile C, in one translation unit or several at once, to a shared library in the cache.

    `cc` names the compiler (gcc, clang, a path); None is the one installed with us. `extra` flags
    come last. The same texts, target, compiler and flags give the same path, compiled once.
    Raises BuildError where the compiler is missing or fails or the cache cannot be written,
    ValueError where the compiler is for another architecture than the target.
    """
    units = (source,) if isinstance(source, str) else tuple(source)
    return compile_parts({target: units}, target, cc, extra)


def compile_parts(
    parts: Mapping[Target, Arguments], target: Target, cc: str | None = None, extra: Arguments = ()
) -> Path:
    """Compile translation units, each for a CPU of its own, to one shared library for `target`.

    The rest as in `compile_c`.
    """
    compiler = find_compiler(cc)
    units = [
        Unit(text, (*compiler.flags(cpu), *extra)) for cpu, texts in parts.items() for text in texts
    ]
    link_flags = (*compiler.flags(target), *extra, *_link_flags(target))
    key = _digest([units, target.name, compiler.identity, link_flags, SHARED[target.suffix]])
    found = find_built(cache_directory(), key, target.suffix)
    if found is not None:
        return found

    def build(folder: Path) -> Path:
        objects = _compile_units(units, compiler, folder)
        with _system_library(target, compiler):
            linked = _link(objects, folder / SHARED[target.suffix], compiler, link_flags)
        # several processes may get here with the same text: whoever renames last wins
        return keep_built(cache_directory(), key, target.suffix, linked)

    return in_workspace(build)


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@cache
def find_compiler(cc: str | None = None) -> Compiler:
    """Return the compiler named `cc`, or zig's. Raises BuildError where it does not start."""
    if cc is None:
        zig = (sys.executable, "-m", "ziglang")
        version = _ask((*zig, "version"), "install it with: pip install ziglang")
        return Compiler((*zig, "cc"), f"zig cc {version}", "any", is_zig=True)
    program = shutil.which(cc)
    advice = "install it, or leave out cc, for the one that is installed with us"
    if program is None:
        raise BuildError(f"no C compiler {cc!r} on the PATH: {advice}")
    version = _ask((program, "--version"), advice).split("\n")[0]
    return Compiler((program,), version, _ask((program, "-dumpmachine"), advice), is_zig=False)


def _ask(command: Arguments, advice: str) -> str:
    """Return what a command prints; raises BuildError with the advice where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise BuildError(f"{' '.join(command)} does not run: {reason}; {advice}") from None


def _architecture(machine: str) -> str:
    name = machine.partition("-")[0]
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)


def _compile_units(units: Sequence[Unit], compiler: Compiler, folder: Path) -> list[Path]:
    """Compile each text to an object file, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, Children() as children:
        futures = []
        for i, unit in enumerate(units):
            source = folder / f"net{i}.c"
            source.write_text(unit.text, encoding="utf-8")
            key = _digest([unit.text, compiler.identity, unit.flags])
            command = (*compiler.command, *unit.flags, "-c", str(source))
            futures.append(pool.submit(_compile_unit, source, key, command, children))
        _show_progress(futures, units)
        return [future.result() for future in futures]


def _compile_unit(source: Path, key: str, command: Arguments, children: Children) -> Path:
    """Compile a unit, once for all libraries that hold the same: networks share their kernels."""
    found = find_built(units_directory(), key, ".o")
    if found is not None:
        return found
    built = source.with_suffix(".o")
    _run((*command, "-o", str(built)), source, children)
    return keep_built(units_directory(), key, ".o", built)


@contextmanager
def _system_library(target: Target, compiler: Compiler) -> Iterator[None]:
    """Say at the first link for Windows that zig builds the system's own library before.

    It keeps that in its cache, and so is kept there that it was said.
    """
    built = _zig_cache() / f"depthwise-{_digest([compiler.identity, target.triple])}"
    if target.system != "windows" or not compiler.is_zig or built.exists():
        yield
        return
    with report_progress("building Windows' own C library, once", 1, WINDOWS_LIBRARY):
        yield
    replace_text(built, target.triple)


def _zig_cache() -> Path:
    """Return zig's own cache: it wants a place, and without HOME it has none."""
    given = os.environ.get("ZIG_GLOBAL_CACHE_DIR")
    return Path(given) if given else cache_directory().parent / "zig"


def _link(objects: Sequence[Path], library: Path, compiler: Compiler, flags: Arguments) -> Path:
    """Link to a file of the name that it keeps: Windows and macOS write that into programs."""
    command = (*compiler.command, *flags, *map(str, objects), "-lm", "-o", str(library))
    with Children() as children:
        _run(command, library.parent / "net0.c", children)
    return library


def _link_flags(target: Target) -> Arguments:
    if target.system in ("macos", "windows"):
        return ("-shared",) if target.system == "macos" else ("-shared", "-s")
    if target.system == "linux":
        return ("-shared", "-Wl,-z,defs")  # a missing function is found now, not when opened
    exports = [f"-Wl,--export={name}" for name in (*EXPORTS, "__heap_base")]
    stack = f"-Wl,-z,stack-size={WASM_STACK}"  # it lies first: overflowing, it stops the program
    return ("-mexec-model=reactor", "-Wl,--no-entry", stack, *exports)


def _run(command: Arguments, source: Path, children: Children) -> None:
    """Run a compiler; where it fails, keep its source and raise BuildError with its errors."""
    done = children.run(command, {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(_zig_cache())})
    if done.returncode == 0:
        return
    if done.returncode < 0:
        raise BuildError(
            f"the C compiler was killed by {signal.Signals(-done.returncode).name}: where memory "
            "ran out, close other programs and compile again"
        )
    kept = cache_directory() / f"failed-{hash_file(source)[:16]}.c"
    replace_text(kept, source.read_text(encoding="utf-8"))
    lines = (done.stderr or done.stdout).replace(str(source), str(kept)).splitlines()
    at = next((i for i, line in enumerate(lines) if "error" in line), 0)
    words = " ".join(done.args).replace(str(source), str(kept))
    raise BuildError(
        "\n".join([f"the C compiler failed on {kept}:", *lines[at : at + FIRST_LINES], words])
    )


def _show_progress(futures: Sequence[Future[Path]], units: Sequence[Unit]) -> None:
    """Show how far the units are that were not compiled before, by the kernels in each."""
    _, waiting = wait(futures, timeout=MOMENT)
    if not waiting:
        return
    kernels = {
        future: len(KERNEL.findall(unit.text)) or 1
        for future, unit in zip(futures, units, strict=True)
        if future in waiting
    }
    total = sum(kernels.values())
    with report_progress(
        f"compiling {counted(total, 'kernel')}", total, pace="compiling"
    ) as advance:
        for future in as_completed(waiting):
            advance(kernels[future])
