"""What a convolution reads and writes, and how it walks over its input."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.lowering.calls import KernelCall, RowAccess, Split
from depthwise.compiler.lowering.views import TensorView
from depthwise.graph.ops import Conv2d, Pair


@dataclass(frozen=True)
class ConvOperands:
    """What one convolution reads and writes; residual and epilogue as Fused has them.

    `row_totals` is where it leaves the total of each row of its output, if it is asked for.
    """

    x: TensorView
    weight: np.ndarray
    bias: np.ndarray
    y: TensorView
    residual: TensorView | None
    epilogue: Epilogue
    row_totals: TensorView | None = None

    def rows(self, start: int, count: int, step: int) -> "ConvOperands":
        """Return the work on `count` rows of the output; each moves `step` floats in x."""
        x = replace(self.x, offset=self.x.offset + start * step)
        return replace(self.outputs(2, start, count), x=x)

    def images(self, axis: int, start: int, count: int) -> "ConvOperands":
        """Return the work on some places of the axis along which images lie."""
        return replace(self.outputs(axis, start, count), x=self.x.part(axis, start, count))

    def outputs(self, axis: int, start: int, count: int) -> "ConvOperands":
        """Return the work with a part of the output and of the residual alone."""
        residual = self.residual.part(axis, start, count) if self.residual else None
        row_totals = self.row_totals.part(axis, start, count) if self.row_totals else None
        y = self.y.part(axis, start, count)
        return replace(self, y=y, residual=residual, row_totals=row_totals)

    def runs(self, pixel: int) -> tuple[int, int, int]:
        """Return images, rows and width for a kernel: images in one row without a gap are one.

        An output pixel moves `pixel` elements in x.
        """
        images, _, rows, width = self.y.shape
        views = [self.y, self.residual] if self.residual else [self.y]
        gapless = self.x.image == width * pixel and all(p.image == width * p.pixel for p in views)
        return (1, 1, images * width) if rows == 1 and gapless else (images, rows, width)

    def collapsed(self, walk: "TapPattern") -> tuple["ConvOperands", tuple[int, int]]:
        """Make one long row of rows that follow each other without a gap: it fills more tiles.

        Returns the work, and what an output row and pixel move in x.
        """
        _, _, rows, width = self.y.shape
        views = [self.y, self.residual] if self.residual else [self.y]
        gapless = walk.row == width * walk.pixel and all(p.row == width * p.pixel for p in views)
        if rows == 1 or not gapless:
            return self, (walk.row, walk.pixel)

        def flat(view: TensorView) -> TensorView:
            shape = (*view.shape[:2], 1, rows * width)
            return replace(view, shape=shape, strides=(view.image, 1, 0, view.pixel))

        residual = flat(self.residual) if self.residual else None
        return replace(self, y=flat(self.y), residual=residual), (0, walk.pixel)


@dataclass(frozen=True)
class KeptTaps:
    """Which taps of its weights a call has: `run` of `all` from `first` on, `skip` after each run.

    In the order of the weights, as f32_conv takes them.
    """

    all: int
    first: int
    run: int
    skip: int

    def of(self, weight: np.ndarray) -> np.ndarray:
        """Return weights (K, C, R, S) of these taps alone, in rows of a run."""
        flat = weight.reshape(*weight.shape[:2], -1)
        apart = self.run + self.skip
        kept = [tap for tap in range(self.first, self.all) if (tap - self.first) % apart < self.run]
        return flat[:, :, kept].reshape(*weight.shape[:2], -1, self.run)

    @property
    def arguments(self) -> dict[str, int]:
        """Those of f32_conv."""
        return {
            "w_taps": self.all, "w_first": self.first, "w_run": self.run, "w_skip": self.skip
        }  # fmt: skip


@dataclass(frozen=True)
class TapPattern:
    """How a convolution walks over its input: taps, and an output row and pixel, in floats.

    `reach` are the rows of the input that are read. `window` is (R, S) where the taps are so many
    neighbours of stride 1, the lowest first. `line` is how many images have their pixels in the one
    row, 0 where each image has rows of its own. `some` says which taps of the weights these are,
    where not all.
    """

    taps: tuple[int, ...]
    row: int
    pixel: int
    reach: RowAccess
    window: Pair | None = None
    line: int = 0
    some: KeptTaps | None = None

    @property
    def kept(self) -> KeptTaps:
        """Which taps of the weights these are."""
        count = len(self.taps)
        return self.some or KeptTaps(count, 0, count, 0)

    def count_images(self, work: ConvOperands) -> int:
        """Return how many images are worked on."""
        return self.line or work.y.shape[0]

    def take(self, work: ConvOperands, start: int, count: int) -> ConvOperands:
        """Return the work on some images."""
        if not self.line:
            return work.images(0, start, count)
        pixels = work.y.shape[3] // self.line
        return work.images(3, start * pixels, count * pixels)

    def by_images(
        self, work: ConvOperands, part: Callable[["TapPattern", ConvOperands], KernelCall]
    ) -> Split | None:
        """Return the split in images; None where there is but one."""
        images = self.count_images(work)
        if images == 1:
            return None

        def some(start: int, count: int) -> KernelCall:
            return part(
                replace(self, line=count if self.line else 0), self.take(work, start, count)
            )

        return Split("images", images, some)

    def split(self, work: ConvOperands, part: Callable[[ConvOperands], KernelCall]) -> Split | None:
        """Return the split in rows of the output; None where there is but one."""
        rows = work.y.shape[2]
        if rows == 1:
            return None
        residual = [RowAccess(work.residual)] if work.residual else []
        return Split(
            "rows", rows, lambda start, count: part(work.rows(start, count, self.row)),
            reads=(replace(self.reach, view=work.x), *residual), writes=RowAccess(work.y),
        )  # fmt: skip


def input_rows(op: Conv2d, x: TensorView, first: int, taps: int) -> RowAccess:
    """Return the rows of its input that a convolution reads, the first row's from `first` on."""
    return RowAccess(x, op.stride[0], first, first + (taps - 1) * op.dilation[0])


def divisible_conv(
    step: Callable[[ConvOperands, int], KernelCall], walk: TapPattern, work: ConvOperands,
    grain: int, nested: bool = False,
) -> KernelCall:  # fmt: skip
    """Return the call of a convolution with the ways to do it in parts.

    By images, by rows of the output, and by output channels.

    Args:
        step: From a part of the work, and its first output channel, to the call that does it.
        walk: How it walks over its input.
        work: The whole.
        grain: Of what channels parts begin at multiples; 0 where they cannot be parted.
        nested: Whether a part of the channels can be done by rows in its turn.
    """

    def images(walk: TapPattern, work: ConvOperands) -> KernelCall:
        return divisible_conv(step, walk, work, grain, nested)

    def rows(first: int) -> Callable[[ConvOperands], KernelCall]:
        return lambda part: step(part, first)

    def channels(start: int, count: int) -> KernelCall:
        some = work.outputs(1, start, count)
        call = step(some, start)
        return call.divided(walk.split(some, rows(start))) if nested else call

    return step(work, 0).divided(
        walk.by_images(work, images),
        walk.split(work, rows(0)),
        Split("channels", work.y.shape[1], channels, grain) if grain else None,
    )
