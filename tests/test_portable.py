"""C for compilers without vector extensions: what it computes, and that none is in it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import ziglang
from test_compile import TOLERANCE, draw, settle
from torch import nn

import depthwise as dw
from depthwise.layers import InvertedResidual, conv_norm_act
from depthwise.toolchain.build import find_compiler

SHAPE = (1, 3, 20, 17)


def make_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        conv_norm_act(3, 24, 3, 2), InvertedResidual(24, 72, 40), nn.Conv2d(40, 48, 3, padding=1),
        nn.Hardswish(), nn.MaxPool2d(2), nn.Softmax(1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(48, 5), nn.GELU(),
    ).eval()  # fmt: skip
    settle(net)
    return net


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    library = dw.compile(make_net(), SHAPE, target="portable", threads=2)
    library.save(tmp_path_factory.mktemp("portable") / "out")
    return library, tmp_path_factory.getbasetemp() / "portable0" / "out"


def test_one_float_at_a_time_computes_the_same(saved):
    library, _ = saved
    (x,) = draw(SHAPE)
    expected = dw.compile(make_net(), SHAPE)(x.numpy())
    assert library.manifest.verification.error <= TOLERANCE
    assert np.abs(library(x.numpy()) - expected).max() <= TOLERANCE * np.abs(expected).max()


GNU = r"__attribute__|__builtin\w*|_Pragma|__typeof__|__asm__|__atomic\w*|\(\{|\bvector_size"


def test_no_word_of_gcc_is_left(saved, tmp_path):
    """Another compiler's view: net.c preprocessed with headers that are empty."""
    _, directory = saved
    for name in ("math", "stddef", "string", "windows"):
        (tmp_path / f"{name}.h").write_text("")
    plain = ["-U__GNUC__", "-U__clang__", "-D_WIN32", "-DNET_PLAIN"]
    command = [*find_compiler().command, "-E", "-P", "-nostdinc", f"-I{tmp_path}", *plain]
    text = subprocess.run(
        [*command, str(directory / "net.c")], capture_output=True, text=True, check=True
    ).stdout
    assert "net_run" in text
    assert not re.findall(GNU, text)


# of Windows' headers what threads take: those that come with us are for other compilers
WINDOWS = """
typedef void *HANDLE;
typedef long LONG;
typedef unsigned long DWORD;
typedef struct { void *at; } SRWLOCK, CONDITION_VARIABLE;
#define WINAPI __stdcall
#define INFINITE 0xffffffff
void InitializeSRWLock(SRWLOCK *), AcquireSRWLockExclusive(SRWLOCK *), YieldProcessor(void);
void ReleaseSRWLockExclusive(SRWLOCK *), InitializeConditionVariable(CONDITION_VARIABLE *);
void WakeConditionVariable(CONDITION_VARIABLE *), WakeAllConditionVariable(CONDITION_VARIABLE *);
int SleepConditionVariableSRW(CONDITION_VARIABLE *, SRWLOCK *, DWORD, unsigned long);
HANDLE CreateThread(void *, size_t, DWORD (WINAPI *)(void *), void *, DWORD, DWORD *);
DWORD GetLastError(void), WaitForSingleObject(HANDLE, DWORD);
int CloseHandle(HANDLE);
LONG InterlockedCompareExchange(volatile LONG *, LONG, LONG);
LONG InterlockedExchange(volatile LONG *, LONG), InterlockedExchangeAdd(volatile LONG *, LONG);
"""


def test_microsofts_compiler_would_take_it(saved, tmp_path):
    """Its target, its extensions and its names, in clang; of the C library the headers alone."""
    _, directory = saved
    (tmp_path / "windows.h").write_text(WINDOWS)
    lib = Path(ziglang.__file__).parent / "lib"
    includes = [tmp_path, lib / "include", lib / "libc/include/any-windows-any"]
    flags = ["-target", "x86_64-windows-msvc", "-fms-compatibility", "-std=c11", "-pedantic-errors"]
    flags += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-DNET_PLAIN"]
    flags += ["-fsyntax-only", "-nostdinc"]
    command = [sys.executable, "-m", "ziglang", "clang", *flags]
    command += [word for path in includes for word in ("-isystem", str(path))]
    done = subprocess.run([*command, "net.c"], cwd=directory, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
