"""One library for a family of CPUs: every level's code, and the choice among them."""

import ctypes
import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
import torch
from test_compile import TOLERANCE, draw, settle
from torch import nn

import depthwise as dw
from depthwise.compiler.codegen.headers import header_text, with_headers_below
from depthwise.compiler.options import CompileOptions
from depthwise.layers import InvertedResidual, conv_norm_act
from depthwise.runtime.library import Library
from depthwise.runtime.target import FAMILIES, OPTIMISE, find_target, host_architecture
from depthwise.toolchain.build import compile_c, find_compiler

(FAMILY,) = FAMILIES
SHAPE = (1, 3, 20, 17)
HERE = [level for level in FAMILY.levels if level.runs_here]
NONE = 5  # NET_CPU

pytestmark = pytest.mark.skipif(
    host_architecture() != "x86_64", reason="NOT TESTED: x86-64 has other machines' code"
)


def make_net() -> nn.Module:
    net = nn.Sequential(
        conv_norm_act(3, 24, 3, 2), InvertedResidual(24, 72, 40), nn.Conv2d(40, 48, 3, padding=1),
        nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 5),
    ).eval()  # fmt: skip
    settle(net)
    return net


@cache
def build(target: str, threads: int = 1) -> Library:
    torch.manual_seed(0)
    return dw.compile(make_net(), SHAPE, target=target, threads=threads)


def at(library: Library, level: int) -> Library:
    return Library(library._artefact, level)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_level_computes_what_its_own_library_does(threads):
    torch.manual_seed(0)
    net, (x,) = make_net(), draw(SHAPE)
    with torch.no_grad():
        expected = net(x).numpy()
    library = build("x86-64", threads)
    assert [level.target for level in library.manifest.levels] == [t.name for t in FAMILY.levels]
    for level, proof in zip(FAMILY.levels, library.manifest.levels, strict=True):
        assert (proof.verification or proof.plan_check) is not None
        if not level.runs_here:
            continue
        assert proof.verification.error <= TOLERANCE
        found = at(library, level.level)(x.numpy())
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
        if level == FAMILY.levels[0]:  # the others take its algorithms, which need not be their own
            np.testing.assert_array_equal(found, build(level.name)(x.numpy()))
    chosen = at(library, HERE[0].level)(x.numpy())
    np.testing.assert_array_equal(library(x.numpy()), chosen)
    assert library.manifest.verification == library.manifest.levels[-len(HERE)].verification


# ---------------------------------------------------------------------------------- the choice

# cpuid as it is asked: leaf -> (eax, ebx, ecx, edx), and XCR0, what the system saves of registers
FAKE = """
static unsigned fake[4][4];
static unsigned saved_here;
static int fake_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    const unsigned *found = fake[leaf == 1 ? 0 : leaf == 7 ? 1 : 2];
    return *a = found[0], *b = found[1], *c = found[2], *d = found[3], found[0] != 0;
}
#define __get_cpuid(leaf, a, b, c, d) fake_cpuid(leaf, a, b, c, d)
#define __get_cpuid_count(leaf, sub, a, b, c, d) fake_cpuid(leaf, a, b, c, d)
int level_of(unsigned c1, unsigned b7, unsigned c8, unsigned xcr0);
"""
ASK = """
int level_of(unsigned c1, unsigned b7, unsigned c8, unsigned xcr0) {
    fake[0][0] = fake[1][0] = fake[2][0] = 1;
    fake[0][2] = c1, fake[1][1] = b7, fake[2][2] = c8, saved_here = xcr0;
    return net_find_level();
}
"""
XGETBV = '__asm__ volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0))'


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# Bits as Intel's manual numbers them (volume 2A, CPUID), of a CPU with AVX-512
ECX1 = bits(0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29)
EBX7, ECX8, XCR0 = bits(3, 5, 8, 16, 17, 28, 30, 31), bits(0, 5), 0xE7


@pytest.fixture(scope="module")
def level_of():
    text = "".join(map(header_text, with_headers_below(["levels"])))
    text = text.replace("#include <cpuid.h>", FAKE).replace("NET_API", "")
    assert XGETBV in text
    text = text.replace(XGETBV, "saved = saved_here") + ASK
    return ctypes.CDLL(str(compile_c(text, find_target("x86-64")))).level_of


