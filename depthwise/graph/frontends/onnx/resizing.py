"""Resize and Upsample: as our Resize where it samples at the same places, else axis by axis.

A resizing of any kind is linear, an axis at a time: each output position is a sum of the input's.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.resampling import (
    ResizedAxis,
    Sampling,
    nearest,
    positions,
    weights,
)
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.resampling import resample

NEAREST = {"nearest": 0.0, "nearest_exact": 0.5}  # where in a position they look

Axes = dict[int, ResizedAxis]  # by their number, those that are resized


@rule("Resize")
def _(
    n: Operands, *, mode="nearest", coordinate_transformation_mode="half_pixel", axes=None,
    nearest_mode="round_prefer_floor", keep_aspect_ratio_policy="stretch", antialias=0,
    cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
):  # fmt: skip
    x = n[0]
    if n.opset == 10:  # which has no such attributes: as Upsample
        return resize(n, Sampling(mode, "asymmetric", "floor"), scaled(x, _floats(n, 1)))
    numbers = [n.axis(x, axis) for axis in axes] if axes else list(range(x.rank))
    if n.has(2) and n.array(2).size:
        found = scaled(x, _floats(n, 2), numbers)
    else:
        found = sized(x, n.ints(3), numbers, keep_aspect_ratio_policy)
    sampling = Sampling(
        mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(antialias),
        bool(exclude_outside),
    )  # fmt: skip
    if coordinate_transformation_mode == "tf_crop_and_resize":
        refuse(extrapolation_value, "it fills what lies outside of the image with other than 0")
        found = cropped(found, _floats(n, 1), numbers)
    return resize(n, sampling, found)


@rule("Upsample")
def _(n: Operands, *, mode="nearest", scales=None):
    return resize(n, Sampling(mode, "asymmetric", "floor"), scaled(n[0], scales or _floats(n, 1)))


def _floats(n: Operands, index: int) -> list[float]:
    return [float(number) for number in n.array(index)]


def scaled(x: Value, scales: list[float], numbers: list[int] | None = None) -> Axes:
    """Return the axes of x, all unless numbers are given, by how many times larger they become."""
    pairs = zip(numbers or range(x.rank), scales, strict=True)
    return {a: ResizedAxis(x.shape[a], int(x.shape[a] * scale), scale) for a, scale in pairs}


def sized(x: Value, sizes: list[int], numbers: list[int], policy: str) -> Axes:
    """Return the axes of x for the sizes that they become, or that one scale for all comes near."""
    scales = {a: size / x.shape[a] for a, size in zip(numbers, sizes, strict=True)}
    if policy != "stretch":
        one = (min if policy == "not_larger" else max)(scales.values())
        return {a: ResizedAxis(x.shape[a], int(one * x.shape[a] + 0.5), one) for a in numbers}
    return {
        a: ResizedAxis(x.shape[a], size, scales[a]) for a, size in zip(numbers, sizes, strict=True)
    }


def cropped(axes: Axes, region: list[float], numbers: list[int]) -> Axes:
    """Return the axes with the part of each that is cropped, given as starts, then ends."""
    starts, ends = region[: len(numbers)], region[len(numbers) :]
    parts = dict(zip(numbers, zip(starts, ends, strict=True), strict=True))
    return {a: replace(axis, region=parts[a]) for a, axis in axes.items()}


def _is_whole(axis: ResizedAxis) -> bool:
    return axis.scale == 1 and axis.size == axis.length and axis.region == (0.0, 1.0)


def resize(n: Operands, sampling: Sampling, axes: Axes) -> Value:
    """Return the first operand with some axes resized."""
    x, axes = n[0], {number: axis for number, axis in axes.items() if not _is_whole(axis)}
    refuse(any(not axis.size for axis in axes.values()), "its output has no elements")
    if x.rank == 3 and set(axes) == {2}:  # a line is an image of one row
        row = n.reshape(x, *x.shape[:2], 1, x.shape[2])
        y = resize_value(n, sampling, row, {3: axes[2]})
        return n.reshape(y, *y.shape[:2], y.shape[3])
    return resize_value(n, sampling, x, axes)


def resize_value(n: Operands, sampling: Sampling, x: Value, axes: Axes) -> Value:
    """Return x with axes resized, none of which stays as it is."""
    if x.rank == 4 and set(axes) <= {2, 3}:
        ours = as_resize(
            sampling, *(axes.get(a, ResizedAxis(x.shape[a], x.shape[a], 1)) for a in (2, 3))
        )
        if ours:
            return n.emit(ours, x)
    matrices = {number: weights(sampling, axis) for number, axis in axes.items()}
    return resample(n.emit, n.constant, x, matrices)


def as_resize(sampling: Sampling, *axes: ResizedAxis) -> ops.Resize | None:
    """Return our operator for two axes, None if it would sample at other places."""
    if sampling.antialias or sampling.mode not in ("nearest", "linear"):
        return None
    aligned = sampling.coordinates == "align_corners"
    kinds: set[Any] = {*NEAREST} if sampling.mode == "nearest" else {"bilinear"}
    steps = [(a.length - 1) / max(a.size - 1, 1) if aligned else 1 / a.scale for a in axes]
    for axis, step in zip(axes, steps, strict=True):
        i, last = np.arange(axis.size, dtype=np.float32), axis.length - 1
        if axis.region != (0.0, 1.0):
            return None
        if sampling.mode == "nearest":
            at = nearest(sampling, axis)
            kinds &= {kind for kind, shift in NEAREST.items() if np.array_equal(
                at, np.floor((i + np.float32(shift)) * np.float32(step)).clip(0, last)
            )}  # fmt: skip
        else:
            ours = i * step if aligned else (i + 0.5) * step - 0.5
            at = positions(sampling.coordinates, axis)
            kinds &= {"bilinear"} if np.allclose(ours.clip(0, last), at.clip(0, last)) else set()
    if not kinds:
        return None
    size = (axes[0].size, axes[1].size)
    kind = min(kinds)
    return ops.Resize(kind, size, (steps[0], steps[1]), aligned and kind == "bilinear")
