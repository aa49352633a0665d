"""What vector.h has in one spelling for each compiler: parts of vectors, lanes moved, maxima."""

from functools import cache

import numpy as np
import pytest
from kernel_harness import VECTORS, compile_by_gcc, compile_kernel, pointer

COMPILERS = {"clang": compile_kernel, "gcc": compile_by_gcc}
UNTOUCHED = -77.25
SIGNATURE = "const float *x, float *y"
FAR = 19  # floats from one run to the next


def runs(vector: int) -> list[tuple[int, int, int]]:
    """Return (runs, width, count): parts of a vector, then runs in its halves and quarters."""
    shared = [(n, vector // n) for n in (1, 2, 4)]
    cases = [(here, width, count) for n, width in shared for here in range(1, n + 1)
             for count in range(1, width + 1)]  # fmt: skip
    return list(dict.fromkeys(cases))


def shuffles(vector: int) -> list[list[int]]:
    """Return lanes to pick, of two vectors."""
    rng = np.random.default_rng(3)
    return [list(range(vector - 1, -1, -1)), *rng.integers(0, 2 * vector, (3, vector)).tolist()]


def program(vector: int) -> str:
    """Return C with a function for each thing that is done."""
    bodies = {
        f"load_{n}_{width}_{count}": f"store(y, load_runs(x, {FAR}, {n}, {width}, {count}))"
        for n, width, count in runs(vector)
    }
    bodies |= {
        f"store_{n}_{width}_{count}": f"store_runs(y, load(x), {FAR}, {n}, {width}, {count})"
        for n, width, count in runs(vector)
    }
    for count in range(1, vector + 1):
        bodies[f"part_{count}"] = f"store_part(y, load_part(x, {count}) + splat(1), {count})"
    for n in (n for n in (1, 2, 4, 8, 16) if n <= vector):
        bodies[f"repeat_{n}"] = f"store(y, repeat(x, {n}))"
    for number, lanes in enumerate(shuffles(vector)):
        picked = f"(const int[]){{{', '.join(map(str, lanes))}}}"
        bodies[f"pick_{number}"] = f"store(y, pick(load(x), load(x + VL), {picked}))"
    for name in ("vmax", "vmin"):
        bodies[name] = f"store(y, {name}(load(x), load(x + VL)))"
    bodies["clamp"] = "store(y, vclamp(load(x), -1, 2))"
    functions = [f"void do_{name}({SIGNATURE});\nvoid do_{name}({SIGNATURE}) {{ {body}; }}"
                 for name, body in bodies.items()]  # fmt: skip
    return "\n".join(['#include "activation.h"', *functions, ""])


@cache
def library(compiler: str, vector: int):
    return COMPILERS[compiler](program(vector), vector=vector)


def run(compiler: str, vector: int, name: str, x: np.ndarray) -> np.ndarray:
    """Return what a function writes, UNTOUCHED where it does not."""
    y = np.full(4 * FAR + 32, UNTOUCHED, np.float32)
    getattr(library(compiler, vector), f"do_{name}")(pointer(x), pointer(y, 16))
    assert (y[:16] == UNTOUCHED).all(), "written before the place"
    return y[16:]


X = np.arange(1, 4 * FAR + 33, dtype=np.float32)

each = pytest.mark.parametrize("compiler", COMPILERS)
every = pytest.mark.parametrize("vector", VECTORS)


@each
@every
def test_runs_are_loaded_and_stored(compiler, vector):
    for n, width, count in runs(vector):
        filled = np.zeros(vector, np.float32)
        stored = np.full(4 * FAR + 16, UNTOUCHED, np.float32)
        for i in range(n):
            filled[i * width : i * width + count] = X[i * FAR : i * FAR + count]
            stored[i * FAR : i * FAR + count] = X[i * width : i * width + count]
        case = f"{n}_{width}_{count}"
        found = run(compiler, vector, f"load_{case}", X)
        assert np.array_equal(found[:vector], filled), case
        assert np.array_equal(run(compiler, vector, f"store_{case}", X), stored), case


@each
@every
def test_parts_are_loaded_and_stored(compiler, vector):
    for count in range(1, vector + 1):
        found = run(compiler, vector, f"part_{count}", X)
        assert np.array_equal(found[:count], X[:count] + 1)
        assert (found[count:] == UNTOUCHED).all()


@each
@every
def test_lanes_are_repeated_and_picked(compiler, vector):
    for n in (n for n in (1, 2, 4, 8, 16) if n <= vector):
        found = run(compiler, vector, f"repeat_{n}", X)[:vector]
        assert np.array_equal(found, np.resize(X[:n], vector))
    for number, lanes in enumerate(shuffles(vector)):
        assert np.array_equal(run(compiler, vector, f"pick_{number}", X)[:vector], X[lanes])


@each
@every
def test_a_nan_of_either_side_is_passed_on(compiler, vector):
    special = [np.nan, -np.inf, np.inf, -1.0, 0.0, 2.5]
    pairs = np.array([(a, b) for a in special for b in special], np.float32)
    pairs = np.resize(pairs, (-(-len(pairs) // vector) * vector, 2))
    for some in pairs.reshape(-1, vector, 2):
        a, b = some.T
        x = np.concatenate([a, b])
        for name, expected in (("vmax", np.maximum(a, b)), ("vmin", np.minimum(a, b))):
            found = run(compiler, vector, name, x)[:vector]
            assert np.array_equal(found, expected, equal_nan=True), name
        clamped = run(compiler, vector, "clamp", x)[:vector]
        assert np.array_equal(clamped, np.clip(a, -1, 2), equal_nan=True)
