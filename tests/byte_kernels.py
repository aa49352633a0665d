"""Runs kernels of bytes on every kind of CPU: a program with the numbers inside says what differs.

The right bytes come from NumPy; a kernel and its twin are both held to them, on this machine, under
an emulator and as WebAssembly.
"""

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import wasmtime
from kernel_harness import build, cpu_flags, with_headers

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.codegen.literals import initializer, number
from depthwise.compiler.kernels import KERNELS

GUARD = 64  # bytes around what a kernel writes, which must stay
UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Machine:
    """What the program is compiled for, and who runs it: the CPU where nobody is named.

    `vector` is the lanes of a vector, `needs` the flags of /proc/cpuinfo.
    """

    name: str
    flags: tuple[str, ...]
    vector: int
    needs: frozenset[str] = frozenset()
    runner: str = ""

    def __str__(self) -> str:
        return self.name


V3 = frozenset({"avx2", "fma", "bmi2", "f16c", "movbe"})
V4 = V3 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
ARM, WASM = ("-target", "aarch64-linux-musl", "-static"), ("-target", "wasm32-wasi-musl")
MACHINES = (
    Machine("v2", ("-mcpu=x86_64_v2",), 4, frozenset({"sse4_2", "ssse3"})),
    Machine("v3", ("-mcpu=x86_64_v3",), 8, V3),
    Machine("v3 with VNNI", ("-mcpu=x86_64_v3+avxvnni",), 8, V3 | {"avx_vnni"}),
    Machine("v4", ("-mcpu=x86_64_v4",), 16, V4),
    Machine("v4 with VNNI", ("-mcpu=x86_64_v4+avx512vnni",), 16, V4 | {"avx512_vnni"}),
    Machine("AMX", ("-mcpu=sapphirerapids",), 16, V4 | {"amx_int8", "avx512_vnni"}),
    Machine("portable", ("-mcpu=baseline",), 1),
    Machine("aarch64", (*ARM, "-mcpu=generic"), 4, runner="qemu-aarch64"),
    Machine("wasm32", (*WASM, "-mcpu=generic+simd128"), 4, runner="wasmtime"),
)


@dataclass(frozen=True)
class ByteCall:
    """One call of a kernel: its numbers, its arrays by name, and the bytes that should come out.

    `first` says from which element on an array is given, 0 where it says nothing; elements before
    lie around an image. `written` is what lies where the result goes, `expected` the same after the
    call.
    """

    name: str
    kernel: str
    members: dict[str, Any]
    arrays: dict[str, np.ndarray | None]
    written: np.ndarray
    expected: np.ndarray
    result: str = "out"  # the pointer that is written
    first: dict[str, int] = field(default_factory=dict)
    in_place: str = ""  # the array that is `written` itself


def _numbers(array: np.ndarray) -> str:
    if array.dtype.kind == "f":
        return ",".join(map(number, array.reshape(-1)))
    return ",".join(map(str, array.reshape(-1).tolist()))


def _literal(value: Any) -> str:
    if isinstance(value, ByteEpilogue):
        return value.in_c()
    if isinstance(value, tuple):
        return f"{{{','.join(map(str, value))}}}"
    return str(value)


def _case(number: int, call: ByteCall) -> str:
    """Return C: the arrays of a call, and a function that returns whether the bytes are right."""
    row = KERNELS[call.kernel]
    lines, members = [], {}
    for name, value in call.members.items():
        if isinstance(value, np.ndarray):
            lines.append(f"static const int {name}_{number}[] = {{{_numbers(value)}}};")
            members[name] = f"{name}_{number}"
        else:
            members[name] = _literal(value)
    given = []
    for pointer in row.pointers:
        if pointer.name in (call.result, call.in_place):
            given.append(f"room + {GUARD // pointer.dtype.bytes}")
            continue
        array = call.arrays[pointer.name]
        if array is None:
            given.append("0")
            continue
        label = f"{pointer.name}_{number}"
        lines.append(
            f"static const {pointer.dtype.c} {label}[] __attribute__((aligned(64))) = "
            f"{{{_numbers(array)}}};"
        )
        given.append(f"{label} + {call.first.get(pointer.name, 0)}")
    (out,) = (pointer for pointer in row.pointers if pointer.name == call.result)
    guard = np.full(GUARD, UNTOUCHED, np.uint8).view(call.written.dtype)
    for label, array in (("before", call.written), ("after", call.expected)):
        whole = np.concatenate([guard, array.reshape(-1), guard])
        lines.append(f"static const {out.dtype.c} {label}_{number}[] = {{{_numbers(whole)}}};")
    ordered = {p.name: members[p.name] for p in row.members}
    lines += [
        f"static const struct {row.name} numbers_{number} = {initializer(row, ordered)};",
        *(
            f"NOINLINE int case_{number}{suffix}(void) {{\n"
            f"    static {out.dtype.c} room[sizeof before_{number} / sizeof *before_{number}];\n"
            f"    memcpy(room, before_{number}, sizeof room);\n"
            f"    {call.kernel}{suffix}(&numbers_{number}, {', '.join(given)});\n"
            f"    return !memcmp(room, after_{number}, sizeof room);\n}}"
            for suffix in ("", "_naive")
        ),
    ]
    return "\n".join(lines)


