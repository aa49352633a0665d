"""Kernels that find places, sort, run totals along lines, and take or put elements by places."""

import numpy as np

from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.compiler.verification.oracle.memory import Array

MAX, PRODUCT = 2, 4  # as kernels/reduce.h numbers the functions; 1 is a sum, 3 the smallest


def _lines(a: CallArguments) -> Array:
    """Return the lines that are read, along the last axis."""
    return a.x.read((*a.n, a.count), (*a.x_stride, a.x_step))


@means("f32_arg_reduce")
def arg_reduce(a: CallArguments) -> None:
    """Where the extreme of each line lies; NumPy takes the first, and NaN before all."""
    found = (np.argmax if a.function == MAX else np.argmin)(_lines(a), -1)
    a.y.write(a.n, a.y_stride)[...] = found


@means("f32_top_k")
def top_k(a: CallArguments) -> None:
    """The first of each line in order. Numbers are told apart by a key that NaN has last."""
    x = _lines(a)
    a.scratch.write((2 * a.count,), (1,))
    places = np.broadcast_to(np.arange(a.count), x.shape)
    ascending = -x if a.largest else x
    apart = np.isnan(x) != bool(a.largest)  # the outer key: False sorts before True
    order = np.lexsort((places, ascending, apart), axis=-1)[..., : a.taken]
    result = order if a.places else np.take_along_axis(x, order, -1)
    a.y.write((*a.n, a.taken), (*a.y_stride, a.y_step))[...] = result


@means("f32_cumulate")
def cumulate(a: CallArguments) -> None:
    """Running totals of each line, in double precision."""
    functions = {1: np.add, MAX: np.maximum, 3: np.minimum, PRODUCT: np.multiply}
    total = functions[a.function].accumulate(_lines(a).astype(float), -1)
    a.y.write((*a.n, a.count), (*a.y_stride, a.y_step))[...] = total


@means("f32_take_along")
def take_along(a: CallArguments) -> None:
    """The element of a line that each index names."""
    lines = a.x.read((*a.n, a.size), (*a.x_stride, a.x_step))
    index = a.index.read(a.n, a.index_stride).astype(int)
    at = np.where(index < 0, index + a.size, index)
    inside = (at >= 0) & (at < a.size)
    taken = np.take_along_axis(lines, np.where(inside, at, 0)[..., None], -1)[..., 0]
    a.y.write(a.n, a.y_stride)[...] = np.where(inside, taken, np.nan)


@means("f32_max_pool_indices")
def max_pool_indices(a: CallArguments) -> None:
    """Pixel by pixel of the windows, as the naive twin does it."""
    x = a.in_.read((a.images, a.height, a.width, a.channels), a.strides("in"))
    shape = (a.images, a.out_height, a.out_width, a.channels)
    largest, at = np.full(shape, -np.inf), np.full(shape, -1)
    rows, columns = np.arange(a.out_height), np.arange(a.out_width)
    for r in range(a.kernel_y):
        yy = rows * a.stride_y - a.top + r * a.dilation_y
        for s in range(a.kernel_x):
            xx = columns * a.stride_x - a.left + s * a.dilation_x
            inside = np.outer((yy >= 0) & (yy < a.height), (xx >= 0) & (xx < a.width))
            v = x[:, yy.clip(0, a.height - 1)][:, :, xx.clip(0, a.width - 1)]
            better = inside[..., None] & ((at < 0) | (v > largest) | np.isnan(v))
            largest = np.where(better, v, largest)
            at = np.where(better, np.add.outer(yy * a.width, xx)[..., None], at)
    a.out.write(shape, a.strides("out"))[...] = at


@means("f32_max_unpool")
def max_unpool(a: CallArguments) -> None:
    """Zeros, and each element at its place; of several the last in order stays."""
    pixels = (a.images, a.height, a.width, a.channels)
    x, index = a.in_.read(pixels, a.strides("in")), a.index.read(pixels, a.strides("index"))
    out = a.out.write((a.images, a.out_height, a.out_width, a.channels), a.strides("out"))
    out[...] = 0
    for n, y, z, c in np.ndindex(*pixels):
        if 0 <= index[n, y, z, c] < a.out_height * a.out_width:
            down, right = divmod(int(index[n, y, z, c]), a.out_width)
            out[n, down, right, c] = x[n, y, z, c]
