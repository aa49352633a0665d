"""Slices: a convolution and the depthwise one that reads it are done some channels after others.

expand 112 -> 672, depthwise 3x3   ->   21 times 32 channels of each

What lies between them needs a window of 32 channels, with all rows, in which the depthwise
convolution finds what has just been written, where the whole image would have left the caches. No
sum is computed twice, and each weight passes by as often as before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from depthwise.compiler.lowering.calls import KernelCall, Split, pixel_strides
from depthwise.compiler.lowering.views import Buffer, PaddedLayout, TensorView

LEAST = 32  # channels of a slice, two cache lines of each pixel: 64 leave the first cache


@dataclass(frozen=True)
class SlicedPair:
    """A convolution and the depthwise one that alone reads what it writes.

    That lies in `buffer`, whose `frame` has one image.
    """

    steps: tuple[KernelCall, KernelCall]
    buffer: int
    frame: PaddedLayout

    @property
    def splits(self) -> tuple[Split, Split]:
        """How each step is done by channels, in whole slices."""
        found = [step.split("channels") for step in self.steps]
        before, after = (replace(split, grain=self.channels) for split in found if split)
        return before, after

    @property
    def channels(self) -> int:
        """Channels of a slice: whole panels of the convolution's weights."""
        split = self.steps[0].split("channels")
        assert split
        return split.grain * -(-LEAST // split.grain)

    @property
    def layout(self) -> PaddedLayout:
        """How a slice lies in its window."""
        _, _, rows, width = self.frame.shape
        return PaddedLayout((1, self.channels, rows, width), self.channels, self.frame.border)

    @property
    def window(self) -> Buffer:
        """What all slices lie in, one after the other; the zeros around them stay."""
        return Buffer("arena", self.layout.rows * self.layout.row, frame=self.layout)

    def slices(self, start: int, stop: int, window: int) -> Iterator[KernelCall]:
        """Yield the calls for channels from `start` up to `stop`, in the window of that number."""
        for first in range(start, stop, self.channels):
            count = min(self.channels, stop - first)
            for step, split in zip(self.steps, self.splits, strict=True):
                yield self._seen(step.part(split, first, count), first, window)

    def _seen(self, step: KernelCall, first: int, window: int) -> KernelCall:
        """Return a step that finds the channels from `first` on in their window."""
        moved = {
            name: self._moved(view, first, window)
            for name, view in step.arguments.items()
            if isinstance(view, TensorView) and view.buffer == self.buffer
        }
        return replace(step.with_arguments(**moved, **pixel_strides(**moved)), splits=())

    def _moved(self, view: TensorView, first: int, window: int) -> TensorView:
        image, own = self.frame, self.layout
        row, rest = divmod(view.offset, image.row)
        column, channel = divmod(rest, image.pixel)
        offset = row * own.row + column * own.pixel + channel - first
        strides = (
            own.rows * own.row, 1, view.row // image.row * own.row,
            view.pixel // image.pixel * own.pixel,
        )  # fmt: skip
        return TensorView(window, offset, view.shape, strides)
