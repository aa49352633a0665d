"""Calls of kernels, the ways to do one in parts, and the rows that a part touches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Literal

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.kernel import Kernel
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.lowering.algorithms import ConvWorkload
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.work import Arguments
from depthwise.graph.ops import Activation


@dataclass(frozen=True)
class Table:
    """Integers that the C code holds as a static array."""

    values: tuple[int, ...]


Number = int | float | tuple[int, ...]
Argument = (
    Number | TensorView | Table | tuple[Table, ...] | Activation | Epilogue | ByteEpilogue | None
)


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel, for the node `name` of the module `path`.

    `arguments` are those that the table of kernels has, by name and in its order. `splits` are the
    ways to do it in parts; a step without any is done in one. `layer` is what it computes where
    there were several ways.
    """

    kernel: str
    arguments: Arguments = field(hash=False)
    name: str
    path: str
    comment: str = ""
    layer: ConvWorkload | None = None
    splits: "tuple[Split, ...]" = field(default=(), compare=False, repr=False)
    origin: "Origin | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Hold the arguments to the table."""
        object.__setattr__(self, "arguments", self.row.bind(self.arguments))

    @property
    def row(self) -> Kernel:
        """What the table has for the kernel."""
        return KERNELS[self.kernel]

    @property
    def views(self) -> tuple[TensorView, ...]:
        """What the call reads and writes."""
        pairs, ahead = self.arguments.items(), self.row.ahead
        return tuple(a for name, a in pairs if isinstance(a, TensorView) and name not in ahead)

    @property
    def written(self) -> tuple[TensorView, ...]:
        """What the call writes, its scratch not included."""
        views = (self.arguments[name] for name in self.row.written)
        return tuple(view for view in views if isinstance(view, TensorView))

    @property
    def read(self) -> tuple[TensorView, ...]:
        """The other views of the call, its scratch among them."""
        others = (*self.row.written, *self.row.ahead)
        pairs = self.arguments.items()
        return tuple(a for name, a in pairs if isinstance(a, TensorView) and name not in others)

    def weights(self, buffers: Sequence[Buffer]) -> list[TensorView]:
        """Return the weights that the call reads, of a plan with these buffers."""
        return [view for view in self.views if buffers[view.buffer].space == "weights"]

    def weight_bytes(self, buffers: Sequence[Buffer]) -> int:
        """Return the bytes of the weights that the call reads."""
        return sum(
            buffers[view.buffer].element.bytes * prod(view.shape) for view in self.weights(buffers)
        )

    @property
    def whole(self) -> "KernelCall":
        """The step that this is a part of, or itself."""
        return self.origin.whole if self.origin else self

    def with_arguments(self, **arguments: Argument) -> "KernelCall":
        """Return the call with other arguments in place of those of these names."""
        return replace(self, arguments=self.row.bind({**self.arguments, **arguments}))

    def divided(self, *ways: "Split | None") -> "KernelCall":
        """Return the call with these ways to do it in parts; None where a way is not open."""
        return replace(self, splits=tuple(way for way in ways if way))

    def split(self, axis: "SplitAxis") -> "Split | None":
        """Return the way to do the step in parts along an axis, None where there is none."""
        return next((split for split in self.splits if split.axis == axis), None)

    def part(self, split: "Split", start: int, count: int) -> "KernelCall":
        """Return the step for `count` of a split's units from `start` on."""
        part = split.part(start, count)
        origin = Origin(self.whole, part.written)
        return replace(part, name=self.name, path=self.path, comment=self.comment, origin=origin)


@dataclass(frozen=True)
class Origin:
    """The whole step of which another is a part, and where in what it writes the part's own lies.

    A part that is streamed writes into a window, and so somewhere else.
    """

    whole: KernelCall
    written: tuple[TensorView, ...]


@dataclass(frozen=True)
class RowAccess:
    """Rows of an image that a step touches for rows a to b of its output, b not included.

    They are a * step + first to (b - 1) * step + last; those outside of the image are its border.
    The image is what `view` shows: its rows need not be rows of the buffer.
    """

    view: TensorView
    step: int = 1
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class RowSpan:
    """Rows of a buffer, its border's included, that a step touches for one row of its output."""

    first: int
    last: int
    step: int

    def low(self, row: int) -> int:
        """Return the first row touched for a row of the output."""
        return self.first + row * self.step

    def high(self, row: int) -> int:
        """Return the last row touched for a row of the output."""
        return self.last + row * self.step


