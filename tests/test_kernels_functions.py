"""Further functions of elements in C, held to float64 over the whole range of floats."""

import ctypes
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_cases import Case, check_equal
from kernel_harness import VECTORS, check_gcc, compile_kernel, pointer

from depthwise.graph import ops
from depthwise.graph.interpret_functions import FUNCTIONS

INCLUDE = '#include "vector.h"\n#include "activation.h"\n#include "functions.h"\n'
INCLUDE += '#include "binary_functions.h"\n'
BINARY = ("power", "remainder", "fmod", "floor_divide", "arctan2", "hypot")
PARAMETERS = {"threshold": (0.5, -3.0), "hard_shrink": (0.75,)}
HALF = 0.5 + 1e-6  # of a unit in the last place: rounded once, after double


def source() -> str:
    """Return C with two loops for each function: an element, and a vector at a time."""
    each = "for (int i = 0; i < count; i"
    lines = [INCLUDE]
    for name in FUNCTIONS:
        a, b = (*PARAMETERS.get(name, ()), 0.0, 0.0)[:2]
        f = f"(struct act){{ACT_{name.upper()}, {a!r}f, {b!r}f}}"
        given = "(int count, const float *x, float *y)"
        many = f"store(y + i, vfunction({f}, load(x + i)));"
        lines += [
            f"void one_{name}{given} {{ {each}++) y[i] = function({f}, x[i]); }}",
            f"void many_{name}{given} {{ {each} += VL) {many} }}",
        ]
    given = "(int count, const float *a, const float *b, float *y)"
    for name in BINARY:
        f = f"FUNCTION_{name.upper()}"
        many = f"store(y + i, vbinary_function({f}, load(a + i), load(b + i)));"
        lines += [
            f"void one_{name}{given} {{ {each}++) y[i] = binary_function({f}, a[i], b[i]); }}",
            f"void many_{name}{given} {{ {each} += VL) {many} }}",
        ]
    return "\n".join(lines)


def numbers() -> np.ndarray:
    """Return floats of every size and sign, near zero, near whole numbers and multiples of pi."""
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 4096, dtype=np.uint32).view(np.float32)
    bits = bits[np.isfinite(bits)]
    parts = [draw.uniform(-s, s, 512) for s in (1e-6, 0.01, 1, 4, 20, 90, 1e4, 1e7)]
    k = np.arange(-64, 64)
    ends = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-42, -1e-42, 3.4e38, -3.4e38, 1e30,
            0.5, 1.5, 2.5, -0.5, -1.5, 8388607.5, 16777215.0, 2147483648.0]  # fmt: skip
    x = np.concatenate([bits, *parts, k / 2, k * math.pi / 2, 2.0**k, 10.0 ** (k / 2), ends])
    return np.resize(x.astype(np.float32), 16 * (x.size // 16 + 1))


def units(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return how far floats are from the right numbers, in units in the last place of those."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
        spacing = np.maximum(np.abs(np.spacing(rounded)).astype(float), 2.0**-149)
        off = np.abs(found - expected) / np.where(np.isfinite(spacing), spacing, 2.0**104)
    off = np.where(np.isfinite(off), off, np.inf)
    off[(found == rounded) | (np.isnan(found) & np.isnan(expected))] = 0
    off[(found == 0) & (rounded == 0) & (np.signbit(found) != np.signbit(rounded))] = np.inf
    return off


def worst(
    library: ctypes.CDLL, name: str, expected: np.ndarray, *operands: np.ndarray
) -> list[str]:
    """Return a line for each loop in which a function is off by more than its one rounding."""
    lines = []
    for loop in ("one", "many"):
        found = np.empty_like(operands[0])
        library[f"{loop}_{name}"](found.size, *map(pointer, (*operands, found)))
        off = units(found, expected)
        at = off.argmax()
        given = ", ".join(repr(x[at]) for x in operands)
        if off[at] > HALF:
            lines.append(
                f"{loop} {name}({given}) = {found[at]!r}, not {expected[at]!r}: {off[at]:.3g}"
            )
    return lines


@pytest.mark.parametrize("vector", VECTORS)
def test_functions_are_rounded_once_over_the_whole_range(vector):
    library, x = compile_kernel(source(), vector=vector, naive=False), numbers()
    wrong = []
    for name, function in FUNCTIONS.items():
        with np.errstate(all="ignore"):
            expected = function(x.astype(float), *PARAMETERS.get(name, ()))
        wrong += worst(library, name, expected, x)
    assert not wrong


@pytest.mark.parametrize("vector", VECTORS)
def test_functions_of_two_are_rounded_once_over_the_whole_range(vector):
    library, x = compile_kernel(source(), vector=vector, naive=False), numbers()
    draw = np.random.default_rng(1)
    a, b = (np.concatenate([draw.permutation(x), some])
            for some in (draw.uniform(-9, 9, 4096).astype(np.float32),
                         draw.integers(-9, 10, 4096).astype(np.float32)))  # fmt: skip
    wrong = []
    for name in BINARY:
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(a.astype(float), b.astype(float))
            if name == "remainder":  # a zero has the sign of a in PyTorch, that of b in NumPy
                expected = np.where(expected == 0, np.copysign(0, a), expected)
        wrong += worst(library, name, expected, a, b)
    assert not wrong


def test_functions_are_those_of_pytorch_for_nan_infinities_and_zeros():
    ends = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -3.7, 1e30, -1e-30]
    x = torch.tensor(ends, dtype=torch.float64)
    pytorch = {"threshold": F.threshold, "hard_shrink": F.hardshrink, "power": torch.pow}
    with np.errstate(all="ignore"):
        for name, function in FUNCTIONS.items():
            parameters = PARAMETERS.get(name, ())
            expected = (pytorch.get(name) or getattr(torch, name))(x, *parameters).numpy()
            found = function(x.numpy(), *parameters)
            np.testing.assert_allclose(found, expected, 1e-14, 1e-16, err_msg=name)
        a, b = torch.meshgrid(x, x, indexing="ij")
        for name in BINARY:
            expected = (pytorch.get(name) or getattr(torch, name))(a, b).numpy()
            found = getattr(np, name)(a.numpy(), b.numpy())
            np.testing.assert_allclose(found, expected, 1e-14, err_msg=name)


SHAPES = ((1, 1, 1, 1), (1, 7, 3, 5), (2, 16, 3, 3), (5,), (3, 17), (2, 3, 2, 2, 3, 5))
PAIRS = (
    ((1, 33, 5, 7), (1, 33, 5, 7)), ((2, 40, 5, 3), (2, 40, 1, 1)), ((2, 1, 5, 3), (2, 17, 5, 3)),
    ((1, 7, 1, 5), (1, 1, 6, 1)), ((1, 19, 4, 5), ()), ((), (1, 19, 4, 5)), ((3, 17), (3, 1)),
    ((2, 3, 2, 2, 3, 5), (2, 1, 2, 1, 3, 1)), ((1,), (1,)),
)  # fmt: skip
LAID = (
    *(Case(ops.Activation("threshold", (2.0, -5.0)), (shape,)) for shape in SHAPES),
    *(Case(ops.Binary("hypot"), shapes) for shapes in PAIRS),
)


@pytest.mark.parametrize("vector", VECTORS)
def test_functions_reach_every_element(vector):
    check_equal(LAID, vector)


@pytest.mark.parametrize("vector", VECTORS)
def test_functions_compile_with_gcc_without_a_warning(vector):
    check_gcc(f"{INCLUDE}int nothing;\n", vector=vector)
