"""The rules of volumes (N, C, D, H, W): those of images, plane by plane, and along depth.

Pooling and resizing work on one axis after the other. A convolution takes planes alone, or all of
the depth at once; what slides over all three axes is refused.
"""

from math import prod

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Ints, image_rule
from depthwise.graph.frontends.torch.aten_shape import resize
from depthwise.graph.frontends.torch.refusal import Refusal
from depthwise.graph.frontends.volumes import (
    ADVICE,
    along_depth,
    by_planes,
    convolved,
    each_plane,
    every,
)

Triple = tuple[int, int, int]


def triple(value: Ints) -> Triple:
    """Return (depth, vertical, horizontal) of a number, or of one or three numbers in a list."""
    values = [value] * 3 if isinstance(value, int) else list(value) * (3 // len(value))
    return values[0], values[1], values[2]


# ----------------------------------------------------------------------------------- convolution


@image_rule("aten.conv3d", rank=5)
def _(b: Builder, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    step, *steps = triple(stride)
    dilated, *dilations = triple(dilation)
    if isinstance(padding, str):
        spans = dilated * (weight.shape[2] - 1) if padding == "same" else 0
        before, after, pads = spans // 2, spans - spans // 2, padding
    else:
        before, *pads = triple(padding)
        after = before
    convolve = RULES["aten.conv2d"]
    y = convolved(
        b.emit, x, weight, step, (before, after), dilated,
        lambda y, kernel: convolve(b, y, kernel, bias, steps, pads, dilations, groups),
    )  # fmt: skip
    if y is None:
        raise Refusal(
            f"slides a kernel of {weight.shape[2]} over a depth of {x.shape[2]}, padded by "
            f"{before}: {ADVICE}"
        )
    return y


@image_rule("aten.conv_transpose3d", rank=5)
def _(
    b: Builder, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):  # fmt: skip
    (step, *steps), (pad, *pads), (extra, *extras) = map(triple, (stride, padding, output_padding))
    if (weight.shape[2], step, pad, extra) != (1, 1, 0, 0):
        raise Refusal(
            f"spreads the depth, with a kernel of {weight.shape[2]}, a stride of {step} and a "
            f"padding of {pad}: {ADVICE}"
        )
    kernel = b.emit(ops.Reshape((*weight.shape[:2], *weight.shape[3:])), weight)
    transpose, dilations = RULES["aten.conv_transpose2d"], triple(dilation)[1:]
    return each_plane(
        b.emit, x,
        lambda y: transpose(b, y, kernel, bias, steps, pads, extras, groups, dilations),
    )  # fmt: skip


# --------------------------------------------------------------------------------------- pooling


@image_rule("aten.max_pool3d", rank=5)
def _(b: Builder, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    kernel, step = triple(kernel_size), triple(stride or kernel_size)
    pad, apart = triple(padding), triple(dilation)
    pool = RULES["aten.max_pool2d"]
    x = by_planes(
        b.emit, x, lambda y: pool(b, y, kernel[1:], step[1:], pad[1:], apart[1:], ceil_mode)
    )
    if (kernel[0], pad[0]) == (1, 0):
        return every(b.emit, x, step[0])
    lines = (kernel[0], 1), (step[0], 1), (pad[0], 0), (apart[0], 1)
    return along_depth(b.emit, x, lambda y: pool(b, y, *lines, ceil_mode))


@image_rule("aten.max_pool3d_with_indices", rank=5)
def _(b: Builder, *arguments, **named):
    return [RULES["aten.max_pool3d"](b, *arguments, **named), None]


@image_rule("aten.avg_pool3d", rank=5)
def _(
    b: Builder, x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    """Pool planes, then along depth: what a window is divided by is a product, too."""
    kernel, step, pad = triple(kernel_size), triple(stride or kernel_size), triple(padding)
    pool, how = RULES["aten.avg_pool2d"], (ceil_mode, count_include_pad)
    planes = (kernel[1:], step[1:], pad[1:], divisor_override) != ((1, 1), (1, 1), (0, 0), None)
    if planes:
        x = by_planes(
            b.emit, x, lambda y: pool(b, y, kernel[1:], step[1:], pad[1:], *how, divisor_override)
        )
    # one that changes nothing stays: by it a local response normalisation of one channel is known
    if (kernel[0], pad[0]) == (1, 0) and (planes or step[0] > 1):
        return every(b.emit, x, step[0])
    lines = (kernel[0], 1), (step[0], 1), (pad[0], 0)
    divisor = None if divisor_override is None else 1
    return along_depth(b.emit, x, lambda y: pool(b, y, *lines, *how, divisor))


def adaptive(b: Builder, function, x: Value, output_size) -> Value:
    """Pool planes to a size, then the depth."""
    depth, *size = triple(output_size)
    if (depth, *size) == (1, 1, 1):
        return b.emit(ops.Reduce(function, (2, 3, 4), True), x)
    planes = ops.AdaptivePool2d(function, (size[0], size[1]))
    x = by_planes(b.emit, x, lambda y: b.emit(planes, y))
    lines = ops.AdaptivePool2d(function, (depth, prod(size)))
    return along_depth(b.emit, x, lambda y: b.emit(lines, y))


@image_rule("aten.adaptive_avg_pool3d", "aten._adaptive_avg_pool3d", rank=5)
def _(b: Builder, x, output_size):
    return adaptive(b, "mean", x, output_size)


@image_rule("aten.adaptive_max_pool3d", rank=5)
def _(b: Builder, x, output_size):
    return [adaptive(b, "max", x, output_size), None]


# -------------------------------------------------------------------------------------- resizing


def resize_volume(b: Builder, mode, x: Value, size, scale, align_corners=False) -> Value:
    """Enlarge or shrink planes, then the depth; a given scale counts, as in resize."""
    size = list(size) if size else [int(n * s) for n, s in zip(x.shape[2:], scale, strict=True)]
    planes, deep = (scale[1:], [scale[0], 1.0]) if scale else (None, None)
    x = by_planes(b.emit, x, lambda y: resize(b, mode, y, size[1:], planes, align_corners))
    if size[0] == x.shape[2]:
        return x
    lines = [size[0], prod(x.shape[3:])]
    return along_depth(b.emit, x, lambda y: resize(b, mode, y, lines, deep, align_corners))


def scales_of(scale_factors, scales: tuple, named: dict) -> list[float] | None:
    """Return the three scales however the overload spells them, None where they are not given."""
    if isinstance(scale_factors, list | tuple):
        return list(scale_factors)
    given = [scale_factors, *scales, *(named.get(f"scales_{axis}") for axis in "dhw")]
    given = [scale for scale in given if scale is not None]
    return given if len(given) == 3 else None


@image_rule("aten.upsample_nearest3d", rank=5)
def _(b: Builder, x, output_size=None, scale_factors=None, *scales, **named):
    return resize_volume(b, "nearest", x, output_size, scales_of(scale_factors, scales, named))


@image_rule("aten.upsample_trilinear3d", rank=5)
def _(b: Builder, x, output_size, align_corners, scale_factors=None, *scales, **named):
    scale = scales_of(scale_factors, scales, named)
    return resize_volume(b, "bilinear", x, output_size, scale, align_corners)