PERMISSION = """\
#if defined(__AMX_TILE__) && defined(__linux__)
#include <unistd.h>
#include <sys/syscall.h>
static int allowed(void) { return !syscall(SYS_arch_prctl, 0x1023, 18); }
#else
static int allowed(void) { return 1; }
#endif
"""


def program(calls: Sequence[ByteCall], vector: int) -> str:
    """Return a C program that prints the cases that are wrong, and at last that it is done."""
    headers = sorted({KERNELS[call.kernel].header for call in calls})
    text = "\n".join(f'#include "{name}.h"' for name in headers)
    cases = "\n".join(_case(number, call) for number, call in enumerate(calls))
    checks = "\n".join(
        f'    if (!case_{n}{suffix}()) printf("{call.name}{suffix}\\n");'
        for n, call in enumerate(calls)
        for suffix in ("", "_naive")
    )
    return with_headers(
        f"#define _GNU_SOURCE\n#include <math.h>\n#include <stdio.h>\n#include <string.h>\n"
        f"#define VL {vector}\n{PERMISSION}{text}\n{cases}\n"
        f'int main(void) {{\n    if (!allowed()) return puts("no tiles"), 1;\n'
        f'{checks}\n    puts("done");\n    return 0;\n}}\n'
    )


def run(calls: Sequence[ByteCall], machine: Machine) -> list[str]:
    """Return the names of the cases that are wrong on a machine; skips where none is at hand."""
    missing = machine.needs - cpu_flags()
    native = not machine.runner
    if native and (missing or platform.machine() != "x86_64"):
        pytest.skip(f"NOT TESTED for {machine}: this CPU lacks {', '.join(sorted(missing))}")
    if machine.runner.startswith("qemu") and shutil.which(machine.runner) is None:
        pytest.skip(f"NOT TESTED for {machine}: no {machine.runner}, apt-get install qemu-user")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-g0", "-ffp-contract=fast"]
    flags += ["-fno-math-errno", *machine.flags]
    command = [sys.executable, "-m", "ziglang", "cc", *flags]
    made = build(command, program(calls, machine.vector), "wasm" if "wasm" in machine.name else "x")
    if machine.runner == "wasmtime":
        printed = _run_wasm(made)
    else:
        start = [machine.runner] if machine.runner else []
        done = subprocess.run([*start, made], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        printed = done.stdout
    *wrong, last = printed.split("\n")[:-1]
    assert last == "done", printed
    return wrong


def _run_wasm(module: Any) -> str:
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_wasi()
    output = module.with_suffix(".txt")
    wasi = wasmtime.WasiConfig()
    wasi.stdout_file = str(output)
    store.set_wasi(wasi)
    instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(module)))
    with suppress(wasmtime.ExitTrap):  # a program ends by it; one that fails prints no "done"
        instance.exports(store)["_start"](store)
    del store
    return output.read_text()


def requantized(
    a: ByteEpilogue, acc: np.ndarray, scale: np.ndarray, other: np.ndarray | int = 0
) -> np.ndarray:
    """Return what kernels/bytes.h says of sums, scales that broadcast to them, and a summand."""
    value = acc.astype(np.float32) * np.float32(scale)
    if a.add:
        beside = (np.asarray(other, np.int32) - a.sum_zero).astype(np.float32)
        value = value + beside * np.float32(a.sum_scale)
    whole = np.rint(value.astype(np.float32)).astype(np.int64) + a.zero
    return whole.clip(a.low, a.high).astype(np.uint8)


def lay_out(x: np.ndarray, gap: int, row_gap: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return (N, H, W, C) with bytes after each pixel and row, and the strides of these."""
    n, h, w, c = x.shape
    pixel = c + gap
    row = w * pixel + row_gap
    flat = np.full(n * h * row, UNTOUCHED, np.uint8)
    view = np.lib.stride_tricks.as_strided(flat, x.shape, (h * row, row, pixel, 1))
    view[...] = x
    end = (n - 1) * h * row + (h - 1) * row + (w - 1) * pixel + c
    return flat[:end], (h * row, row, pixel)
