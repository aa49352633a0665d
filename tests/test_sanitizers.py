"""net.c under AddressSanitizer and UBSan, each buffer an allocation of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from generator import Generator
from operator_cases import CASES
from test_compile import GIVEN, TOLERANCE, draw, flat, settle
from test_networks import side
from torch import nn

from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.families import construct, list_models
from depthwise.graph import capture
from depthwise.runtime.library import ALIGNMENT
from depthwise.runtime.target import OPTIMISE, find_target

NATIVE = find_target("native")
FLAGS = (
    *OPTIMISE, "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-D_POSIX_C_SOURCE=200112L", NATIVE.march,
)  # fmt: skip

# Runs a network twice and writes what it returns. Each buffer is as long as net.c says and ends
# where its allocation does; tensors start at addresses that only a float may have.
MAIN = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.c"

static const size_t in_floats[] = {IN_FLOATS}, out_floats[] = {OUT_FLOATS};

static void *aligned(size_t bytes) {
    void *memory;
    if (posix_memalign(&memory, ALIGNMENT, bytes)) abort();
    return memory;
}
static float *tensor(size_t floats) { return (float *)malloc((floats + 1) * sizeof(float)) + 1; }

static void read_file(FILE *file, void *to, size_t bytes) {
    if (fread(to, 1, bytes, file) != bytes) abort();
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    void *weights = aligned(net_weights_bytes()), *arena = aligned(net_arena_bytes());
    FILE *file = fopen(argv[1], "rb"), *given = fopen(argv[2], "rb");
    read_file(file, weights, net_weights_bytes());
    const float *in[INPUTS];
    float *out[OUTPUTS], *again[OUTPUTS];
    for (int i = 0; i < INPUTS; i++) {
        float *x = tensor(in_floats[i]);
        read_file(given, x, in_floats[i] * sizeof(float));
        in[i] = x;
    }
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = tensor(out_floats[i]), again[i] = tensor(out_floats[i]);
    memset(arena, 0xFF, net_arena_bytes());
    if (net_run(weights, IN, OUT(out), arena) || net_run(weights, IN, OUT(again), arena)) return 3;
    FILE *found = fopen(argv[3], "wb");
    for (int i = 0; i < OUTPUTS; i++) {
        if (memcmp(out[i], again[i], out_floats[i] * sizeof(float))) return 4;
        fwrite(out[i], sizeof(float), out_floats[i], found);
    }
    return fclose(found);
}
"""


def check_sanitized(net: nn.Module, inputs: list[torch.Tensor], folder: Path) -> None:
    """Build a network with gcc's sanitizers, run it, and compare it with PyTorch."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT SANITIZED: gcc is not installed")
    plan = make_plan(rewrite(capture(net, *(tuple(x.shape) for x in inputs))), NATIVE)
    with torch.no_grad():
        expected = [y.numpy().reshape(-1) for y in flat(net.eval()(*inputs))]
    (folder / "net.c").write_text(emit(plan))
    (folder / "main.c").write_text(MAIN)
    plan.weights.tofile(folder / "weights")
    (folder / "input").write_bytes(b"".join(x.numpy().tobytes() for x in inputs))
    sizes = (
        f"-DALIGNMENT={ALIGNMENT}",
        f"-DINPUTS={len(inputs)}",
        f"-DOUTPUTS={len(expected)}",
        f"-DIN_FLOATS={','.join(str(x.numel()) for x in inputs)}",
        f"-DOUT_FLOATS={','.join(str(y.size) for y in expected)}",
        "-DIN=in" if len(inputs) > 1 else "-DIN=in[0]",
        "-DOUT(y)=y" if len(expected) > 1 else "-DOUT(y)=y[0]",
    )
    build = ("gcc", *FLAGS, *sizes, "main.c", "-lm", "-o", "main")
    for command in (build, ("./main", "weights", "input", "output")):
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr[:4000]) == (0, "")
    found, wanted = np.fromfile(folder / "output", np.float32), np.concatenate(expected)
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


class TwoImages(nn.Module):
    """Two inputs and two outputs, at strides, through depthwise and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(5, 7, 3, 2, 1)
        self.sweep = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.Hardswish())
        self.cross = nn.Conv2d(12, 18, 1, groups=3)

    def forward(self, x, y):
        both = torch.cat((self.narrow(x), y), 1)
        return self.cross(self.sweep(both)), both.mean((2, 3))


def test_a_generator_is_clean(tmp_path):
    net = Generator()
    settle(net)
    check_sanitized(net, draw((2, 5, 7, 6)), tmp_path)


def test_a_network_of_two_images_is_clean(tmp_path):
    check_sanitized(TwoImages(), draw((1, 5, 13, 10), (1, 5, 7, 5)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in GIVEN])
def test_operators_are_clean(name, tmp_path):
    net, shapes = CASES[name]
    check_sanitized(net, draw(*shapes), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_networks_are_clean(name, tmp_path):
    net = construct(name)
    settle(net)
    check_sanitized(net, draw((1, 3, side(name), side(name) + 3)), tmp_path)
