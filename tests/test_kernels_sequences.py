"""Recurrent layers, resampling and grid sampling in C against the interpreter and PyTorch."""

from itertools import product

import numpy as np
import pytest
import torch
from kernel_cases import Case, check_close, check_equal, check_nan, make_graph, run
from kernel_harness import VECTORS

from depthwise.graph import ops
from depthwise.graph.resampling import (
    cubic_matrix,
    linear_matrix,
    resample,
    smoothing_matrix,
    windows_of,
)

vectors = pytest.mark.parametrize("vector", VECTORS)


def recurrent(function, steps, batch, channels, hidden, outputs=0, reverse=False) -> Case:
    """Return a case with weights inside; `outputs` is what an lstm projects to."""
    op = ops.Recurrent(function, reverse)
    rows, state = op.gates * hidden, outputs or hidden
    shapes = [(steps, batch, channels), (rows, channels), (rows, state), (rows,), (rows,)]
    shapes.append((batch, state))
    shapes += [(batch, hidden)] if function == "lstm" else []
    shapes += [(state, hidden)] if outputs else []
    return Case(op, tuple(shapes), 1)


RECURRENT = (
    recurrent("lstm", 5, 1, 3, 4),
    recurrent("lstm", 3, 3, 5, 17, reverse=True),
    recurrent("lstm", 3, 2, 5, 19, outputs=3),
    recurrent("lstm", 2, 1, 4, 33, outputs=20, reverse=True),
    recurrent("gru", 4, 1, 3, 16),
    recurrent("gru", 3, 3, 5, 21, reverse=True),
    recurrent("gru_reset_first", 4, 2, 3, 18),
    recurrent("rnn_tanh", 4, 1, 3, 5),
    recurrent("rnn_relu", 1, 2, 3, 70),
)
WHOLE = tuple(case for case in RECURRENT if case.op == ops.Recurrent("rnn_relu"))

RESAMPLED = tuple(
    Case(ops.Resample(axis, first, counts), (shape, (sum(counts),)), 1)
    for axis, first, counts, shape in (
        (2, (0, 0, 2, 3), (1, 4, 2, 2), (2, 17, 5, 7)),
        (3, (0, 0, 2, 3, 6), (1, 7, 2, 2, 1), (2, 17, 5, 7)),
        (3, (6, 1), (1, 3), (1, 3, 5, 7)),
        (2, (1,), (3,), (1, 70, 4, 1)),
        (1, (0, 2), (2, 3), (1, 5, 4, 3)),
        (0, (0, 1, 1), (2, 1, 2), (3, 5)),
        (1, (0, 2), (2, 3), (2, 5, 33)),
    )
)

SAMPLED = tuple(
    Case(ops.GridSample(mode, outside, channels % 3 == 0), ((2, channels, 5, 7), (2, 3, wide, 2)))
    for (mode, outside), channels, wide in zip(
        product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")),
        (1, 3, 20, 16, 21, 4, 17, 36, 33), (4, 37, 16, 18, 5, 33, 20, 1, 9), strict=True,
    )
)  # fmt: skip


@vectors
def test_integers_are_exact(vector):
    check_equal(WHOLE + RESAMPLED, vector)


@vectors
def test_random_numbers(vector):
    check_close(RESAMPLED + SAMPLED, vector, 2e-6)
    # the sums before tanh are of up to 70 products as large as 9: their last digits count 4e-6
    check_close(RECURRENT, vector, 2e-5)


@vectors
def test_nan_and_infinity_are_passed_on(vector):
    check_nan(RESAMPLED, vector)
    check_nan(SAMPLED, vector, 2e-6)


def test_places_far_outside_or_none_are_sampled_as_pytorch_does():
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 7)).astype(np.float32)
    places = np.array([0, np.nan, np.inf, -np.inf, 1e30, -1e30, 1, -1], np.float32)
    grid = np.stack(np.meshgrid(places, places), -1)[None]
    cases = [Case(case.op, (x.shape, grid.shape)) for case in SAMPLED]
    arrays = [[x, grid]] * len(cases)
    given = [array for pair in arrays for array in pair]
    fast, naive = (run(make_graph(cases, arrays), given, vector=4, naive=n) for n in (False, True))
    for case, *found in zip(cases, fast, naive, strict=True):
        tensors = (torch.from_numpy(array) for array in (x, grid))
        op = case.op
        wanted = torch.nn.functional.grid_sample(*tensors, op.mode, op.outside, op.align_corners)
        for y in found:
            np.testing.assert_allclose(y, wanted.numpy(), 0, 1e-5, err_msg=str(case))


def test_windows_hold_what_a_matrix_does():
    matrix = np.array([[0, 0, 2, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 1, 2, 3]], np.float32)
    op, weights = windows_of(2, matrix)
    assert op == ops.Resample(2, (2, 0, 0, 1), (1, 1, 3, 3))
    assert weights.tolist() == [2, 0, 1, 0, 3, 1, 2, 3]


def test_what_shrinks_comes_first():
    made = []

    def emit(op, x, weights):  # noqa: ARG001
        made.append((op.axis, len(op.first)))
        return x

    class Image:
        shape = (1, 3, 8, 8)

    matrices = {2: linear_matrix(16, 8, 0.5, False), 3: linear_matrix(4, 8, 2, False)}
    resample(emit, lambda weights: weights, Image(), matrices)  # type: ignore[arg-type]
    assert made == [(3, 4), (2, 16)]


@pytest.mark.parametrize("matrix", [
    cubic_matrix(13, 7, 7 / 13, False), linear_matrix(5, 7, 6 / 4, True),
    smoothing_matrix(3, 10, 10 / 3, True), smoothing_matrix(3, 10, 10 / 3, False),
])  # fmt: skip
def test_weights_of_a_place_sum_to_one(matrix):
    np.testing.assert_allclose(matrix.sum(1), 1, 1e-6)
