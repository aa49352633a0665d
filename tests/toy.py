"""Small networks in C, written by hand, as libraries for the tests of what surrounds C."""

import subprocess

import numpy as np

from depthwise.files.cache import hash_bytes
from depthwise.runtime.artifact import Artifact, hash_weights
from depthwise.runtime.library import Library
from depthwise.runtime.manifest import (
    BuildRecord,
    Manifest,
    MemoryRecord,
    NetworkRecord,
    TensorRecord,
)
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c, find_compiler

NATIVE = find_target("native")
SIZE = 6000
HEAD = """#include <math.h>
#include <stddef.h>
size_t net_arena_bytes(void);
size_t net_weights_bytes(void);
size_t net_arena_bytes(void) { return ARENA; }
size_t net_weights_bytes(void) { return 8; }
int net_threads(void), net_inputs(void), net_outputs(void);
int net_input_type(int), net_output_type(int);
size_t net_input_bytes(int), net_output_bytes(int);
int net_threads(void) { return 1; }
int net_inputs(void) { return COUNT; }
int net_outputs(void) { return COUNT; }
int net_input_type(int i) { return i < COUNT ? 4 : 0; }
int net_output_type(int i) { return i < COUNT ? 4 : 0; }
size_t net_input_bytes(int i) { return i < COUNT ? 4 * (i ? SIZE / 2 : SIZE) : 0; }
size_t net_output_bytes(int i) { return net_input_bytes(i); }
"""
TAIL = """
#define ARGUMENTS const void *weights, size_t weights_bytes, IN, OUT, void *arena, size_t bytes
int net_run_checked(ARGUMENTS);
int net_run_checked(ARGUMENTS) {
    return weights_bytes < 8 || bytes < ARENA ? 1 : net_run(weights, in, out, arena);
}
"""
# One input, one output: 40 rounds of x = w0 sin(x) + w1, kept in the arena from round to round.
ONE = """int net_run(const void *weights, const float *in, float *out, void *arena);
int net_run(const void *weights, const float *in, float *out, void *arena) {
    const float *w = weights;
    float *a = arena;
    for (int i = 0; i < SIZE; i++) a[i] = in[i];
    for (int round = 0; round < 40; round++)
        for (int i = 0; i < SIZE; i++) a[i] = w[0] * sinf(a[i]) + w[1];
    for (int i = 0; i < SIZE; i++) out[i] = a[i];
    return 0;
}
"""
# Two inputs, two outputs: their sum and, of the second, half as many, w0 times it.
TWO = """int net_run(const void *weights, const float *const *in, float *const *out, void *arena);
int net_run(const void *weights, const float *const *in, float *const *out, void *arena) {
    const float *w = weights;
    (void)arena;
    for (int i = 0; i < SIZE; i++) out[0][i] = in[0][i] + in[1][i % (SIZE / 2)];
    for (int i = 0; i < SIZE / 2; i++) out[1][i] = w[0] * in[1][i];
    return 0;
}
"""
WEIGHTS = np.array([1.5, 0.25], np.float32)
SHAPE, HALF = (2, 3, 100, 10), (3000,)


def make_library(body=ONE, names=("",), target="native", cc=None):
    chosen, compiler = find_target(target), find_compiler(cc)
    several = "*const *in" in body
    arena = 0 if several else 4 * SIZE
    star = "*const *" if several else "*"
    sizes = {"SIZE": SIZE, "ARENA": f"{arena}u", "COUNT": 2 if several else 1}
    defined = {**sizes, "IN": f"const float {star}in", "OUT": f"float {star}out"}
    head = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    source = head + HEAD + body + TAIL
    shapes = (SHAPE, HALF)[: 2 if several else 1]
    shared = compile_c(source, chosen, cc).read_bytes()
    manifest = Manifest(
        depthwise="1.2.3",
        network=NetworkRecord(
            name="toy",
            inputs=tuple(TensorRecord(name=f"x{i}", shape=s) for i, s in enumerate(shapes)),
            outputs=tuple(
                TensorRecord(name=n, shape=s) for n, s in zip(names, shapes, strict=True)
            ),
            params=2,
        ),
        build=BuildRecord(
            target=chosen.name,
            compiler=compiler.identity,
            flags=compiler.flags(chosen),
            library_sha256=hash_bytes(shared),
        ),
        memory=MemoryRecord(
            arena_bytes=arena, weights_bytes=8, weights_sha256=hash_weights(WEIGHTS)
        ),
    )
    return Library(Artifact(manifest, source, WEIGHTS.view(np.uint8), shared))


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def run(command, folder=None):
    """Return a program's status and all it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