def find_row_span(reach: RowAccess, buffer: Buffer) -> RowSpan | None:
    """Return which rows of its buffer a reach touches; None where it does not go row by row.

    A row of the image may be every second row of the buffer, several of them, or always the same
    one; where planes are transposed it is a column.
    """
    view, frame = reach.view, buffer.frame
    if frame is None or len(view.shape) != 4 or view.shape[0] != 1:
        return None
    if view.row % frame.row or min(view.strides) < 0:
        return None
    first, column = divmod(view.offset, frame.row)
    last = column + (view.shape[1] - 1) * view.strides[1] + (view.shape[3] - 1) * view.pixel
    apart = view.row // frame.row
    return RowSpan(
        first + reach.first * apart, first + reach.last * apart + last // frame.row,
        reach.step * apart,
    )  # fmt: skip


SplitAxis = Literal["images", "rows", "channels"]


@dataclass(frozen=True)
class Split:
    """An axis of `length`, along which a step is done in parts that start at multiples of `grain`.

    `part(start, count)` is the step for a part; one for some images has splits of its own. A split
    in rows of one image may know which rows it touches of the images that it reads and writes: then
    it can be streamed in bands of rows.
    """

    axis: SplitAxis
    length: int
    part: Callable[[int, int], KernelCall]
    grain: int = 1
    reads: tuple[RowAccess, ...] = ()
    writes: RowAccess | None = None


def pixel_strides(**views: TensorView | None) -> dict[str, int]:
    """Return what kernels take for each view: NAME_image, NAME_row, NAME_pixel, 0 for None."""
    return {
        f"{name.rstrip('_')}_{axis}": getattr(view, axis) if view else 0
        for name, view in views.items()
        for axis in ("image", "row", "pixel")
    }


def by_rows(part: Callable[..., KernelCall], *views: TensorView) -> Split | None:
    """Return the split of a step whose every view, the last one written, has a row for each row.

    `part(*views)` is the step on the same rows of each. None where there are no rows to part.
    """
    written = views[-1]
    if len(written.shape) != 4 or written.shape[2] == 1:
        return None

    def rows(start: int, count: int) -> KernelCall:
        return part(*(view.part(2, start, count) for view in views))

    reads = tuple(map(RowAccess, views[:-1]))
    return Split("rows", written.shape[2], rows, reads=reads, writes=RowAccess(written))


def by_channels(part: Callable[..., KernelCall], grain: int, *views: TensorView) -> Split | None:
    """Return the split of a step whose every view, the last one written, has a channel for each.

    None where there are no images, or not more channels than `grain`.
    """
    written = views[-1]
    if len(written.shape) != 4 or written.shape[1] <= grain:
        return None

    def channels(start: int, count: int) -> KernelCall:
        return part(*(view.part(1, start, count) for view in views))

    return Split("channels", written.shape[1], channels, grain)


def by_images(part: Callable[..., KernelCall], *views: TensorView) -> Split | None:
    """Return the split of a step whose every view, the last one written, has a place an image.

    `part(*views)` is the step on the same images of each, with its own splits. None where there is
    but one.
    """
    if not views[-1].shape or views[-1].shape[0] == 1:
        return None

    def images(start: int, count: int) -> KernelCall:
        return part(*(view.part(0, start, count) for view in views))

    return Split("images", views[-1].shape[0], images)


def divisible(
    part: Callable[..., KernelCall], *views: TensorView, rows: bool = False, grain: int = 0
) -> KernelCall:
    """Return the step `part(*views)`, whose every view, the last one written, has the same images.

    It can be done by images; by their `rows`, where each view has them all; and by channels, where
    each has them all and `grain` is not 0.
    """
    return part(*views).divided(
        by_images(partial(divisible, part, rows=rows, grain=grain), *views),
        by_rows(part, *views) if rows else None,
        by_channels(part, grain, *views) if grain else None,
    )
