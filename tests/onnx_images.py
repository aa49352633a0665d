"""ONNX's operators on images as ours: convolution, pooling, resizing."""

from math import ceil
from typing import Any

import numpy as np
from onnx_adapter import Operands, refuse, rule

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.ops import Padding

# ------------------------------------------------------------------------------------ convolution


def pad_of(x: Value, reach: tuple[int, ...], strides: Any, pads: Any, auto_pad: str) -> Padding:
    """Return the padding given as (top, left, bottom, right), or computed from the sizes."""
    if auto_pad.startswith("SAME"):
        spans = [max((ceil(n / s) - 1) * s + r - n, 0)
                 for n, s, r in zip(x.shape[2:], strides, reach, strict=True)]  # fmt: skip
        return halved(spans, more_at_end=auto_pad == "SAME_UPPER")
    top, left, bottom, right = pads if pads and auto_pad == "NOTSET" else (0, 0, 0, 0)
    return Padding(top, bottom, left, right)


def halved(spans: list[int], more_at_end: bool) -> Padding:
    halves = [sorted((span // 2, span - span // 2), reverse=not more_at_end) for span in spans]
    return Padding(*halves[0], *halves[1])


def reached(kernel: Any, dilations: Any) -> tuple[int, ...]:
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))


@rule("Conv")
def _(
    n: Operands, *, kernel_shape=None, strides=(1, 1), pads=None, dilations=(1, 1), group=1,
    auto_pad="NOTSET",
):  # fmt: skip
    x, (weight, *bias) = n.images(), n.weights(1, 2)
    assert kernel_shape in (None, list(weight.shape[2:]))
    padding = pad_of(x, reached(weight.shape[2:], dilations), strides, pads, auto_pad)
    return n.emit(ops.Conv2d(tuple(strides), padding, tuple(dilations), group), x, weight, *bias)


@rule("ConvTranspose")
def _(
    n: Operands, *, kernel_shape=None, strides=(1, 1), pads=None, dilations=(1, 1), group=1,
    auto_pad="NOTSET", output_padding=(0, 0), output_shape=None,
):  # fmt: skip
    x, (weight, *bias) = n.images(), n.weights(1, 2)
    assert kernel_shape in (None, list(weight.shape[2:]))
    if auto_pad.startswith("SAME"):
        output_shape = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    cut = pad_of(x, (1, 1), strides, pads, "NOTSET")
    if output_shape:
        reach = reached(weight.shape[2:], dilations)
        whole = [(size - 1) * s + extra + r for size, s, extra, r in
                 zip(x.shape[2:], strides, output_padding, reach, strict=True)]  # fmt: skip
        spans = [w - size for w, size in zip(whole, output_shape, strict=True)]
        # an output that is larger than what the kernel reaches grows at its end
        cut = halved([max(span, 0) for span in spans], more_at_end=auto_pad == "SAME_UPPER")
        output_padding = [e - min(s, 0) for e, s in zip(output_padding, spans, strict=True)]
    padding = Padding(cut[0], cut[1] - output_padding[0], cut[2], cut[3] - output_padding[1])
    op = ops.ConvTranspose2d(tuple(strides), padding, tuple(dilations), group)
    return n.emit(op, x, weight, *bias)


@rule("DeformConv")
def _(
    n: Operands, *, kernel_shape=None, strides=(1, 1), pads=None, dilations=(1, 1), group=1,
    offset_group=1,
):  # fmt: skip
    x, (weight, *bias) = n.images(), n.weights(1, 3)
    assert kernel_shape in (None, list(weight.shape[2:]))
    bias = bias or [n.constant(np.zeros(weight.shape[0], np.float32))]
    padding = pad_of(x, (1, 1), strides, pads, "NOTSET")
    op = ops.DeformConv2d(tuple(strides), padding, tuple(dilations), group, offset_group)
    mask = [n[4]] if len(n.node.input) > 4 else []
    return n.emit(op, x, weight, *bias, n[2], *mask)


# -------------------------------------------------------------------------------------- pooling


@rule("MaxPool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=(1, 1), ceil_mode=0,
    auto_pad="NOTSET", storage_order=0,
):  # fmt: skip
    refuse(len(n.node.output) > 1, "the places of maxima")
    assert storage_order == 0
    x, strides = n.images(), strides or (1, 1)
    padding = pad_of(x, reached(kernel_shape, dilations), strides, pads, auto_pad)
    sizes = tuple(kernel_shape), (strides[0], strides[1])
    return n.emit(ops.MaxPool2d(*sizes, padding, tuple(dilations), bool(ceil_mode)), x)


@rule("AveragePool")
def _(
    n: Operands, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0,
    auto_pad="NOTSET", count_include_pad=0,
):  # fmt: skip
    x, strides = n.images(), strides or (1, 1)
    refuse(any(d != 1 for d in dilations or ()), "means of pixels that are apart")
    padding = pad_of(x, kernel_shape, strides, pads, auto_pad)
    sizes = tuple(kernel_shape), (strides[0], strides[1])
    op = ops.AvgPool2d(*sizes, padding, bool(ceil_mode), bool(count_include_pad), None)
    return n.emit(op, x)


@rule("GlobalAveragePool")
def _(n: Operands):
    return n.emit(ops.AdaptivePool2d("mean", (1, 1)), n.images())


@rule("GlobalMaxPool")
def _(n: Operands):
    return n.emit(ops.AdaptivePool2d("max", (1, 1)), n.images())


# ------------------------------------------------------------------------------------- resizing

# where each output pixel is read decides, not the names of the modes
ROUND = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def positions(rule: str, n: int, size: int, scale: float) -> np.ndarray:
    """Return where the pixels of an axis of `size` lie in one of n, by ONNX's formulas."""
    i = np.arange(size)
    if rule == "asymmetric":
        return i / scale
    if rule == "align_corners":
        return i * (n - 1) / (n * scale - 1)
    if rule == "pytorch_half_pixel" and size == 1:
        return np.zeros(1)
    shift = n / 2 * (1 - size / (n * scale)) if rule == "half_pixel_symmetric" else 0
    return shift + (i + 0.5) / scale - 0.5


def scaled(n: Operands, axes: list[int], policy: str) -> tuple[ops.Pair, tuple[float, float]]:
    """Return the output's height and width, and how many times larger each becomes."""
    shape = n.images().shape
    scales, sizes = n.array(2), n.ints(3)
    if scales is not None and scales.size:
        factors = dict(zip(axes, map(float, scales), strict=True))
        lengths = {axis: int(shape[axis] * factor) for axis, factor in factors.items()}
    else:
        factors = {axis: size / shape[axis] for axis, size in zip(axes, sizes, strict=True)}
        lengths = dict(zip(axes, sizes, strict=True))
    if policy != "stretch":
        one = (min if policy == "not_larger" else max)(factors.values())
        factors = dict.fromkeys(axes, one)
        lengths = {axis: int(one * shape[axis] + 0.5) for axis in axes}
    assert all(lengths.get(axis, shape[axis]) == shape[axis] for axis in (0, 1))
    height, width = ((lengths.get(a, shape[a]), factors.get(a, 1.0)) for a in (2, 3))
    return (height[0], width[0]), (height[1], width[1])


@rule("Resize")
def _(
    n: Operands, *, mode="nearest", coordinate_transformation_mode="half_pixel", axes=None,
    nearest_mode="round_prefer_floor", keep_aspect_ratio_policy="stretch", antialias=0,
    cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
):  # fmt: skip
    refuse(mode == "cubic", "cubic interpolation")
    refuse(antialias, "antialiasing")
    where = coordinate_transformation_mode
    refuse(where == "tf_crop_and_resize", "a region that is given when the network runs")
    assert (cubic_coeff_a, exclude_outside, extrapolation_value) == (-0.75, 0, 0.0)
    x = n.images()
    axes = [x.axis(axis) for axis in axes or range(4)]
    size, scale = scaled(n, axes, keep_aspect_ratio_policy)
    aligned = where == "align_corners"
    ends = zip(x.shape[2:], size, scale, strict=True)
    steps = [(n - 1) / (n * f - 1) if aligned else 1 / f for n, _, f in ends]
    for length, count, factor, step in zip(x.shape[2:], size, scale, steps, strict=True):
        i, last = np.arange(count), length - 1
        at = positions(where, length, count, factor)
        if mode == "nearest":
            same = ROUND[nearest_mode](at).clip(0, last) == np.floor(i * step).clip(0, last)
            refuse(not same.all(), "other nearest pixels than floor(i · step)")
        else:
            ours = i * step if aligned else (i + 0.5) * step - 0.5
            refuse(
                not np.allclose(ours.clip(0, last), at.clip(0, last)),
                "other positions than (i + 0.5) · step - 0.5",
            )
    kind = "nearest" if mode == "nearest" else "bilinear"
    corners = aligned and kind == "bilinear"
    return n.emit(ops.Resize(kind, size, (steps[0], steps[1]), corners), x)
