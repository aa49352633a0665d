"""Normalisation, reductions and softmax in C against the interpreter."""

import numpy as np
import pytest
from kernel_cases import Case, check_close, check_equal, check_nan, make_graph, run
from kernel_harness import VECTORS

from depthwise.graph import ops
from depthwise.graph.interpret import evaluate

REDUCE = tuple(
    Case(ops.Reduce(function, axes, keep), (shape,))  # type: ignore[arg-type]
    for function, axes, keep, shape in (
        ("sum", (2, 3), True, (2, 35, 5, 7)),
        ("max", (2, 3), False, (2, 35, 5, 7)),
        ("min", (1,), True, (2, 35, 5, 7)),
        ("max", (1,), False, (1, 3, 5, 7)),
        ("sum", (3,), False, (2, 17, 5, 7)),
        ("sum", (0, 1, 2, 3), False, (2, 17, 5, 7)),
        ("sum", (0, 1, 2, 3), True, (1, 1, 1, 1)),
        ("max", (1,), False, (5, 37)),
        ("min", (0,), False, (5, 37)),
        ("sum", (1, 3), False, (2, 3, 4, 5, 3)),
        ("sum", (1, 3, 5), True, (2, 3, 2, 3, 2, 3)),
        ("sum", (0,), False, (2500,)),
        ("product", (1,), False, (2, 5, 4, 3)),
        ("product", (3,), False, (2, 17, 3, 7)),
    )
)

MEAN = tuple(
    Case(ops.Reduce("mean", axes, keep), (shape,))
    for axes, keep, shape in (
        ((2, 3), True, (1, 100, 7, 7)),
        ((2, 3), False, (2, 3, 31, 29)),
        ((1,), True, (2, 20, 3, 5)),
        ((1,), False, (3, 2500)),
    )
)

SOFTMAX = tuple(
    Case(ops.Softmax(axis), (shape,))
    for axis, shape in (
        (1, (2, 1000)), (1, (3, 1)), (1, (2, 21, 5, 3)), (3, (1, 19, 4, 5)), (2, (1, 3, 4, 5)),
        (1, (2, 7, 35)), (0, (5,)), (2, (2, 2, 3, 2, 5)),
    )
)  # fmt: skip

NORM = (
    *(Case(ops.GroupNorm(groups, 1e-5), (shape, *((shape[1],),) * parameters), 1)
      for groups, shape, parameters in (
          (1, (2, 12, 5, 3), 2), (12, (2, 12, 5, 3), 0), (35, (1, 35, 3, 7), 2),
          (4, (2, 12, 5, 3), 2), (3, (1, 99, 3, 4), 2), (2, (3, 6), 2), (2, (2, 6, 7), 2),
          (3, (1, 6, 2, 3, 4), 1),
      )),
    *(Case(ops.LayerNorm(axes, 1e-6), (shape, *(shape[-axes:],) * parameters), 1)
      for axes, shape, parameters in (
          (1, (3, 37), 2), (1, (2, 5, 64), 2), (1, (2, 5, 6, 19), 2), (3, (2, 35, 4, 5), 2),
          (2, (2, 7, 5), 0), (2, (1, 3, 4, 5), 1), (4, (2, 3, 4, 5), 2),
      )),
)  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS)
def test_reductions_are_exact_on_integers(vector):
    check_equal(REDUCE, vector)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [REDUCE, MEAN, SOFTMAX, NORM],
                         ids=["reduce", "mean", "softmax", "norm"])  # fmt: skip
def test_reductions_pass_nan_on(cases, vector):
    check_nan(cases, vector, bound=1e-4)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [MEAN, SOFTMAX, NORM], ids=["mean", "softmax", "norm"])
def test_sums_are_close(cases, vector):
    check_close(cases, vector, bound=3e-6)


@pytest.mark.parametrize("vector", VECTORS)
def test_softmax_of_large_numbers_is_finite(vector):
    x = np.array([[1e4, 1e4 - 1, -1e4, 9999.5, 0]], np.float32)
    graph = make_graph([Case(ops.Softmax(1), ((1, 5),))], [[x]])
    (y,) = run(graph, [x], vector=vector, naive=False)
    powers = np.exp(x.astype(float) - 1e4)
    np.testing.assert_allclose(y, powers / powers.sum(), rtol=5e-7)


@pytest.mark.parametrize("vector", VECTORS)
def test_variance_far_from_zero_keeps_its_digits(vector):
    draw = np.random.default_rng(0)
    x = (1000 + draw.standard_normal((1, 8, 40, 40))).astype(np.float32)
    graph = make_graph([Case(ops.GroupNorm(2, 1e-5), (x.shape,))], [[x]])
    (y,) = run(graph, [x], vector=vector, naive=False)
    grouped = x.astype(float).reshape(2, -1)
    expected = (grouped - grouped.mean(1, keepdims=True)) / grouped.std(1, keepdims=True)
    assert np.abs(y - expected.reshape(x.shape)).max() < 3e-4  # one digit of a 1000 is 6e-5


def batch_norm(shape: tuple[int, ...]) -> tuple[Case, list[np.ndarray]]:
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal(shape), *draw.standard_normal((3, shape[1]))]
    arrays = [a.astype(np.float32) for a in (*arrays, draw.uniform(0.5, 2, shape[1]))]
    return Case(ops.BatchNorm(1e-5), tuple(a.shape for a in arrays), 1), arrays


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize("vector", VECTORS)
def test_batch_norm_is_close(vector, naive):
    shapes = ((2, 35, 3, 5), (1, 3, 4, 4), (1, 1, 2, 3), (4, 17), (2, 5, 33), (1, 16, 1, 1))
    cases, arrays = zip(*(batch_norm(shape) for shape in shapes), strict=True)
    found = run(make_graph(cases, list(arrays)), [a[0] for a in arrays], vector=vector, naive=naive)
    for case, values, y in zip(cases, arrays, found, strict=True):
        expected = evaluate(case.op, *values)
        error = np.abs(y - expected).max() / np.abs(expected).max()
        assert error < 5e-7, f"{case}: {error}"
