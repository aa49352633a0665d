"""Targets, and C compiled for them: the cache, several texts at once, compilers that fail."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from depthwise import progress
from depthwise.cli.screen import waiting
from depthwise.errors import BuildError
from depthwise.files import atomic as disk
from depthwise.files.cache import cache_directory
from depthwise.runtime import target
from depthwise.runtime.target import TARGETS, V2, V3, V4, check_runs_here, find_target
from depthwise.toolchain import build
from depthwise.toolchain.build import compile_c, find_compiler
from depthwise.toolchain.children import Children

NET = """#include <math.h>
#include <stddef.h>
#ifndef SCALE
#define SCALE 2
#endif
size_t net_arena_bytes(void) { return 0; }
size_t net_weights_bytes(void) { return 0; }
int net_run(const void *weights, const float *in, float *out, void *arena) {
    (void)weights, (void)arena;
    out[0] = SCALE * expf(in[0]);
    return 0;
}
"""
NATIVE = find_target("native")
GCC = pytest.param(
    "gcc", marks=pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
)


def libraries(cache):
    """Return the files of the cache beside its units."""
    return [path for path in cache.iterdir() if path.is_file()]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Give an empty cache of ours; zig's own stays, with the C libraries it has built."""
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(cache_directory().parent / "zig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "depthwise"


@pytest.fixture
def machine(monkeypatch):
    """Give a function that makes this machine another one."""

    def pretend(architecture, features=frozenset()):
        monkeypatch.setattr(target.platform, "machine", lambda: architecture)
        monkeypatch.setattr(target, "cpu_features", lambda: frozenset(features))

    return pretend


def run(path, x=0.0):
    out = ctypes.c_float()
    assert ctypes.CDLL(str(path)).net_run(None, ctypes.byref(ctypes.c_float(x)),
                                          ctypes.byref(out), None) == 0  # fmt: skip
    return out.value


# ------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("architecture", "features", "name", "lanes"),
    [
        ("x86_64", V4, "x86-64-v4", 16),
        ("x86_64", V4 - {"avx512dq"}, "x86-64-v3", 8),
        ("AMD64", V3, "x86-64-v3", 8),
        ("x86_64", V3 - {"fma"}, "x86-64-v2", 4),
        ("aarch64", (), "aarch64", 4),
        ("arm64", (), "aarch64", 4),
    ],
)
def test_native_is_the_widest_that_the_cpu_runs(machine, architecture, features, name, lanes):
    machine(architecture, features)
    found = find_target("native")
    assert (found.name, found.lanes) == (name, lanes)
    assert found.runner is None
    check_runs_here(found)


@pytest.mark.parametrize(
    ("architecture", "features"), [("riscv64", ()), ("x86_64", V2 - {"sse4_2"}), ("i686", V4)]
)
def test_a_cpu_that_is_no_target_is_named(machine, architecture, features):
    machine(architecture, features)
    with pytest.raises(ValueError, match=f"CPU, {architecture}, is none of our targets: compile"):
        find_target("native")


def test_unknown_target_lists_the_accepted():
    accepted = (
        "native, aarch64, aarch64-fp16, portable, wasm32, x86-64, x86-64-amx, x86-64-avx-vnni, "
        "x86-64-avx512-fp16, x86-64-v2, x86-64-v3, x86-64-v4, x86-64-vnni"
    )
    with pytest.raises(ValueError, match=f"'avx9': take one of {accepted}"):
        find_target("avx9")


def test_what_this_cpu_lacks_is_refused(machine):
    machine("x86_64", V3)
    check_runs_here(find_target("x86-64-v3"))
    with pytest.raises(ValueError, match="for x86-64-v4, and this CPU lacks avx512bw, avx512cd"):
        check_runs_here(find_target("x86-64-v4"))
    with pytest.raises(ValueError, match="is x86_64: run it under qemu-aarch64, or compile with"):
        check_runs_here(find_target("aarch64"))
    with pytest.raises(ValueError, match="run it under wasmtime"):
        check_runs_here(find_target("wasm32"))
    machine("aarch64")
    with pytest.raises(ValueError, match="is aarch64: run it under qemu-x86_64"):
        check_runs_here(find_target("x86-64-v2"))


