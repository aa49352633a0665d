"""From C to a library: the compiler called once for a text, its result kept by content."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from depthwise.accounting.finding import counted
from depthwise.compiler.cache import cache_directory
from depthwise.compiler.progress import stage
from depthwise.compiler.target import Target

Arguments = tuple[str, ...]

OPTIMISE = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno")
FLAGS = (*OPTIMISE, "-fPIC", "-g0")
EXPORTS = ("net_arena_bytes", "net_weights_bytes", "net_run")
MOMENT = 0.3  # seconds in which what was compiled before is found
KERNEL = re.compile(r"visibility\(\"hidden\"\)\)\) .*\{$", re.MULTILINE)  # as emit defines each
FIRST_LINES = 12  # of a compiler's errors


class BuildError(Exception):
    """A C compiler that is not there, or that failed: the message holds its first errors."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler: the command that starts it and what it says of itself and of its machine."""

    command: Arguments
    identity: str
    machine: str
    is_zig: bool

    def flags(self, target: Target) -> Arguments:
        """Return the flags that choose the CPU, with those of every library."""
        if self.is_zig:
            return (*FLAGS, "-target", target.triple, f"-mcpu={target.mcpu}")
        if target.architecture != _architecture(self.machine):
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
    library = cache_directory() / f"{key}{target.suffix}"
    if library.is_file():
        return library
    try:
        units_directory().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            objects = _compile_units(units, compiler, flags, Path(folder))
            # several processes may get here with the same text: whoever renames last wins
            linked = _link(objects, Path(folder), compiler, link_flags)
            os.replace(linked, library)
    except OSError as error:
        raise _unwritable("the cache of built libraries", error) from error
    return library


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def units_directory() -> Path:
    """Return the directory of compiled units, that libraries share."""
    return cache_directory() / "units"


def keep_text(path: Path, text: str) -> None:
    """Write a file of the cache, whole or not at all. Raises BuildError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise _unwritable("the cache", error) from error


def replace_text(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there. Raises OSError where it cannot be written."""
    new = path.with_name(f".{path.name}.new{uuid.uuid4().hex[:12]}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _unwritable(what: str, error: OSError) -> BuildError:
    return BuildError(
        f"cannot write to {what}: {error}; make room there, or set XDG_CACHE_HOME to a directory "
        "that you may write to"
    )


def thread_flags(threads: int) -> Arguments:
    """Return the flags of a program of several threads."""
    return ("-pthread",) if threads > 1 else ()


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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = []
        for i, unit in enumerate(units):
            source = folder / f"net{i}.c"
            source.write_text(unit, encoding="utf-8")
            kept = units_directory() / f"{_digest([unit, compiler.identity, flags])}.o"
            futures.append(pool.submit(_compile_unit, source, kept, compiler, flags))
        try:
            _show_progress(futures, units)
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def _compile_unit(source: Path, kept: Path, compiler: Compiler, flags: Arguments) -> Path:
    """Compile a unit, once for all libraries that hold the same: networks share their kernels."""
    if not kept.is_file():
        objects = source.with_suffix(".o")
        _run((*compiler.command, *flags, "-c", str(source), "-o", str(objects)), source)
        os.replace(objects, kept)
    return kept


def _link(objects: Sequence[Path], folder: Path, compiler: Compiler, flags: Arguments) -> Path:
    library = folder / "net.linked"
    command = (*compiler.command, *flags, *map(str, objects), "-lm", "-o", str(library))
    _run(command, folder / "net0.c")
    return library


def _link_flags(target: Target) -> Arguments:
    if target.system == "macos":
        return ("-shared",)
    if target.system == "linux":
        return ("-shared", "-Wl,-z,defs")  # a missing function is found now, not when opened
    exports = [f"-Wl,--export={name}" for name in (*EXPORTS, "__heap_base")]
    return ("-mexec-model=reactor", "-Wl,--no-entry", *exports)


def _run(command: Arguments, source: Path) -> None:
    """Run a compiler; where it fails, keep its source and raise BuildError with its errors."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    kept = source.parent.parent / f"failed-{digest}.c"
    shutil.copyfile(source, kept)
    lines = (done.stderr or done.stdout).replace(str(source), str(kept)).splitlines()
    at = next((i for i, line in enumerate(lines) if "error" in line), 0)
    words = " ".join(command).replace(str(source), str(kept))
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
    with stage(f"compiling {counted(total, 'kernel')}", total, pace="compiling") as advance:
        for future in as_completed(waiting):
            advance(kernels[future])
