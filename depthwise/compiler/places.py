"""Where values lie: buffers, strided places in them, and what a call to a kernel is made of."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from depthwise.compiler.fused import Epilogue
from depthwise.graph import Shape
from depthwise.graph.ops import Activation, Padding

Space = Literal["arena", "weights", "input", "output"]


@dataclass(frozen=True)
class Buffer:
    """Memory of `floats` elements; `index` numbers the inputs and outputs.

    An input may be of bytes, "uint8"; sizes and offsets in it are then in bytes.
    """

    space: Space
    floats: int
    index: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Place:
    """A value in a buffer: `offset` of its first element and `strides` along its axes, in floats.

    A value of rank 4 is (N, C, H, W) by shape and lies channels last: its channel stride is 1.
    """

    buffer: int
    offset: int
    shape: Shape
    strides: Shape

    @property
    def image(self) -> int:
        """Floats from one image to the next."""
        return self.strides[0]

    @property
    def row(self) -> int:
        """Floats from one row of pixels to the next."""
        return self.strides[2]

    @property
    def pixel(self) -> int:
        """Floats from one pixel to the next."""
        return self.strides[3]

    def part(self, axis: int, start: int, length: int) -> "Place":
        """Return the places start ... start + length along one axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return replace(self, offset=self.offset + start * self.strides[axis], shape=shape)


@dataclass(frozen=True)
class Table:
    """Integers that the C code holds as a static array."""

    values: tuple[int, ...]


Argument = int | float | Place | Table | Activation | Epilogue | None


@dataclass(frozen=True)
class Step:
    """One call of a kernel, for the node `name` of the module `path`."""

    kernel: str
    arguments: tuple[Argument, ...]
    name: str
    path: str
    comment: str = ""

    @property
    def places(self) -> tuple[Place, ...]:
        """What the call reads and writes."""
        return tuple(a for a in self.arguments if isinstance(a, Place))


def row_major(shape: Shape) -> Shape:
    """Return the strides of a packed tensor, the last axis innermost."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def channels_last(shape: Shape, pixel: int, border: Padding) -> Shape:
    """Return the strides of (N, C, H, W) images whose pixels lie `pixel` floats apart."""
    row = (border.left + shape[3] + border.right) * pixel
    return ((border.top + shape[2] + border.bottom) * row, 1, row, pixel)


def is_canonical(place: Place) -> bool:
    """Tell whether a place lies as values of its rank do: channels last, or packed row-major."""
    shape, strides = place.shape, place.strides
    if len(shape) == 4:
        return shape[1] == 1 or strides[1] == 1
    packed = row_major(shape)
    return all(n == 1 or s == p for n, s, p in zip(shape, strides, packed, strict=True))


def reshaped(place: Place, shape: Shape) -> Place | None:
    """Return the same elements, in the same row-major order, seen as `shape`; None if they move."""
    old = [(n, s) for n, s in zip(place.shape, place.strides, strict=True) if n > 1]
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
    return replace(place, shape=shape, strides=tuple(reversed(strides)))