def test_macos_names_the_same_features(monkeypatch):
    printed = "FPU SSE3 SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT F16C FMA AVX1.0\nBMI1 AVX2 BMI2\n"
    done = subprocess.CompletedProcess((), 0, printed, "")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(target.subprocess, "run", lambda *_, **__: done)
    target.cpu_features.cache_clear()
    try:
        assert target.cpu_features() >= V3
        assert not target.cpu_features() >= V4
    finally:
        target.cpu_features.cache_clear()


def test_macos_builds_its_own_kind_of_library(machine, monkeypatch):
    machine("arm64")
    monkeypatch.setattr(sys, "platform", "darwin")
    own, other = find_target("aarch64"), find_target("x86-64-v3")
    assert (own.triple, own.suffix) == ("aarch64-macos", ".dylib")
    assert (other.triple, other.suffix) == ("x86_64-linux-gnu.2.17", ".so")


# -------------------------------------------------------------------------------- building

MACHINE_OF_ELF = {"x86_64": 62, "aarch64": 183}


@pytest.mark.parametrize("each", TARGETS, ids=lambda each: each.name)
def test_every_target_builds(each):
    path = compile_c(NET, each)
    head = path.read_bytes()[:20]
    assert path.suffix == each.suffix
    if each.architecture == "wasm32":
        assert head[:4] == b"\0asm"
        return
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == MACHINE_OF_ELF[each.architecture]
    if not each.foreign and each.requires <= target.cpu_features():
        assert run(path) == 2.0


@pytest.mark.parametrize("cc", [None, GCC])
def test_extra_flags_count(cc):
    assert run(compile_c(NET, NATIVE, cc)) == 2.0
    assert run(compile_c(NET, NATIVE, cc, ("-DSCALE=3",))) == 3.0


def test_the_cache_is_by_content(cache):
    first = compile_c(NET, NATIVE)
    written = first.stat().st_mtime_ns, first.stat().st_ino
    assert compile_c(NET, NATIVE) == first
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == written
    others = [
        compile_c(NET + "\n", NATIVE),
        compile_c(NET, NATIVE, extra=("-O1",)),
        compile_c(NET, find_target("x86-64-v2")),
    ]
    assert len({first, *others}) == 4
    assert {path.name for path in libraries(cache)} == {p.name for p in (first, *others)}


@pytest.mark.parametrize("part", ["identity", "flags", "link"])
def test_another_compiler_or_flag_builds_anew(cache, monkeypatch, part):
    compile_c(NET, NATIVE)
    if part == "identity":
        newer = replace(find_compiler(), identity="zig cc 99")
        monkeypatch.setattr(build, "find_compiler", lambda _: newer)
    elif part == "flags":
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DUNUSED"))
    else:
        monkeypatch.setattr(build, "_link_flags", lambda _: ("-shared", "-s"))
    compile_c(NET, NATIVE)
    assert len(list(libraries(cache))) == 2


def test_the_cache_lies_where_the_desktop_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "depthwise"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_directory() == tmp_path / ".cache" / "depthwise"


def test_many_may_build_the_same_at_once(cache):
    program = (
        "import sys; from depthwise.toolchain import build\n"
        "from depthwise.runtime import target\n"
        "print(build.compile_c(sys.stdin.read(), target.find_target('native')))"
    )

    def compile_apart(_):
        command = [sys.executable, "-c", program]
        return subprocess.run(command, input=NET, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(compile_apart, range(4)))
    assert len(paths) == 1
    (path,) = libraries(cache)
    assert run(path) == 2.0


@pytest.mark.parametrize("cc", [None, GCC])
def test_several_texts_become_one_library(cache, cc):
    other = "float scale(void); float scale(void) { return 5; }"
    units = ("float scale(void);\n" + NET.replace("SCALE *", "scale() *"), other)
    path = compile_c(units, NATIVE, cc)
    assert run(path) == 5.0
    assert list(libraries(cache)) == [path]


