"""The rules of PyTorch's operators that move elements about: concatenate, cut, pad, reshape."""

from math import prod
from typing import cast

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import image_rule, rule


@rule("aten.cat", "aten.concat")
def _(b: Builder, tensors, dim=0):
    parts = [part for part in tensors if part.type.size]  # of those without elements nothing stays
    return b.emit(ops.Concat(parts[0].axis(dim)), *parts)


@rule("aten.stack")
def _(b: Builder, tensors, dim=0):
    axis = dim % (tensors[0].rank + 1)
    return b.emit(ops.Concat(axis), *(insert_axis(b, x, axis) for x in tensors))


def insert_axis(b: Builder, x: Value, axis: int) -> Value:
    """Return x with an axis of one element at `axis`."""
    return b.emit(ops.Reshape((*x.shape[:axis], 1, *x.shape[axis:])), x)


def cut(b: Builder, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Return x[start:stop:step] along an axis, x itself where that is all of it."""
    if start >= stop:
        return filled(b, (*x.shape[:axis], 0, *x.shape[axis + 1 :]), 0.0, x.type.dtype)
    whole = start == 0 and stop == x.shape[axis] and step == 1
    return x if whole else b.emit(ops.Slice(axis, start, stop, step), x)


def bound(position: int, size: int) -> int:
    """Return a slice's position counted from the front and held inside the axis."""
    return max(0, min(position + size if position < 0 else position, size))


@rule("aten.slice")
def _(b: Builder, x, dim=0, start=None, end=None, step=1):
    axis, size = x.axis(dim), x.shape[x.axis(dim)]
    return cut(b, x, axis, bound(start or 0, size), size if end is None else bound(end, size), step)


@rule("aten.narrow")
def _(b: Builder, x, dim, start, length):
    start = start % x.shape[x.axis(dim)]
    return cut(b, x, x.axis(dim), start, start + length)


@rule("aten.select")
def _(b: Builder, x, dim, index):
    axis = x.axis(dim)
    index %= x.shape[axis]
    row = cut(b, x, axis, index, index + 1)
    return b.emit(ops.Reshape((*x.shape[:axis], *x.shape[axis + 1 :])), row)


@rule("aten.split", "aten.split_with_sizes")
def _(b: Builder, x, split_size, dim=0):
    axis, size = x.axis(dim), x.shape[x.axis(dim)]
    if isinstance(split_size, int):
        split_size = [min(split_size, size - start) for start in range(0, size, split_size)]
    starts = [sum(split_size[:i]) for i in range(len(split_size))]
    return [cut(b, x, axis, s, s + n) for s, n in zip(starts, split_size, strict=True)]


@rule("aten.chunk")
def _(b: Builder, x, chunks, dim=0):
    axis, size = x.axis(dim), x.shape[x.axis(dim)]
    step = -(-size // chunks)
    return [cut(b, x, axis, start, min(start + step, size)) for start in range(0, size, step)]


@rule("aten.unbind")
def _(b: Builder, x, dim=0):
    axis = x.axis(dim)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    rows = [cut(b, x, axis, i, i + 1) for i in range(x.shape[axis])]
    return [b.emit(ops.Reshape(shape), row) for row in rows]


@rule("aten.pad", "aten.constant_pad_nd")
def _(b: Builder, x, pad, mode="constant", value=None):
    if not isinstance(mode, str):  # constant_pad_nd(x, pad, value)
        mode, value = "constant", mode
    # PyTorch lists (before, after) from the last axis forward
    pads = [(before, after) for before, after in zip(pad[::2], pad[1::2], strict=True)][::-1]
    pads = [(0, 0)] * (x.rank - len(pads)) + pads
    op = ops.Pad(tuple(pads), cast(ops.PadMode, mode), float(value or 0.0))
    return b.emit(op, x)


def filled(b: Builder, shape, number: float, dtype: str) -> Value:
    """Return a constant tensor of one number."""
    return b.literal(np.full(tuple(shape), number), dtype)


@rule("aten.zeros_like", "aten.new_zeros")
def _(b: Builder, x, size=None, **_named):
    return filled(b, x.shape if size is None else size, 0.0, b.dtype)


@rule("aten.ones_like", "aten.new_ones")
def _(b: Builder, x, size=None, **_named):
    return filled(b, x.shape if size is None else size, 1.0, b.dtype)


@rule("aten.full_like", "aten.fill")
def _(b: Builder, x, number, **_named):
    return (
        b.emit(ops.Expand(x.shape), number)
        if isinstance(number, Value)
        else filled(b, x.shape, number, b.dtype)
    )


@rule("aten.new_full")
def _(b: Builder, x, size, number, **_named):
    return filled(b, size, number, b.dtype)


def resize(b: Builder, mode, x: Value, size, scale, align_corners=False) -> Value:
    """Enlarge or shrink (N, C, H, W); a given scale counts, not the rounded sizes' ratio."""
    sizes = list(x.shape[2:])
    size = size or [int(n * s) for n, s in zip(sizes, scale, strict=True)]
    if align_corners:
        steps = [(n - 1) / (m - 1) if m > 1 else 0.0 for n, m in zip(sizes, size, strict=True)]
    elif scale:
        steps = [1.0 / s for s in scale]
    else:
        steps = [n / m for n, m in zip(sizes, size, strict=True)]
    op = ops.Resize(mode, (size[0], size[1]), (steps[0], steps[1]), align_corners)
    return b.emit(op, x)


@rule("aten.upsample_nearest2d")
def _(b: Builder, x, output_size=None, scale_factors=None, *scales, **named):
    return resize(b, "nearest", x, output_size, scale_of(scale_factors, scales, named))


@rule("aten.upsample_bilinear2d")
def _(b: Builder, x, output_size, align_corners, scale_factors=None, *scales, **named):
    scale = scale_of(scale_factors, scales, named)
    return resize(b, "bilinear", x, output_size, scale, align_corners)


def scale_of(scale_factors, scales: tuple, named: dict) -> list[float] | None:
    """Return (vertical, horizontal) scale however the overload spells it, None where not given."""
    if isinstance(scale_factors, list | tuple):
        return list(scale_factors)
    given = [scale_factors, *scales, named.get("scales_h"), named.get("scales_w")]
    given = [scale for scale in given if scale is not None]
    return given if len(given) == 2 else None


@rule("aten.view", "aten.reshape", "aten._unsafe_view", "aten._reshape_copy")
def _(b: Builder, x, shape):
    known = prod(n for n in shape if n != -1)
    full = tuple(x.type.size // known if n == -1 else n for n in shape)
    return x if full == x.shape else b.emit(ops.Reshape(full), x)


@rule("aten.flatten")
def _(b: Builder, x, start_dim=0, end_dim=-1):
    start, end = x.axis(start_dim), x.axis(end_dim) + 1
    shape = (*x.shape[:start], prod(x.shape[start:end]), *x.shape[end:])
    return x if shape == x.shape else b.emit(ops.Reshape(shape), x)


@rule("aten.unflatten")
def _(b: Builder, x, dim, sizes):
    axis = x.axis(dim)
    known = prod(n for n in sizes if n != -1)
    filled = tuple(x.shape[axis] // known if n == -1 else n for n in sizes)
    return b.emit(ops.Reshape((*x.shape[:axis], *filled, *x.shape[axis + 1 :])), x)


@rule("aten.squeeze")
def _(b: Builder, x, dim=None):
    dims = range(x.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = {x.axis(axis) for axis in dims}
    shape = tuple(n for axis, n in enumerate(x.shape) if axis not in axes or n != 1)
    return x if shape == x.shape else b.emit(ops.Reshape(shape), x)


@rule("aten.unsqueeze")
def _(b: Builder, x, dim):
    return insert_axis(b, x, dim % (x.rank + 1))


@rule("aten.permute")
def _(b: Builder, x, dims):
    return b.emit(ops.Permute(tuple(x.axis(axis) for axis in dims)), x)


@rule("aten.transpose")
def _(b: Builder, x, dim0, dim1):
    axes = list(range(x.rank))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return b.emit(ops.Permute(tuple(axes)), x)


@rule("aten.t", "aten.numpy_T")
def _(b: Builder, x):
    return b.emit(ops.Permute(tuple(range(x.rank))[::-1]), x)


@rule("aten.expand")
def _(b: Builder, x, size, implicit=False):
    padded = (1,) * (len(size) - x.rank) + x.shape
    shape = tuple(own if n == -1 else n for own, n in zip(padded, size, strict=True))
    return x if shape == x.shape else b.emit(ops.Expand(shape), x)


@rule("aten.expand_as")
def _(b: Builder, x, other):
    return x if x.shape == other.shape else b.emit(ops.Expand(other.shape), x)


@image_rule("aten.pixel_shuffle")
def _(b: Builder, x, upscale_factor):
    n, c, h, w = x.shape
    r = upscale_factor
    split = b.emit(ops.Reshape((n, c // r**2, r, r, h, w)), x)
    woven = b.emit(ops.Permute((0, 1, 4, 2, 5, 3)), split)
    return b.emit(ops.Reshape((n, c // r**2, h * r, w * r)), woven)


@image_rule("aten.pixel_unshuffle")
def _(b: Builder, x, downscale_factor):
    n, c, h, w = x.shape
    r = downscale_factor
    split = b.emit(ops.Reshape((n, c, h // r, r, w // r, r)), x)
    gathered = b.emit(ops.Permute((0, 1, 3, 5, 2, 4)), split)
    return b.emit(ops.Reshape((n, c * r**2, h // r, w // r)), gathered)


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def _(b: Builder, x, groups):
    n, c, *rest = x.shape
    split = b.emit(ops.Reshape((n, groups, c // groups, *rest)), x)
    swap = ops.Permute((0, 2, 1, *range(3, split.rank)))
    return b.emit(ops.Reshape(x.shape), b.emit(swap, split))


@rule(
    "aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.native_dropout",
    "aten.contiguous", "aten.clone", "aten.detach", "aten.alias", "aten.lift_fresh_copy",
    "aten.identity", "aten.positive",
)  # fmt: skip
def _(b: Builder, x, *_unused, **_named):
    return x