@pytest.mark.parametrize(
    ("ecx1", "ebx7", "ecx8", "xcr0", "level"),
    [
        (ECX1, EBX7, ECX8, XCR0, 4),
        (ECX1, EBX7, ECX8, 0x07, 3),  # the system saves no AVX-512 registers,
        (ECX1, EBX7, ECX8, 0x67, 3),  # or not the upper sixteen
        (ECX1, EBX7 - bits(17), ECX8, XCR0, 3),  # AVX-512 as Knights Landing has it
        (ECX1, EBX7, ECX8, 0x03, 2),  # the system saves no AVX registers,
        (ECX1 - bits(27), EBX7, ECX8, XCR0, 2),  # or cannot be asked
        (ECX1 - bits(12), EBX7, ECX8, XCR0, 2),  # AVX2 without FMA
        (ECX1, EBX7 - bits(5), ECX8, XCR0, 2),
        (ECX1, EBX7, ECX8 - bits(5), XCR0, 2),  # lzcnt would be read as bsr
        (ECX1 - bits(20), EBX7, ECX8, XCR0, 0),
        (0, 0, 0, 0, 0),
    ],
)
def test_the_level_is_what_cpu_and_system_have(level_of, ecx1, ebx7, ecx8, xcr0, level):
    assert level_of(ecx1, ebx7, ecx8, xcr0) == level


PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
int main(void) {
    FILE *file = fopen("net.weights", "rb");
    void *weights = aligned_alloc(64, (net_weights_bytes() + 63) / 64 * 64);
    void *arena = aligned_alloc(64, (net_arena_bytes() + 63) / 64 * 64);
    if (!file || fread(weights, 1, net_weights_bytes(), file) != net_weights_bytes()) return 1;
    static float in[3 * 20 * 17], out[5];
    for (int i = 0; i < 3 * 20 * 17; i++) in[i] = (float)(i % 11) - 5;
    const int level = net_level();
    printf("%d ", level);
    printf("%d ", net_run_checked(weights, net_weights_bytes(), in, out, arena, net_arena_bytes()));
    printf("%d ", net_run_level(level + 1, weights, in, out, arena));
    printf("%d\n", net_run_level(1, weights, in, out, arena));
    for (int i = 0; i < 5; i++) printf("%.9g\n", (double)out[i]);
    return 0;
}
"""
PATTERN = (np.arange(3 * 20 * 17) % 11 - 5).astype(np.float32).reshape(SHAPE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("family") / "out"
    build("x86-64").save(directory)
    return directory


def compile_program(directory, out, *arguments):
    (out / "main.c").write_text(PROGRAM)
    command = [*find_compiler().command, *OPTIMISE, f"-I{directory}", str(out / "main.c")]
    subprocess.run([*command, *arguments, "-lm", "-o", str(out / "main")], check=True)


def printed(*command, directory):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    level, status, *others = done.stdout.split()
    assert others[:2] == [str(NONE), str(NONE)]
    return int(level), int(status), np.array(others[2:], np.float32)


@pytest.mark.parametrize(
    ("cpu", "level"),
    [("max", 3), ("Haswell", 3), ("Haswell,-fma", 2), ("Haswell,-xsave", 2), ("Nehalem", 2),
     ("core2duo", 0)],
)  # fmt: skip
def test_an_emulated_cpu_takes_its_own_level_and_never_stops(saved, tmp_path, cpu, level):
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("NOT TESTED on other CPUs: no qemu-x86_64, apt-get install qemu-user")
    where = f"-Wl,-rpath,{saved}"
    compile_program(saved, tmp_path, "-target", "x86_64-linux-gnu.2.17", "-mcpu=x86_64",
                    str(saved / "libnet.so"), where)  # fmt: skip
    emulated = ("qemu-x86_64", "-cpu", cpu, str(tmp_path / "main"))
    found, status, out = printed(*emulated, directory=saved)
    assert (found, status) == (level, 0 if level else NONE)
    if level:
        np.testing.assert_array_equal(out, at(build("x86-64"), level)(PATTERN).reshape(-1))


@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
def test_net_c_has_the_level_of_the_cpu_it_is_compiled_for(saved, tmp_path, level):
    compile_program(saved, tmp_path, str(saved / "net.c"), f"-mcpu={level.mcpu}")
    found, status, out = printed(str(tmp_path / "main"), directory=saved)
    assert (found, status) == (level.level, 0)
    expected = at(build("x86-64"), level.level)(PATTERN).reshape(-1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_what_is_timed_of_a_library_is_made_for_the_same_core():
    assert CompileOptions().here.core == CompileOptions().core
    here = CompileOptions(FAMILY.name, tune_for="zen2").here
    assert here.chosen == find_target("native")
    assert here.core.name == "zen2"
