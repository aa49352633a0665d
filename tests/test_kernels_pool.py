"""Pooling in C against the interpreter: every rule of padding, every tail of channels."""

import pytest
from kernel_cases import Case, check_close, check_equal, check_nan
from kernel_harness import VECTORS

from depthwise.graph import ops
from depthwise.graph.ops import Padding

NONE, ONE = Padding(0, 0, 0, 0), Padding(1, 1, 1, 1)

MAX = tuple(
    Case(ops.MaxPool2d(kernel, stride, padding, dilation, ceil), (shape,))
    for kernel, stride, padding, dilation, ceil, shape in (
        ((3, 3), (2, 2), ONE, (1, 1), False, (1, 64, 13, 11)),
        ((3, 3), (2, 2), NONE, (1, 1), True, (2, 1, 8, 9)),
        ((2, 2), (2, 2), NONE, (1, 1), False, (1, 3, 7, 5)),
        ((3, 2), (1, 2), Padding(1, 1, 1, 1), (2, 3), False, (1, 17, 9, 12)),
        ((5, 5), (3, 1), Padding(2, 2, 2, 2), (1, 1), True, (1, 15, 6, 5)),
        ((2, 2), (2, 2), Padding(0, 1, 1, 0), (1, 1), True, (1, 16, 6, 7)),
        ((2, 1), (1, 1), Padding(1, 1, 0, 0), (3, 1), False, (1, 5, 2, 4)),  # windows of padding
        ((1, 1), (1, 1), NONE, (1, 1), False, (1, 7, 1, 1)),
        ((3, 3), (1, 1), ONE, (1, 1), False, (2, 79, 1, 3)),
        ((3, 3), (1, 1), ONE, (1, 1), False, (2, 79, 4, 18)),  # two tiles of windows and a rest
        ((3, 3), (2, 2), NONE, (1, 1), True, (1, 17, 7, 20)),
    )
)

AVERAGE = tuple(
    Case(ops.AvgPool2d(kernel, stride, padding, ceil, counted, divisor), (shape,))
    for kernel, stride, padding, ceil, counted, divisor, shape in (
        ((2, 2), (2, 2), NONE, False, True, None, (1, 64, 8, 6)),
        ((3, 3), (1, 1), ONE, False, True, None, (1, 33, 5, 7)),
        ((3, 3), (1, 1), ONE, False, False, None, (2, 3, 5, 7)),
        ((3, 3), (2, 2), ONE, True, True, None, (1, 17, 6, 8)),
        ((3, 3), (2, 2), ONE, True, False, None, (1, 15, 6, 8)),
        ((3, 2), (2, 3), Padding(1, 1, 0, 0), True, True, 7, (1, 1, 9, 8)),
        ((4, 4), (4, 4), Padding(2, 1, 0, 2), True, True, None, (1, 16, 11, 13)),
        ((4, 4), (4, 4), Padding(2, 1, 0, 2), True, False, None, (1, 16, 11, 13)),
        ((5, 1), (1, 1), Padding(2, 2, 0, 0), False, True, None, (1, 1, 12, 20)),
        ((3, 3), (1, 1), ONE, False, False, None, (1, 49, 4, 18)),
        ((2, 3), (2, 1), Padding(0, 1, 2, 0), False, True, 5, (2, 18, 5, 9)),
    )
)

ADAPTIVE = tuple(
    Case(ops.AdaptivePool2d(function, size), (shape,))
    for function in ("mean", "max")
    for size, shape in (
        ((1, 1), (1, 100, 7, 7)),
        ((1, 1), (2, 3, 5, 1)),
        ((1, 1), (2, 19, 3, 4)),
        ((7, 7), (1, 17, 5, 3)),
        ((2, 3), (1, 64, 7, 11)),
        ((3, 1), (5, 8, 9)),
    )
)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [MAX, AVERAGE, ADAPTIVE], ids=["max", "average", "adaptive"])
def test_pooling_is_exact_on_integers(cases, vector):
    check_equal(cases, vector)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [MAX, AVERAGE, ADAPTIVE], ids=["max", "average", "adaptive"])
def test_pooling_passes_nan_on(cases, vector):
    check_nan(cases, vector)


@pytest.mark.parametrize("vector", VECTORS)
def test_averages_are_close(vector):
    check_close(AVERAGE + ADAPTIVE, vector, bound=3e-7)
