"""Resizing of one axis as a matrix (size, length), what each place takes of the old ones; places.

Such a matrix is all zeros but for a few neighbours, so that it is kept as windows of them.
"""

from collections.abc import Callable, Mapping

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value

Array = np.ndarray


def resample(
    emit: Callable[..., Value], literal: Callable[[Array], Value], x: Value,
    matrices: Mapping[int, Array],
) -> Value:  # fmt: skip
    """Return x with axes resized by a matrix each; what shrinks most comes first."""
    for axis in sorted(matrices, key=lambda axis: (len(matrices[axis]) / x.shape[axis], -axis)):
        op, weights = windows_of(axis, matrices[axis])
        x = emit(op, x, literal(weights))
    return x


def windows_of(axis: int, matrix: Array) -> tuple[ops.Resample, Array]:
    """Return the operator of a matrix, and its weights; a row of zeros keeps one of them."""
    taken = matrix != 0
    first = np.where(taken.any(1), taken.argmax(1), 0)
    last = np.where(taken.any(1), matrix.shape[1] - 1 - taken[:, ::-1].argmax(1), 0)
    weights = [row[a : z + 1] for row, a, z in zip(matrix, first, last, strict=True)]
    op = ops.Resample(axis, tuple(first.tolist()), tuple((last - first + 1).tolist()))
    return op, np.concatenate(weights)


def cubic_matrix(size: int, length: int, step: float, align_corners: bool) -> Array:
    """Return PyTorch's bicubic weights: Keys' with a = -0.75, the axis going on as it ends."""
    i = np.arange(size, dtype=np.float32)
    at = i * np.float32(step) if align_corners else (i + 0.5) * np.float32(step) - np.float32(0.5)
    low = np.floor(at)
    return _added(low, np.stack(cubic_weights(at - low), 1), length)


def linear_matrix(size: int, length: int, step: float, align_corners: bool) -> Array:
    """Return PyTorch's linear weights, of places held inside."""
    i = np.arange(size, dtype=np.float32)
    at = i * np.float32(step) if align_corners else (i + 0.5) * np.float32(step) - np.float32(0.5)
    at = at.clip(0, None)
    low = np.floor(at).clip(None, length - 1)
    return _added(low + 1, np.stack((1 - (at - low), at - low), 1), length)


def _added(second: Array, weights: Array, length: int) -> Array:
    """Return the matrix of weights of neighbours, the second of which are given."""
    matrix = np.zeros((len(weights), length), np.float32)
    for tap, weight in enumerate(weights.T, start=-1):
        pixels = (second + tap).astype(int).clip(0, length - 1)
        np.add.at(matrix, (np.arange(len(weights)), pixels), weight)
    return matrix


def smoothing_matrix(size: int, length: int, step: float, cubic: bool) -> Array:
    """Return PyTorch's antialiased weights: a kernel as wide as a step, of what is inside alone.

    A cubic one is Keys' with a = -0.5, as Pillow has it.
    """
    scale = max(step, 1.0)
    support = (2.0 if cubic else 1.0) * scale
    matrix = np.zeros((size, length), np.float32)
    for i in range(size):
        centre = step * (i + 0.5)
        start = max(int(centre - support + 0.5), 0)
        end = min(int(centre + support + 0.5), length)
        apart = np.abs(np.arange(start, end) - centre + 0.5) / scale
        weights = keys(apart, -0.5) if cubic else np.clip(1 - apart, 0, 1)
        matrix[i, start:end] = weights / weights.sum()
    return matrix


def keys(x: Array, a: float) -> Array:
    """Return Keys' kernel at distances x: 1 at 0, 0 at other whole numbers, and from 2 on.

    Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 4.
    """
    return np.where(x <= 1, near(x, a), np.where(x < 2, far(x, a), 0))


def near(x: Array, a: float) -> Array:
    """Return Keys' kernel at distances of up to 1."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def far(x: Array, a: float) -> Array:
    """Return Keys' kernel at distances from 1 to 2."""
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def cubic_weights(part: Array, a: float = -0.75) -> list[Array]:
    """Return the weights of the four pixels around places `part` of the way between two."""
    return [far(part + 1, a), near(part, a), near(1 - part, a), far(2 - part, a)]


def affine_places(height: int, width: int, align_corners: bool) -> Array:
    """Return (x, y, 1) of each pixel, (1, H · W, 3): from -1 to 1, or half a pixel inside."""
    down, across = (
        np.linspace(-1, 1, length) * (1 if align_corners else (length - 1) / length)
        if length > 1 else np.zeros(1) for length in (height, width)
    )  # fmt: skip
    places = np.ones((height, width, 3))
    places[..., 0], places[..., 1] = across, down[:, None]
    return places.reshape(1, height * width, 3)
