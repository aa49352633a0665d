"""From C to a library: the compiler called once for a text, its result kept by content."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
from depthwise.runtime.target import OPTIMISE, Arguments, Target
from depthwise.toolchain.children import Children

FLAGS = (*OPTIMISE, "-fPIC", "-g0")
EXPORTS = ("net_arena_bytes", "net_weights_bytes", "net_run")
WASM_STACK = 64 * 1024  # bytes: no kernel's frame has 2 KiB, and what is not used is memory lost
MOMENT = 0.3  # seconds in which what was compiled before is found
KERNEL = re.compile(r"visibility\(\"hidden\"\)\)\) .*\{$", re.MULTILINE)  # as emit defines each
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
        """Tell whether it is for the target's architecture; zig is for all."""
        return self.is_zig or target.architecture == _architecture(self.machine)

    def flags(self, target: Target) -> Arguments:
        """Return the flags that choose the CPU, with those of every library."""
        if self.is_zig:
            return (*FLAGS, "-target", target.triple, f"-mcpu={target.mcpu}")
        if not self.compiles_for(target):
            raise ValueError(
                f"{self.command[0]} compiles for {self.machine}, not for {target.name}: name a "
                "compiler for that machine, or leave out cc, for the one that is installed with us"
            )
        return (*FLAGS, target.march)


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
    compiler = find_compiler(cc)
    flags = (*compiler.flags(target), *extra)
    link_flags = (*flags, *_link_flags(target))
    key = _digest([units, target.name, compiler.identity, flags, link_flags])
    found = find_built(cache_directory(), key, target.suffix)
    if found is not None:
        return found

    def build(folder: Path) -> Path:
        objects = _compile_units(units, compiler, flags, folder)
        linked = _link(objects, folder, compiler, link_flags)
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


def _compile_units(
    units: Arguments, compiler: Compiler, flags: Arguments, folder: Path
) -> list[Path]:
    """Compile each text to an object file, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, Children() as children:
        futures = []
        for i, unit in enumerate(units):
            source = folder / f"net{i}.c"
            source.write_text(unit, encoding="utf-8")
            key = _digest([unit, compiler.identity, flags])
            command = (*compiler.command, *flags, "-c", str(source))
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


def _link(objects: Sequence[Path], folder: Path, compiler: Compiler, flags: Arguments) -> Path:
    library = folder / "net.linked"
    command = (*compiler.command, *flags, *map(str, objects), "-lm", "-o", str(library))
    with Children() as children:
        _run(command, folder / "net0.c", children)
    return library


def _link_flags(target: Target) -> Arguments:
    if target.system == "macos":
        return ("-shared",)
    if target.system == "linux":
        return ("-shared", "-Wl,-z,defs")  # a missing function is found now, not when opened
    exports = [f"-Wl,--export={name}" for name in (*EXPORTS, "__heap_base")]
    stack = f"-Wl,-z,stack-size={WASM_STACK}"  # it lies first: overflowing, it stops the program
    return ("-mexec-model=reactor", "-Wl,--no-entry", stack, *exports)


def _run(command: Arguments, source: Path, children: Children) -> None:
    """Run a compiler; where it fails, keep its source and raise BuildError with its errors."""
    # zig wants a place for its own cache, and without HOME it has none
    done = children.run(
        command, {"ZIG_GLOBAL_CACHE_DIR": str(cache_directory().parent / "zig"), **os.environ}
    )
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


def _show_progress(futures: Sequence[Future[Path]], units: Arguments) -> None:
    """Show how far the units are that were not compiled before, by the kernels in each."""
    _, waiting = wait(futures, timeout=MOMENT)
    if not waiting:
        return
    kernels = {
        future: len(KERNEL.findall(unit)) or 1
        for future, unit in zip(futures, units, strict=True)
        if future in waiting
    }
    total = sum(kernels.values())
    with report_progress(
        f"compiling {counted(total, 'kernel')}", total, pace="compiling"
    ) as advance:
        for future in as_completed(waiting):
            advance(kernels[future])