def test_wasm_imports_nothing():
    wasmtime = pytest.importorskip("wasmtime")
    module = wasmtime.Module.from_file(
        wasmtime.Engine(), str(compile_c(NET, find_target("wasm32")))
    )
    assert not module.imports
    exported = {export.name for export in module.exports}
    assert exported >= {"memory", "__heap_base", *build.EXPORTS}


# --------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("cc", [None, GCC])
def test_a_failing_compile_shows_its_first_errors_and_keeps_the_file(cache, cc):
    wrong = "int good(void);\nint bad(void) { return nowhere; }\n"
    with pytest.raises(BuildError, match=r"failed-[0-9a-f]+\.c:2:24: error: .*nowhere") as caught:
        compile_c((NET, wrong), NATIVE, cc)
    (kept,) = libraries(cache)
    assert kept.read_text() == wrong
    assert str(kept) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= build.FIRST_LINES + 2


@pytest.mark.parametrize("name", ["native", "aarch64", "wasm32"])
def test_a_failing_link_says_so(cache, name):
    lost = NET.replace("return 0;", "extern int nowhere(void); return nowhere();")
    with pytest.raises(BuildError, match=r"error: .*undefined symbol: nowhere"):
        compile_c(lost, find_target(name))
    assert [path.suffix for path in libraries(cache)] == [".c"]


def test_a_missing_compiler_is_named():
    with pytest.raises(BuildError, match="no C compiler 'gcc-99' on the PATH: install it, or"):
        find_compiler("gcc-99")


@pytest.mark.parametrize(
    ("identity", "version"),
    [
        ("zig cc 0.17.1", "0.17.1"),
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("gcc-13 (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0", "13.3.0"),
        ("Debian clang version 19.1.7 (3+b1)", "19.1.7"),
        ("Apple clang version 15.0.0 (clang-1500.3.9.4)", "15.0.0"),
        ("a compiler of its own", ""),
    ],
)
def test_the_version_is_the_number_beside_brackets(identity, version):
    assert replace(find_compiler(), identity=identity).version == version


def test_a_missing_zig_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(build.sys, "executable", str(tmp_path / "python"))
    find_compiler.cache_clear()
    with pytest.raises(BuildError, match="install it with: pip install ziglang"):
        find_compiler()
    find_compiler.cache_clear()


def test_what_is_no_compiler_is_refused():
    with pytest.raises(BuildError, match="false --version does not run"):
        find_compiler("false")


@pytest.mark.parametrize("cc", [GCC])
def test_a_compiler_for_another_machine_is_refused(cc):
    other = next(each for each in TARGETS if each.foreign)
    with pytest.raises(ValueError, match=rf"gcc compiles for \S+, not for {other.name}: name a"):
        compile_c(NET, other, cc)


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(cache_directory().parent / "zig"))
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        with pytest.raises(BuildError, match=r"cannot write to the cache.*set XDG_CACHE_HOME"):
            compile_c(NET, NATIVE)


def test_without_a_home_it_is_said_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 987_654)  # whom the system does not know
    with pytest.raises(BuildError, match=r"no home directory for the cache .* set XDG_CACHE_HOME"):
        compile_c(NET, NATIVE)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_wait_shows_a_bar_at_the_terminal(monkeypatch, terminal):
    shown = []
    advance = progress.Progress.advance
    monkeypatch.setattr(build, "MOMENT", 0.0)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(progress.Progress, "advance", lambda *a: shown.append(a) or advance(*a))
    compile_c((NET, "int other(void); int other(void) { return 1; }"), NATIVE)
    assert len(shown) == (2 if terminal else 0)


def test_libraries_share_the_units_that_they_have_in_common(cache):
    shared = "int twice(int x) { return 2 * x; }"
    target = find_target("native")
    first = compile_c((NET, shared), target)
    second = compile_c((NET.replace("return 0;", "return 1;"), shared), target)
    assert first != second
    assert len(list((cache / "units").iterdir())) == 3


