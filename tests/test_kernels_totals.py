"""The totals of rows that f32_depthwise leaves, against its naive twin and the interpreter."""

from functools import cache

import numpy as np
import pytest
from kernel_harness import VECTORS, at_page_end, check_gcc, compile_kernel, pointer, share
from test_kernels_conv import (
    DEPTHWISE,
    UNTOUCHED,
    Case,
    Data,
    call_guarded,
    depthwise_call,
    draw,
    lay_out,
)

from depthwise.compiler.lowering.packing import pack_bias, pack_depthwise

SIGNATURE = (
    "const float *in, const float *w, const float *b, const float *sum, float *t, float *out"
)


# those whose totals take a way of their own: images and gaps, each share of a vector, a strip, more
# channels than are done at once, taps by loops; a total is indifferent to how its pixels came about
FAST = (
    "1 channel", "3x3 odd", "3x3 eights", "3x3 stride 2 below", "3x3 in strips",
    "3x3 two tiles a vector", "3x3 four tiles a vector", "3x3 half and quarter vectors",
    "7x7 global", "3x3 dilated",
)  # fmt: skip
CASES = {name: DEPTHWISE[name] for name in FAST}
NAMES = [pytest.param(n, marks=() if n in CASES else pytest.mark.slow) for n in DEPTHWISE]


def strides(case: Case) -> tuple[int, int]:
    """Return the floats from one image and row of totals to the next; images have a gap."""
    row = case.outs + case.gaps[1]
    return case.size[0] * row + 3, row


def program(cases: dict[str, Case]) -> str:
    """Return C with one function a case."""
    lines = [f'#include "{header}"' for header in ("vector.h", "activation.h", "depthwise.h")]
    for name, case in cases.items():
        number = list(DEPTHWISE).index(name)
        body = depthwise_call(case, "t", strides(case))
        lines.append(f"void case_{number}({SIGNATURE});")
        lines.append(f"void case_{number}({SIGNATURE}) {{\n{body}\n}}")
    return "\n".join(lines) + "\n"


@cache
def library(vector: int, naive: bool, slow: bool):
    return compile_kernel(program(DEPTHWISE if slow else CASES), vector=vector, naive=naive)


def run(name: str, data: Data, vector: int, naive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the output and the totals (N, C, H), written nowhere but in their places."""
    case = DEPTHWISE[name]
    function = getattr(
        library(vector, naive, name not in CASES), f"case_{list(DEPTHWISE).index(name)}"
    )
    w = at_page_end(pack_depthwise(data.weight, vector))
    b = at_page_end(pack_bias(data.bias, 1, vector))
    shape = (case.images, case.outs, case.size[0], 1)
    image, row = strides(case)
    empty = lay_out(np.full(shape, UNTOUCHED, np.float32), (image, row, row), UNTOUCHED)
    totals = at_page_end(np.concatenate([np.full(32, UNTOUCHED, np.float32), empty]))
    out = call_guarded(
        case, data,
        lambda x, added, y: function(x, pointer(w), pointer(b), added, pointer(totals, 32), y),
    )  # fmt: skip
    view = np.lib.stride_tricks.as_strided(
        totals[32:], (case.images, case.size[0], case.outs), (4 * image, 4 * row, 4)
    )
    result = view.transpose(0, 2, 1).copy()
    view[...] = UNTOUCHED
    assert (totals == UNTOUCHED).all(), "written outside of the totals"
    return out, result


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_integers_are_exact(name: str, vector: int):
    rng = np.random.default_rng(1)
    data = draw(DEPTHWISE[name], lambda shape: rng.integers(-4, 5, shape))
    expected = data.expected(DEPTHWISE[name])
    for naive in (True, False):
        out, totals = run(name, data, vector, naive)
        assert np.array_equal(out, expected)
        assert np.array_equal(totals, expected.sum(3))


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_totals_are_those_of_what_is_stored(name: str, vector: int):
    """n roundings of a sum of n pixels: at most n · eps · the sum of the absolute values."""
    case = DEPTHWISE[name]
    data = draw(case, np.random.default_rng(2).standard_normal)
    out, totals = run(name, data, vector, naive=False)
    pixels = out.astype(np.float64)
    bound = case.size[1] * np.finfo(np.float32).eps * np.abs(pixels).sum(3)
    assert (np.abs(totals - pixels.sum(3)) <= bound).all()


@pytest.mark.parametrize("vector", VECTORS)
def test_gcc_has_nothing_to_say(vector: int):
    check_gcc(program(share(CASES, vector)), vector=vector)


@pytest.mark.slow
@pytest.mark.parametrize("vector", VECTORS)
def test_gcc_has_nothing_to_say_of_any_case(vector: int):
    check_gcc(program(DEPTHWISE), vector=vector)
