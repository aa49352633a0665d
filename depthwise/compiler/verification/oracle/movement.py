"""Kernels that move elements, or fill memory with one number."""

from functools import reduce

import numpy as np

from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.graph.dtypes import CONVERTED


@means("u8_copy")
@means("f32_copy")
def copy(a: CallArguments) -> None:
    """Write y = x, over six axes.

    Rows that stay in a window are copied whole, with channels that no later band reads.
    """
    shape, strides, to = a.n, a.x_stride, a.y_stride
    if a.x.buffer == a.y.buffer:
        a.x.move(a.y, shape, strides, to)
    else:
        x = a.x.read(shape, strides)
        a.y.write(shape, to)[...] = x


@means("f32_fill")
def fill(a: CallArguments) -> None:
    """One number everywhere."""
    a.y.write((*a.n, a.count), (*a.y_stride, 1))[...] = a.value


@means("f32_fill_border")
def fill_border(a: CallArguments) -> None:
    """Zeros above, below, left and right of each image."""
    line = (a.left + a.width + a.right) * a.channels
    image = (a.top + a.rows + a.bottom) * line
    first, last = a.top * line, (a.top + a.rows) * line
    beside = (a.images, a.rows, a.channels)
    a.y.write((a.images, first), (image, 1))[...] = 0
    a.y.write((a.images, a.bottom * line), (image, 1), last)[...] = 0
    for at, pixels in ((0, a.left), ((a.left + a.width) * a.channels, a.right)):
        shape = (*beside[:2], pixels * a.channels)
        a.y.write(shape, (image, line, 1), first + at)[...] = 0


@means("f32_gather")
def gather(a: CallArguments) -> None:
    """Each index of an axis is looked up in a table of offsets."""
    tables = [np.asarray(table.values) for table in a.offsets]
    shape = (*a.n, a.count)
    assert shape[:4] == tuple(map(len, tables))
    x = a.x.gather(np.add.outer(np.add.outer(np.add.outer(tables[0], tables[1]), tables[2]),
                                tables[3]), a.count)  # fmt: skip
    a.y.write(shape, (*a.y_stride, 1))[...] = x


@means("f32_pick")
def pick(a: CallArguments) -> None:
    """Places along an axis are looked up while the network runs."""
    index = a.index.read((a.places,), (a.index_step,))
    there = (index > -1 - a.size) & (index < a.size)
    places = np.where(there, index, 0).astype(int) % a.size
    outer = (np.arange(n) * stride for n, stride in zip(a.n, a.x_stride, strict=True))
    at = reduce(np.add.outer, (*outer, places * a.x_step))
    x = a.x.gather(at, a.count)
    shape, strides = (*a.n, a.places, a.count), (*a.y_stride, a.y_step, 1)
    a.y.write(shape, strides)[...] = np.where(there[:, None], x, np.float32(np.nan))


@means("u8_to_f32")
def bytes_to_floats(a: CallArguments) -> None:
    """Bytes of any layout, channels last."""
    shape = (a.images, a.channels, a.rows, a.width)
    x = a.x.read(shape, (a.x_image, a.x_channel, a.x_row, a.x_pixel))
    a.y.write(shape, (a.y_image, 1, a.y_row, a.y_pixel))[...] = x


def convert(a: CallArguments) -> None:
    """Whole numbers and booleans, which are whole numbers among floats too."""
    a.y.write(a.n, a.y_stride)[...] = a.x.read(a.n, a.x_stride)


for _dtype in CONVERTED:
    means(f"{_dtype.short}_to_floats")(convert)
    means(f"{_dtype.short}_from_floats")(convert)


@means("f32_resize_bilinear")
def resize_bilinear(a: CallArguments) -> None:
    """Between rows and columns that tables name."""
    low, high, left, right = (
        np.asarray(table.values)
        for table in (a.low_rows, a.high_rows, a.low_columns, a.high_columns)
    )
    down = a.down.read((a.out_height,), (1,)).reshape(1, -1, 1, 1)
    across = a.right.read((a.out_width,), (1,)).reshape(1, 1, -1, 1)
    images = np.arange(a.images) * a.in_image

    def pixels(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        at = images[:, None, None] + rows[:, None] + columns
        return a.in_.gather(at, a.channels)

    before, after = (
        pixels(low, side) * (1 - down) + pixels(high, side) * down for side in (left, right)
    )
    shape = (a.images, a.out_height, a.out_width, a.channels)
    a.out.write(shape, a.strides("out"))[...] = before * (1 - across) + after * across