# ------------------------------------------------------------------- what is damaged or left over


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [halve, flip, empty])
@pytest.mark.parametrize("kind", ["library", "units"])
def test_what_was_damaged_in_the_cache_is_built_again(cache, harm, kind):
    whole = compile_c(NET, NATIVE)
    before = whole.read_bytes()
    units = list((cache / "units").iterdir())
    for path in units if kind == "units" else [whole]:
        harm(path)
    if kind == "units":
        whole.unlink()
    program = (
        "import sys; from depthwise.toolchain import build\n"
        "from depthwise.runtime import library, target\n"
        "path = build.compile_c(sys.stdin.read(), target.find_target('native'))\n"
        "print(library.Code(path).weights_bytes)"
    )
    command = [sys.executable, "-c", program]  # apart: opening a damaged library ends the process
    done = subprocess.run(command, input=NET, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n")
    (path,) = libraries(cache)
    assert path.read_bytes() == before
    assert list((cache / "units").iterdir()) == units


def test_what_killed_compilers_left_is_removed_and_what_others_do_is_not(cache):
    compile_c(NET, NATIVE)
    killed = (
        "import os, sys; from depthwise.toolchain import build\n"
        "from depthwise.runtime import target\n"
        "build.keep_built = lambda *_: os._exit(9)\n"  # as soon as the first compiler is done
        "build.compile_c(sys.stdin.read(), target.find_target('native'))"
    )
    other = NET.replace("return 0;", "return 7;")
    command = [sys.executable, "-c", killed]
    assert subprocess.run(command, input=other, text=True, check=False).returncode == 9
    before = set(cache.iterdir())
    left = {path for path in before if path.is_dir()} - {cache / "units"}
    assert len(left) == 1  # or there is nothing to be removed
    theirs = cache / ".building-0123456789ab"
    theirs.mkdir()
    (theirs / "notes").write_text("mine")
    with disk.workspace(cache, ".building-") as running:
        compile_c(other, NATIVE)
        assert running.is_dir()
    assert (theirs / "notes").read_text() == "mine"
    assert {path for path in cache.iterdir() if path.is_dir()} == {cache / "units", theirs}


def test_an_interrupt_ends_the_compilers_and_leaves_nothing(cache, monkeypatch):
    started = []

    def interrupt(*_):
        while not started[0]._running:
            time.sleep(0.01)
        raise KeyboardInterrupt

    class Spied(Children):
        def __enter__(self):
            started.append(self)
            return super().__enter__()

    monkeypatch.setattr(build, "Children", Spied)
    monkeypatch.setattr(build, "_show_progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_c(NET.replace("return 0;", "return 8;"), NATIVE)
    assert not started[0]._running
    assert [path.name for path in cache.iterdir()] == ["units"]
    assert not list((cache / "units").iterdir())


def test_the_c_of_a_failed_build_is_forgotten_after_a_day(cache):
    cache.mkdir()
    old, new = cache / "failed-1.c", cache / "failed-2.c"
    old.write_text("")
    new.write_text("")
    os.utime(old, (time.time() - 100_000,) * 2)
    compile_c(NET, NATIVE)
    assert not old.exists()
    assert new.exists()


def test_it_is_said_once_that_the_library_of_windows_is_built_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    linked = []

    def link(_, library, *__):
        linked.append(library.name)
        library.write_bytes(b"linked")
        return library

    monkeypatch.setattr(build, "_compile_units", lambda *_: [])
    monkeypatch.setattr(build, "_link", link)
    with waiting("compiling"):
        for text, system in (("one", None), ("two", "windows"), ("three", "windows")):
            compile_c(text, find_target("x86-64-v3", system))
    said = "depthwise: building Windows' own C library, once, about 2 minutes"
    assert capsys.readouterr().err.splitlines() == [said]
    assert len(linked) == 3
