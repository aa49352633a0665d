"""Resize by ONNX's formulas: where each output pixel lies, and the weights of its neighbours.

https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

ROUND = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class ResizedAxis:
    """One axis to be resized: from `length` to `size` positions; `scale` need not be their ratio.

    `region` is the part of it that is cropped, from 0 to 1, for tf_crop_and_resize.
    """

    length: int
    size: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Sampling:
    """The attributes of a Resize that say how an axis is sampled."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


def positions(rule: str, axis: ResizedAxis) -> Array:
    """Return where the output's positions lie on the input's axis."""
    i, n, whole = np.arange(axis.size), axis.length, axis.length * axis.scale
    last = axis.size - 1  # "length_resized - 1", of whole pixels
    match rule:
        case "asymmetric":
            return i / axis.scale
        case "align_corners":
            return i * (n - 1) / max(last, 1)
        case "tf_crop_and_resize":
            start, end = axis.region
            step = i / last if last else np.full(1, 0.5)
            return (start + step * (end - start)) * (n - 1)
        case "pytorch_half_pixel" if axis.size == 1:
            return np.zeros(1)
        case "half_pixel" | "pytorch_half_pixel":
            return (i + 0.5) / axis.scale - 0.5
        case "half_pixel_symmetric":
            return n / 2 * (1 - axis.size / whole) + (i + 0.5) / axis.scale - 0.5
    raise ValueError(f"there is no coordinate_transformation_mode {rule!r}")


def nearest(sampling: Sampling, axis: ResizedAxis) -> Array:
    """Return which position of the input each one of the output takes."""
    at = ROUND[sampling.nearest](positions(sampling.coordinates, axis))
    return at.astype(int).clip(0, axis.length - 1)


def weights(sampling: Sampling, axis: ResizedAxis) -> Array:
    """Return (size, length): what each position of the output takes from each of the input."""
    at, n = positions(sampling.coordinates, axis), axis.length
    outside = np.zeros(axis.size, bool)
    if sampling.coordinates == "tf_crop_and_resize":
        outside = (at < 0) | (at > n - 1)
    if sampling.mode == "nearest":
        matrix = np.eye(n)[nearest(sampling, axis)]
    else:
        matrix = _interpolating(sampling, at, n, min(axis.scale, 1) if sampling.antialias else 1)
    matrix[outside] = 0
    return matrix.astype(np.float32)


def _interpolating(sampling: Sampling, at: Array, n: int, scale: float) -> Array:
    """Return the weights of a kernel that is as much wider as `scale` is below 1."""
    kernel, radius = (_linear, 1) if sampling.mode == "linear" else (_cubic, 2)
    taps = int(np.ceil(radius / scale))
    low = np.floor(at).astype(int)
    matrix = np.zeros((len(at), n))
    factors = {}
    for tap in range(1 - taps, taps + 1):
        factors[tap] = kernel((low + tap - at) * scale, sampling.cubic)
        if sampling.exclude_outside:
            factors[tap] = np.where((low + tap >= 0) & (low + tap < n), factors[tap], 0)
    total = sum(factors.values())
    for tap, factor in factors.items():  # beyond its ends an axis goes on as it ends
        np.add.at(matrix, (np.arange(len(at)), (low + tap).clip(0, n - 1)), factor / total)
    return matrix


def _linear(x: Array, _: float) -> Array:
    return np.clip(1 - np.abs(x), 0, 1)


def _cubic(x: Array, a: float) -> Array:
    """Return Keys' kernel: 1 at 0, 0 at other whole numbers, and from 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
