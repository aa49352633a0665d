"""Kernels that move elements, or fill memory with one number."""

import numpy as np

from depthwise.compiler.verification.oracle.memory import Arguments


def copy(a: Arguments) -> None:
    """f32_copy: y = x, over six axes.

    Rows that stay in a window are copied whole, with channels that no later band reads.
    """
    shape, strides, to = (a.numbers(name, 6) for name in "nxy")
    if a.pointer("x").buffer == a.pointer("y").buffer:
        a.x.move(a.y, shape, strides, to)
    else:
        x = a.x.read(shape, strides)
        a.y.write(shape, to)[...] = x


def fill(a: Arguments) -> None:
    """f32_fill: one number everywhere."""
    a.y.write((*a.numbers("n", 3), a.count), (*a.numbers("y", 3), 1))[...] = a.value


def fill_border(a: Arguments) -> None:
    """f32_fill_border: zeros above, below, left and right of each image."""
    line = (a.left + a.width + a.right) * a.channels
    image = (a.top + a.rows + a.bottom) * line
    first, last = a.top * line, (a.top + a.rows) * line
    beside = (a.images, a.rows, a.channels)
    a.y.write((a.images, first), (image, 1))[...] = 0
    a.y.write((a.images, a.bottom * line), (image, 1), last)[...] = 0
    for at, pixels in ((0, a.left), ((a.left + a.width) * a.channels, a.right)):
        shape = (*beside[:2], pixels * a.channels)
        a.y.write(shape, (image, line, 1), first + at)[...] = 0


def gather(a: Arguments) -> None:
    """f32_gather: each index of an axis is looked up in a table of offsets."""
    tables = [np.asarray(a.table(f"t{i}")) for i in range(4)]
    shape = (*a.numbers("n", 4), a.count)
    assert shape[:4] == tuple(map(len, tables))
    x = a.x.gather(np.add.outer(np.add.outer(np.add.outer(tables[0], tables[1]), tables[2]),
                                tables[3]), a.count)  # fmt: skip
    a.y.write(shape, (*a.numbers("y", 4), 1))[...] = x


def bytes_to_floats(a: Arguments) -> None:
    """u8_to_f32: bytes of any layout, channels last."""
    shape = (a.images, a.channels, a.rows, a.width)
    x = a.x.read(shape, (a.x_image, a.x_channel, a.x_row, a.x_pixel))
    a.y.write(shape, (a.y_image, 1, a.y_row, a.y_pixel))[...] = x


def resize_bilinear(a: Arguments) -> None:
    """f32_resize_bilinear: between rows and columns that tables name."""
    low, high, left, right = (
        np.asarray(a.table(name))
        for name in ("low_rows", "high_rows", "low_columns", "high_columns")
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
