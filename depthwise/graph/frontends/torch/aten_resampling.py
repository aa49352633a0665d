"""The rules of PyTorch's operators that give images another size, or sample them at places."""

from collections.abc import Callable
from functools import partial

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import binary, pair, rule
from depthwise.graph.frontends.torch.aten_shape import cut, resize, scale_of
from depthwise.graph.frontends.torch.refusal import Refusal
from depthwise.graph.resampling import (
    affine_places,
    cubic_matrix,
    linear_matrix,
    resample,
    smoothing_matrix,
)

Matrix = Callable[[int, int, float], np.ndarray]  # of a size, a length and a step

MODES = ("bilinear", "nearest", "bicubic")  # numbered as PyTorch numbers them
OUTSIDE = ("zeros", "border", "reflection")


# ------------------------------------------------------------------------------------ other sizes


def resampled(b: Builder, x: Value, size, scale, align_corners: bool, matrix: Matrix) -> Value:
    """Resize (N, C, H, W) or (N, C, L) by a matrix an axis; a given scale counts, as in resize."""
    lengths = x.shape[2:]
    size = size or [int(n * s) for n, s in zip(lengths, scale, strict=True)]
    matrices = {}
    for axis, (n, m) in enumerate(zip(lengths, size, strict=True), 2):
        step = 1 / scale[axis - 2] if scale else n / m
        if align_corners:
            step = (n - 1) / (m - 1) if m > 1 else 0.0
        matrices[axis] = matrix(m, n, step)
    return resample(b.emit, lambda data: b.literal(data, x.type.dtype), x, matrices)


@rule("aten.upsample_bicubic2d")
def _(b: Builder, x, output_size, align_corners, scale_factors=None, *scales, **named):
    scale = scale_of(scale_factors, scales, named)
    return resampled(b, x, output_size, scale, align_corners,
                     partial(cubic_matrix, align_corners=align_corners))  # fmt: skip


def smoothing(cubic: bool):
    """Return the rule of a resizing that averages what it leaves out."""

    def smooth(b: Builder, x, output_size, align_corners, scale_factors=None, *scales, **named):
        scale = scale_of(scale_factors, scales, named)
        return resampled(b, x, output_size, scale, align_corners,
                         partial(smoothing_matrix, cubic=cubic))  # fmt: skip

    return smooth


rule("aten._upsample_bilinear2d_aa")(smoothing(cubic=False))
rule("aten._upsample_bicubic2d_aa")(smoothing(cubic=True))


@rule("aten._upsample_nearest_exact2d")
def _(b: Builder, x, output_size=None, scale_factors=None, *scales, **named):
    return resize(b, "nearest_exact", x, output_size, scale_of(scale_factors, scales, named))


def as_row(b: Builder, x: Value, function: Callable[[Value], Value]) -> Value:
    """Return a function of (N, C, L) as images of one row."""
    y = function(b.emit(ops.Reshape((*x.shape[:2], 1, x.shape[2])), x))
    return b.emit(ops.Reshape((*y.shape[:2], y.shape[3])), y)


def line(output_size, scale_factors, scale) -> tuple[list[int] | None, list[float] | None]:
    """Return the size and the scale of a row for those of a line, however the overload is."""
    given = scale_factors if isinstance(scale_factors, list | tuple) else [scale_factors or scale]
    return output_size and [1, *output_size], [1.0, *given] if given[0] else None


@rule("aten.upsample_linear1d")
def _(b: Builder, x, output_size, align_corners, scale_factors=None, scales=None):
    size, scale = line(output_size, scale_factors, scales)
    matrix = partial(linear_matrix, align_corners=align_corners)
    return as_row(b, x, lambda row: resampled(b, row, size, scale, align_corners, matrix))


@rule("aten.upsample_nearest1d")
def _(b: Builder, x, output_size=None, scale_factors=None, scales=None):
    size, scale = line(output_size, scale_factors, scales)
    return as_row(b, x, lambda row: resize(b, "nearest", row, size, scale))


@rule("aten._upsample_nearest_exact1d")
def _(b: Builder, x, output_size=None, scale_factors=None, scales=None):
    size, scale = line(output_size, scale_factors, scales)
    return as_row(b, x, lambda row: resize(b, "nearest_exact", row, size, scale))


# -------------------------------------------------------------------------------- computed places


@rule("aten.grid_sampler", "aten.grid_sampler_2d")
def _(b: Builder, x, grid, interpolation_mode, padding_mode, align_corners):
    if x.rank != 4:
        raise Refusal("samples volumes, where images (N, C, H, W) are sampled")
    op = ops.GridSample(MODES[interpolation_mode], OUTSIDE[padding_mode], bool(align_corners))
    return b.emit(op, x, grid)


@rule("aten.affine_grid_generator")
def _(b: Builder, theta, size, align_corners):
    """Return every pixel's (x, y, 1) times theta (N, 2, 3)."""
    if len(size) != 4:
        raise Refusal("makes a grid of volumes, where images (N, C, H, W) are sampled")
    n, _, height, width = size
    places = b.literal(affine_places(height, width, align_corners), theta.type.dtype)
    grid = b.emit(ops.MatMul(), places, b.emit(ops.Permute((0, 2, 1)), theta))
    return b.emit(ops.Reshape((n, height, width, 2)), grid)


@rule("torchvision.roi_align")
def _(b: Builder, x, boxes, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned):
    """Return the deformable pooling whose bins stay where they are.

    Not aligned, boxes lie half a pixel further and are a pixel wide at least.
    """
    if sampling_ratio < 1:
        raise Refusal(
            "takes as many samples as its boxes are large, where a library takes as many for each: "
            "give it a sampling_ratio, such as 2"
        )
    if pooled_height != pooled_width:
        raise Refusal(
            f"pools to {pooled_height}x{pooled_width} bins, where a library has as many down as "
            "across: give it one output_size, and cut what is too much"
        )
    if not aligned:
        image, first, last = (cut(b, boxes, 1, *ends) for ends in ((0, 1), (1, 3), (3, 5)))
        extent = binary(b, "maximum", binary(b, "subtract", last, first), 1 / spatial_scale)
        first = binary(b, "add", first, 0.5 / spatial_scale)
        boxes = b.emit(ops.Concat(1), image, first, binary(b, "add", first, extent))
    offsets = b.literal(np.zeros((boxes.shape[0], 2, *pair(pooled_height))), x.type.dtype)
    op = ops.DeformRoIPool(pooled_height, spatial_scale, sampling_ratio, 0.0)
    return b.emit(op, x, boxes, offsets)
