"""Convolutions of ONNX, plain, transposed and deformable."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.planes import (
    Numbers,
    as_given,
    as_images,
    halved,
    padding_of,
    pair,
    reach,
    sides,
)
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.volumes import ADVICE, convolved, each_plane
from depthwise.graph.ops import NO_PADDING, Padding, Pair


def kernel_of(n: Operands, index: int, kernel_shape: Numbers) -> Value:
    """Return a weight as one of images, (K, C, 1, S) for (K, C, S)."""
    shape = n.shape(index)
    if kernel_shape is not None and list(kernel_shape) != list(shape[2:]):
        raise ValueError(f"kernel_shape {list(kernel_shape)} is not of its weight {shape}")
    if len(shape) == 5:
        return n[index]
    if len(shape) != 3 or not n.is_known(index):
        return as_images(n, n[index])
    return n.derived(index, lambda data: data.reshape(*shape[:2], 1, shape[2]))


@rule("Conv")
def _(n: Operands, *, kernel_shape=None, **attributes):
    weight = kernel_of(n, 1, kernel_shape)
    if n[0].rank == 5:
        return convolve_volume(n, n[0], weight, **attributes)
    return convolve(n, n[0], weight, n.optional(2), **attributes)


def convolve_volume(
    n: Operands, x: Value, weight: Value, *, strides=None, pads=None, dilations=None,
    auto_pad="NOTSET", **attributes,
) -> Value:  # fmt: skip
    """Return a convolution of (N, C, D, H, W) by a kernel that has one place along the depth."""
    (step, *steps), (dilation, *apart) = (list(v or (1, 1, 1)) for v in (strides, dilations))
    around = list(pads or [0] * 6)
    before, after = around[::3]
    if auto_pad.startswith("SAME"):
        span = dilation * (weight.shape[2] - 1) + 1
        missing = max((ceil(x.shape[2] / step) - 1) * step + span - x.shape[2], 0)
        before, after, *_ = halved([missing, 0], more_at_end=auto_pad == "SAME_UPPER")
    beside = [*around[1:3], *around[4:]]
    y = convolved(
        n.emit, x, weight, step, (before, after), dilation,
        lambda y, kernel: convolve(
            n, y, kernel, n.optional(2), strides=steps, pads=beside, dilations=apart,
            auto_pad=auto_pad, **attributes,
        ),
    )  # fmt: skip
    kernel, depth = weight.shape[2], x.shape[2]
    refuse(y is None, f"it slides a kernel of {kernel} over a depth of {depth}", ADVICE)
    assert y is not None
    return y


def convolve(
    n: Operands, x: Value, weight: Value, bias: list[Value], *, strides=None, pads=None,
    dilations=None, group=1, auto_pad="NOTSET", kernel_shape=None,
) -> Value:  # fmt: skip
    """Return a convolution of x, by the attributes of Conv."""
    del kernel_shape  # which the weight has
    images, weight = as_images(n, x), as_images(n, weight)
    stride, dilation = pair(strides), pair(dilations)
    span = reach(pair(weight.shape[2:]), dilation)
    padding = padding_of(images, span, stride, pads, auto_pad)
    y = n.emit(ops.Conv2d(stride, padding, dilation, group), images, weight, *bias)
    return as_given(n, y, x)


@rule("ConvTranspose")
def _(n: Operands, *, kernel_shape=None, **attributes):
    x, weight = n[0], kernel_of(n, 1, kernel_shape)
    if x.rank == 5:
        return transpose_volume(n, x, weight, **attributes)
    return as_given(n, transpose(n, as_images(n, x), weight, **attributes), x)


def transpose_volume(
    n: Operands, x: Value, weight: Value, *, strides=None, pads=None, dilations=None,
    output_padding=None, output_shape=None, **attributes,
) -> Value:  # fmt: skip
    """Return a transposed convolution of each plane of (N, C, D, H, W)."""
    step, *steps = strides or (1, 1, 1)
    around, (extra, *extras) = list(pads or [0] * 6), output_padding or (0, 0, 0)
    spreads = (weight.shape[2], step, extra, *around[::3]) != (1, 1, 0, 0, 0)
    refuse(spreads or output_shape, "it spreads the depth of a volume (N, C, D, H, W)", ADVICE)
    kernel = n.reshape(weight, *weight.shape[:2], *weight.shape[3:])
    beside, apart = [*around[1:3], *around[4:]], list(dilations or (1, 1, 1))[1:]
    return each_plane(
        n.emit, x,
        lambda y: transpose(n, y, kernel, strides=steps, pads=beside, dilations=apart,
                            output_padding=extras, **attributes),
    )  # fmt: skip


def transpose(
    n: Operands, x: Value, weight: Value, *, strides=None, pads=None, dilations=None, group=1,
    auto_pad="NOTSET", output_padding=None, output_shape=None,
) -> Value:  # fmt: skip
    """Return a transposed convolution of images, by the attributes of ConvTranspose."""
    stride, dilation, extra = pair(strides), pair(dilations), pair(output_padding, usual=0)
    if output_shape or auto_pad.startswith("SAME"):
        span = reach(pair(weight.shape[2:]), dilation)
        padding = cut_to(x, output_shape, span, stride, extra, auto_pad)
    else:
        top, bottom, left, right = sides(pads) if pads else NO_PADDING
        padding = Padding(top, bottom - extra[0], left, right - extra[1])
    op = ops.ConvTranspose2d(stride, padding, dilation, group)
    return n.emit(op, x, weight, *n.optional(2))


def cut_to(
    x: Value, output_shape: Numbers, span: Pair, stride: Pair, extra: Pair, auto_pad: str
) -> Padding:  # fmt: skip
    """Return what is cut from a transposed convolution so that its output has a given size.

    An output that is larger than what the kernel reaches grows at its end. Without a size SAME
    means the input's times the stride, or what the kernel reaches if that is less.
    """
    whole = [(size - 1) * s + e + r
             for size, s, e, r in zip(x.shape[2:], stride, extra, span, strict=True)]  # fmt: skip
    if output_shape:
        wanted = pair(output_shape[-2:])
    else:
        wanted = [min(n * s, w) for n, s, w in zip(x.shape[2:], stride, whole, strict=True)]
    spare = [w - size for w, size in zip(whole, wanted, strict=True)]
    cut = halved([max(rest, 0) for rest in spare], more_at_end=auto_pad == "SAME_UPPER")
    grown: Sequence[int] = [e - min(rest, 0) for e, rest in zip(extra, spare, strict=True)]
    return Padding(cut.top, cut.bottom - grown[0], cut.left, cut.right - grown[1])


@rule("DeformConv")
def _(
    n: Operands, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1,
    offset_group=1,
):  # fmt: skip
    refuse(n[0].rank != 4, "it deforms other than images (N, C, H, W)")
    weight = kernel_of(n, 1, kernel_shape)
    bias = n.optional(3) or [n.constant(np.zeros(weight.shape[0], np.float32))]
    padding = sides(pads) if pads else NO_PADDING
    op = ops.DeformConv2d(pair(strides), padding, pair(dilations), group, offset_group)
    return n.emit(op, n[0], weight, *bias, n[2], *n.optional(4))
