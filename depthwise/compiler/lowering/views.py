"""Where values lie: buffers, and strided views of them."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from depthwise.graph import Shape
from depthwise.graph.dtypes import FLOAT32, DType, find_dtype
from depthwise.graph.ops import Padding

Space = Literal["arena", "weights", "input", "output"]


@dataclass(frozen=True)
class Buffer:
    """Memory of `elements` of one type; `index` numbers the inputs and outputs.

    `frame` tells how images lie in the arena. `within` is another buffer of which it takes a part,
    and the byte of it where that starts.
    """

    space: Space
    elements: int
    index: int = 0
    dtype: str = FLOAT32.name
    frame: "PaddedLayout | None" = None
    within: tuple[int, int] | None = None

    @property
    def element(self) -> DType:
        """The element type, in whose elements all sizes and offsets in the buffer are."""
        return find_dtype(self.dtype)

    @property
    def bytes(self) -> int:
        """The bytes that it takes."""
        return self.elements * self.element.bytes


@dataclass(frozen=True)
class TensorView:
    """A value in a buffer: `offset` of its first element and `strides` along its axes.

    Both are in elements of the buffer's type.
    A value of rank 4 is (N, C, H, W) by shape and lies channels last: its channel stride is 1.
    """

    buffer: int
    offset: int
    shape: Shape
    strides: Shape

    @property
    def image(self) -> int:
        """Elements from one image to the next."""
        return self.strides[0]

    @property
    def row(self) -> int:
        """Elements from one row of pixels to the next."""
        return self.strides[2]

    @property
    def pixel(self) -> int:
        """Elements from one pixel to the next."""
        return self.strides[3]

    def part(self, axis: int, start: int, length: int) -> "TensorView":
        """Return the view of elements start to start + length along one axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return replace(self, offset=self.offset + start * self.strides[axis], shape=shape)


@dataclass(frozen=True)
class PaddedLayout:
    """How images (N, C, H, W) lie in a buffer: pixels `pixel` elements apart, zeros around.

    Around images of bytes lies `value`, the byte that stands for 0.
    """

    shape: Shape
    pixel: int
    border: Padding
    value: int = 0

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return (self.border.left + self.shape[3] + self.border.right) * self.pixel

    @property
    def rows(self) -> int:
        """Rows of an image, its border's included."""
        return self.border.top + self.shape[2] + self.border.bottom

    def view(self, buffer: int) -> TensorView:
        """Return where the images lie in a buffer that starts with the first one's border."""
        first = self.border.top * self.row + self.border.left * self.pixel
        return TensorView(
            buffer, first, self.shape, (self.rows * self.row, 1, self.row, self.pixel)
        )


def row_major(shape: Shape) -> Shape:
    """Return the strides of a packed tensor, the last axis innermost."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def is_canonical(view: TensorView) -> bool:
    """Tell whether a view lies as values of its rank do: channels last, or packed row-major."""
    shape, strides = view.shape, view.strides
    if len(shape) == 4:
        return shape[1] == 1 or strides[1] == 1
    packed = row_major(shape)
    return all(n == 1 or s == p for n, s, p in zip(shape, strides, packed, strict=True))


def reshaped(view: TensorView, shape: Shape) -> TensorView | None:
    """Return the same elements, in the same row-major order, seen as `shape`; None if they move."""
    old = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1]
    merged: list[tuple[int, int]] = []  # runs of axes that step evenly through memory
    for size, stride in old:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    strides, left = [], list(reversed(merged))
    for size in reversed(shape):
        if size == 1:
            strides.append(strides[-1] if strides else 1)
            continue
        if not left or left[0][0] % size:
            return None
        run, stride = left[0]
        strides.append(stride)
        left[0] = (run // size, stride * size)
        if left[0][0] == 1:
            left.pop(0)
    return replace(view, shape=shape, strides=tuple(reversed(strides)))
