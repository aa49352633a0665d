"""Compiles a few lines of C around a kernel and loads them, for the tests of kernels."""

import ctypes
import hashlib
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthwise.compiler.codegen.literals import initializer
from depthwise.compiler.kernels import KERNELS
from depthwise.kernels import source

VECTORS = (16, 8, 4)  # floats a vector
# the least CPU with vectors of that many floats, and the flags of /proc/cpuinfo that it has
X86 = {
    16: ("x86_64_v4", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}),
    8: ("x86_64_v3", {"avx2", "fma", "bmi2", "f16c", "movbe"}),
    4: ("x86_64_v2", {"sse4_2", "ssse3", "popcnt"}),
}
PREAMBLE = """\
#include <math.h>
#include <string.h>
#ifdef NAIVE
#define KERNEL(name) name##_naive
#else
#define KERNEL(name) name
#endif
"""


@cache
def cpu_flags() -> set[str]:
    """Return what this CPU says it has; nothing where it is not x86."""
    if platform.machine() != "x86_64":
        return set()
    return set(Path("/proc/cpuinfo").read_text().split("flags", 1)[1].splitlines()[0].split())


def vector_flags(vector: int) -> list[str]:
    """Return the compiler's flags for vectors of that many floats; skips if this CPU has none."""
    if platform.machine() != "x86_64":
        if vector != 4:
            pytest.skip(f"{platform.machine()} has no vectors of {vector} floats")
        return []
    name, needed = X86[vector]
    missing = needed - cpu_flags()
    if missing:
        pytest.skip(f"VL={vector} needs {name}: this CPU lacks {', '.join(sorted(missing))}")
    return [f"-march={name}"]


def with_headers(text: str) -> str:
    """Return the text with every #include of one of our headers replaced by that header, once."""
    seen: set[str] = set()

    def header(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return re.sub(r'#include "(.+?)"', header, source(name))

    return re.sub(r'#include "(.+?)"', header, text)


def call(kernel: str, *pointers: str, **members: Any) -> str:
    """Return the call of KERNEL(kernel), from what its pointers are in C and its other arguments.

    A tuple is an array; a text is C as it is. NAME=(image, row, pixel) is NAME_image and so on;
    in_ is in.
    """
    row, given = KERNELS[kernel], {}
    names = [parameter.name for parameter in row.members]
    for name, value in members.items():
        if name in names:
            given[name] = f"{{{', '.join(map(str, value))}}}" if isinstance(value, tuple) else value
        else:
            strides = zip(("image", "row", "pixel"), value, strict=True)
            given |= {f"{name.rstrip('_')}_{axis}": stride for axis, stride in strides}
    assert set(given) == set(names), sorted(given)
    texts = {name: str(given[name]) for name in names}
    assert len(pointers) == len(row.pointers)
    numbers = f"static const struct {row.name} numbers = {initializer(row, texts)}"
    return f"({{{numbers}; KERNEL({kernel})(&numbers, {', '.join(pointers)});}})"


def compile_kernel(text: str, *, vector: int, naive: bool = False) -> ctypes.CDLL:
    """Return the library of `text`, C that includes headers by #include "vector.h" and so on.

    KERNEL(f32_name) in it is the kernel, or with `naive` its naive twin. Skips the test where this
    CPU has no vectors of `vector` floats.
    """
    text = f"#define VL {vector}\n" + ("#define NAIVE\n" if naive else "") + PREAMBLE + text
    text = with_headers(text)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-g0", "-ffp-contract=fast"]
    flags += ["-fno-math-errno", "-fPIC", "-shared", *vector_flags(vector)]
    command = [sys.executable, "-m", "ziglang", "cc", *flags]
    return ctypes.CDLL(str(build(command, text, "so")))


def build(command: list[str], text: str, ending: str) -> Path:
    """Return the file that the compiler makes of `text`, from earlier if both are the same."""
    key = hashlib.sha256("\0".join([*command, text]).encode()).hexdigest()[:24]
    directory = Path(tempfile.gettempdir()) / f"depthwise-kernels-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    result = directory / f"{key}.{ending}"
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            code, made = Path(scratch) / "kernel.c", Path(scratch) / f"made.{ending}"
            code.write_text(text)
            run = subprocess.run(
                [*command, str(code), "-o", str(made), "-lm"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert run.returncode == 0, run.stderr[:4000]
            os.replace(made, result)
    return result


def share(cases: dict[Any, Any], vector: int) -> dict[Any, Any]:
    """Return every third of the cases, others for each width of vectors; all where one width is.

    gcc takes a second for a case, and three widths would be three seconds.
    """
    if platform.machine() != "x86_64":
        return cases
    return dict(list(cases.items())[VECTORS.index(vector) :: len(VECTORS)])


def check_gcc(text: str, *, vector: int) -> Path:
    """Return what gcc makes of `text`, every warning an error; skips if there is no gcc."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc on this machine: what it makes of kernels is NOT TESTED")
    # a CPU need not have the vectors, on x86
    isa = [f"-march={X86[vector][0]}"] if platform.machine() == "x86_64" else vector_flags(vector)
    text = with_headers(f"#define VL {vector}\n{PREAMBLE}{text}")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O3", "-ffp-contract=fast", "-shared"]
    flags += ["-fno-math-errno", "-fPIC", *(flag.replace("x86_64_v", "x86-64-v") for flag in isa)]
    return build(["gcc", *flags], text, "so")


def compile_by_gcc(text: str, *, vector: int) -> ctypes.CDLL:
    """Return the library that gcc makes; skips without gcc, or where this CPU lacks the vectors."""
    built = check_gcc(text, vector=vector)
    vector_flags(vector)
    return ctypes.CDLL(str(built))


def at_page_end(array: np.ndarray) -> np.ndarray:
    """Return a copy of the array whose last byte is followed by memory that cannot be touched."""
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    guard = ctypes.c_void_p(start + size)
    assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0, ctypes.get_errno()
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes)
    copy = copy.reshape(array.shape)
    copy[...] = array
    return copy


def pointer(array: np.ndarray | None, offset: int = 0) -> ctypes.c_void_p:
    """Return where element `offset` of a contiguous array lies, or null."""
    if array is None:
        return ctypes.c_void_p(None)
    assert array.flags.c_contiguous
    return array.reshape(-1)[offset:].ctypes.data_as(ctypes.c_void_p)  # keeps the array alive
