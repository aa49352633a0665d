"""Places of extremes, sorting, running totals and unpooling in C against the interpreter.

Small whole numbers have many equal ones, of which the first must be taken.
"""

from functools import cache

import numpy as np
import pytest
from kernel_cases import Case, build, make_graph
from kernel_harness import VECTORS, check_gcc

from depthwise.compiler.fused_ops import FloatPlaces
from depthwise.compiler.kernels import KERNELS
from depthwise.graph import ops
from depthwise.graph.interpret import evaluate
from depthwise.graph.ops import Padding

X = (2, 21, 5, 7)
FLAT = Padding(0, 0, 0, 0)


def extreme(function, axis, keep, shape) -> Case:
    return Case(FloatPlaces(ops.ArgReduce(function, axis, keep)), (shape,))


def top(axis, count, largest, result, shape) -> Case:
    return Case(FloatPlaces(ops.TopK(axis, count, largest, result)), (shape,))


CASES = (
    extreme("max", 1, False, X), extreme("min", 1, True, (1, 35, 3, 5)),
    extreme("max", 3, False, X), extreme("min", 0, False, X), extreme("max", 2, True, X),
    extreme("max", 1, False, (3, 200)), extreme("min", 0, False, (1,)),
    extreme("min", 2, False, (2, 3, 4, 3, 2)),
    top(1, 21, True, "indices", X), top(1, 3, False, "values", X), top(3, 7, False, "values", X),
    top(2, 2, True, "indices", X), top(0, 200, False, "indices", (200,)),
    top(0, 9, True, "indices", (200,)), top(1, 1, True, "values", (5, 1)),
    *(Case(ops.Cumulate(function, axis), (shape,))  # type: ignore[arg-type]
      for function, axis, shape in (
          ("sum", 1, X), ("sum", 3, X), ("product", 0, X), ("max", 1, (3, 40)), ("min", 2, X),
          ("max", 1, (1, 3, 4, 3, 2)),
      )),
    Case(FloatPlaces(ops.MaxPoolIndices((3, 2), (2, 1), Padding(1, 1, 1, 1), (1, 2), True)), (X,)),
    Case(FloatPlaces(ops.MaxPoolIndices((2, 2), (2, 2), FLAT, (1, 1), False)), ((3, 8, 6),)),
    Case(FloatPlaces(ops.MaxUnpool2d((4, 5))), ((2, 19, 3, 2), (2, 19, 3, 2))),
    Case(FloatPlaces(ops.MaxUnpool2d((2, 3))), ((4, 3, 2), (4, 3, 2))),
    Case(FloatPlaces(ops.TakeAlong(1)), ((2, 19, 3, 4), (2, 5, 3, 3))),
    Case(FloatPlaces(ops.TakeAlong(0)), ((20,), (7,))),
)  # fmt: skip


def whole_numbers(random: np.random.Generator) -> list[list[np.ndarray]]:
    """Return few different numbers, and places: some from the end, none outside."""
    arrays = []
    for case in CASES:
        x = random.integers(-3, 4, case.inputs[0]).astype(np.float32)
        op = case.op.op if isinstance(case.op, FloatPlaces) else case.op
        low = high = 0
        match op:
            case ops.MaxUnpool2d((height, width)):
                high = height * width
            case ops.TakeAlong(axis):
                low, high = -x.shape[axis], x.shape[axis]
        places = [random.integers(low, high, shape) for shape in case.inputs[1:]]
        arrays.append([x, *(p.astype(np.float32) for p in places)])
    return arrays


@cache
def net(vector: int, naive: bool):
    arrays = whole_numbers(np.random.default_rng(0))
    return build(make_graph(CASES, arrays), vector=vector, naive=naive)


@pytest.mark.parametrize("numbers", ["whole", "nan", "infinite"])
@pytest.mark.parametrize("vector", VECTORS)
def test_selections_are_exact(vector, numbers):
    random = np.random.default_rng(1)
    arrays = whole_numbers(random)
    for x, *_ in arrays:
        if numbers == "nan":
            x[random.random(x.shape) < 0.1] = np.nan
            x[random.random(x.shape) < 0.05] = random.choice([-np.inf, np.inf])
        elif numbers == "infinite":
            x[...] = -np.inf
    with np.errstate(all="ignore"):
        expected = [evaluate(case.op, *values) for case, values in zip(CASES, arrays, strict=True)]
    given = [x for values in arrays for x in values]
    for naive in (True, False):
        for case, y, wanted in zip(CASES, net(vector, naive)(given), expected, strict=True):
            np.testing.assert_array_equal(y, wanted.astype(np.float32), f"{case}, naive={naive}")


@pytest.mark.parametrize("vector", VECTORS)
def test_places_outside_write_and_read_nothing(vector):
    """What PyTorch refuses is left out of planes, and NaN where it is read."""
    outside = np.float32([[[-1, 6], [np.nan, 1e9]]])
    line = np.float32([7, -9, 2, np.nan, np.inf])
    cases = (
        Case(FloatPlaces(ops.MaxUnpool2d((2, 3))), (outside.shape, outside.shape)),
        Case(FloatPlaces(ops.TakeAlong(0)), ((7,), line.shape)),
    )
    x, long = np.ones_like(outside), np.arange(7, dtype=np.float32)
    given = [x, outside, long, line]
    for naive in (True, False):
        run = build(make_graph(cases, [given[:2], given[2:]]), vector=vector, naive=naive)
        plane, read = run(given)
        np.testing.assert_array_equal(plane, np.zeros((1, 2, 3)))
        np.testing.assert_array_equal(read, [np.nan, np.nan, 2, np.nan, np.nan])


def test_totals_are_kept_in_double_precision():
    x = np.full((1, 5000), 0.1, np.float32)
    run = build(
        make_graph([Case(ops.Cumulate("sum", 1), (x.shape,))], [[x]]), vector=4, naive=False
    )
    (y,) = run([x])
    np.testing.assert_array_equal(y, np.cumsum(x, 1, np.float64).astype(np.float32))


@pytest.mark.parametrize("vector", VECTORS)
def test_gcc_has_nothing_to_say(vector):
    headers = {row.header for row in KERNELS.values() if row.header in ("selection", "unpool")}
    check_gcc("".join(f'#include "{name}.h"\n' for name in sorted(headers)), vector=vector)
