"""A plan as a program of its own: it runs the network on inputs of a file, and writes the outputs.

Each buffer is as long as net.c says and ends where its allocation does; tensors start at addresses
that only a float may have. Sanitizers look over it, and emulators run it.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.plan import Plan
from depthwise.runtime.library import ALIGNMENT

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

/* weights, inputs, where outputs go, how many times the inputs come */
int main(int argc, char **argv) {
    if (argc != 5) return 2;
    void *weights = aligned(net_weights_bytes()), *arena = aligned(net_arena_bytes());
    FILE *file = fopen(argv[1], "rb"), *given = fopen(argv[2], "rb"), *found = fopen(argv[3], "wb");
    read_file(file, weights, net_weights_bytes());
    float *in[INPUTS], *out[OUTPUTS];
    for (int i = 0; i < INPUTS; i++) in[i] = tensor(in_floats[i]);
    for (int i = 0; i < OUTPUTS; i++) out[i] = tensor(out_floats[i]);
    memset(arena, 0xFF, net_arena_bytes());
    for (int left = atoi(argv[4]); left > 0; left--) {
        for (int i = 0; i < INPUTS; i++) read_file(given, in[i], in_floats[i] * sizeof(float));
        if (net_run(weights, IN, OUT, arena)) return 3;
        for (int i = 0; i < OUTPUTS; i++) fwrite(out[i], sizeof(float), out_floats[i], found);
    }
    return fclose(found);
}
"""


class NetProgram:
    """The program of a plan, built in a folder of its own by a compiler's command."""

    def __init__(self, plan: Plan, folder: Path, compiler: Sequence[str], runner: str = ""):
        graph = plan.graph
        ins = [type_.size for type_ in graph.inputs.values()]
        self._outs = [graph.type(output.value).size for output in graph.outputs]
        self._folder, self._runner = folder, [runner] if runner else []
        (folder / "net.c").write_text(emit(plan))
        (folder / "main.c").write_text(MAIN)
        plan.weights.tofile(folder / "weights")
        sizes = (
            "-D_POSIX_C_SOURCE=200112L", f"-DALIGNMENT={ALIGNMENT}",
            f"-DINPUTS={len(ins)}", f"-DOUTPUTS={len(self._outs)}",
            f"-DIN_FLOATS={','.join(map(str, ins))}",
            f"-DOUT_FLOATS={','.join(map(str, self._outs))}",
            "-DIN=(const float *const *)in" if len(ins) > 1 else "-DIN=in[0]",
            "-DOUT=out" if len(self._outs) > 1 else "-DOUT=out[0]",
        )  # fmt: skip
        self._call(*compiler, *sizes, "main.c", "-lm", "-o", "main")

    def __call__(self, inputs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Return the outputs of each of several sets of inputs, flat."""
        folder = self._folder
        with (folder / "input").open("wb") as file:
            file.writelines(np.ascontiguousarray(x).tobytes() for given in inputs for x in given)
        self._call(*self._runner, "./main", "weights", "input", "output", str(len(inputs)))
        rows = np.fromfile(folder / "output", np.float32).reshape(len(inputs), -1)
        return [np.split(row, np.cumsum(self._outs)[:-1]) for row in rows]

    def _call(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self._folder, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.returncode, done.stderr[:4000])
        assert not done.stderr, done.stderr[:4000]
