"""Batches: steps that follow each other are done for a few images of the batch after the others.

expand, depthwise 3x3, project, 8 images each   ->   4 times 2 images of each

How many are taken at once differs from layer to layer: early ones have large images and few
weights, late ones the opposite. So 8 images go through late layers together, after each pair of
them, one by one, went through those before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from math import prod

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.batches import MOST, images_at_once
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.steps import Steps


@dataclass(frozen=True)
class HeldImages:
    """The images that lie in a buffer for a while, and the steps from first to last that it is."""

    images: range
    first: int
    last: int


@dataclass(frozen=True)
class Turn:
    """A step on some `images`; `held` has what lies in each inner buffer meanwhile."""

    step: int
    images: range
    held: Mapping[int, HeldImages]


@dataclass(frozen=True)
class BatchRun:
    """Steps that can be done for some of a number of images, `at_most` so many at once.

    Numbers of steps are within the run. `apart` has the elements from one image to the next in each
    buffer, `inner` the buffers that no other steps touch.
    """

    steps: tuple[KernelCall, ...]
    images: int
    apart: Mapping[int, int]
    inner: frozenset[int]
    buffers: Sequence[Buffer]
    constants: Constants
    at_most: int = MOST

    @cached_property
    def one(self) -> Steps:
        """The steps on the first image alone, and its part of each inner buffer."""
        buffers = [
            self.room(number, 1) if number in self.inner else buffer
            for number, buffer in enumerate(self.buffers)
        ]
        return Steps([self.part(step, 1) for step in range(len(self.steps))], buffers)

    def room(self, number: int, images: int) -> Buffer:
        """Return a buffer with room for fewer images."""
        buffer = self.buffers[number]
        frame = buffer.frame and replace(buffer.frame, shape=(images, *buffer.frame.shape[1:]))
        return replace(buffer, elements=images * self.apart[number], frame=frame)

    def part(self, step: int, count: int) -> KernelCall:
        """Return a step for the first `count` images."""
        split = self.steps[step].split("images")
        assert split
        return self.steps[step].part(split, 0, count)

    @cached_property
    def at_once(self) -> list[int]:
        """How many images each step takes at once where there are so many."""
        return [min(self._at_once(step), self.at_most) for step in self.one.steps]

    def _at_once(self, step: KernelCall) -> int:
        if step.layer:  # which was lowered for as many
            (written,) = step.written
            return step.layer.pixels * written.shape[1] // prod(written.shape)
        given, found = (
            sum(prod(view.shape) for view in views if view.buffer in self.apart)
            for views in (step.read, step.written)
        )
        return images_at_once(self.images, given, found, self.constants)

    @cached_property
    def uses(self) -> Mapping[int, tuple[int, int]]:
        """The first and the last step to touch each inner buffer."""
        uses: dict[int, tuple[int, int]] = {}
        for number, step in enumerate(self.one.steps):
            for buffer in {view.buffer for view in step.views} & self.inner:
                uses[buffer] = (uses.get(buffer, (number,))[0], number)
        return uses

    def turns(self, images: range, at_once: Sequence[int]) -> Iterator[Turn]:
        """Yield the steps on some images in their order; each takes up to so many at once."""
        while images:
            count = 1 << (min(max(at_once), len(images)).bit_length() - 1)
            yield from self._turns(range(len(self.steps)), images[:count], {}, at_once)
            images = images[count:]

    def _turns(
        self,
        steps: Sequence[int],
        images: range,
        held: Mapping[int, HeldImages],
        at_once: Sequence[int],
    ) -> Iterator[Turn]:
        runs = [
            (together, list(run))
            for together, run in groupby(steps, lambda step: at_once[step] >= len(images))
        ]
        held = {**held, **dict(self._held(runs, images))}
        half = len(images) // 2
        for together, run in runs:
            if together:
                yield from (Turn(step, images, held) for step in run)
            else:
                for some in (images[:half], images[half:]):
                    yield from self._turns(run, some, held, at_once)

    def _held(
        self, runs: Sequence[tuple[bool, list[int]]], images: range
    ) -> Iterator[tuple[int, HeldImages]]:
        """Yield the inner buffers that none but these steps touch, and what lies in them.

        A run that is repeated needs what it reads, and has what it writes, all the time.
        """
        ends = {
            step: (step, step) if together else (run[0], run[-1])
            for together, run in runs
            for step in run
        }
        for buffer, (first, last) in self.uses.items():
            if first in ends and last in ends:
                yield buffer, HeldImages(images, ends[first][0], ends[last][1])

    def moved(self, call: KernelCall, start: int, places: Mapping[int, "ImagePlace"]) -> KernelCall:
        """Return a call on the first images for those from `start` on.

        Some buffers have other `places`; what is scratch memory stays as it is.
        """
        moved = {
            name: self._moved(view, start, places)
            for name, view in call.arguments.items()
            if isinstance(view, TensorView) and name not in call.row.scratch
        }
        origin = call.origin
        if origin:
            written = tuple(self._moved(view, start, {}) for view in origin.written)
            origin = replace(origin, written=written)
        return replace(call.with_arguments(**moved), origin=origin, splits=())

    def _moved(
        self, view: TensorView, start: int, places: Mapping[int, "ImagePlace"]
    ) -> TensorView:
        if view.buffer not in self.apart:
            return view
        place = places.get(view.buffer, ImagePlace(view.buffer, 0))
        offset = view.offset + (start - place.first) * self.apart[view.buffer]
        return replace(view, buffer=place.buffer, offset=offset)


@dataclass(frozen=True)
class ImagePlace:
    """Another buffer in which some images of a buffer lie, from image `first` on."""

    buffer: int
    first: int


# ------------------------------------------------------------------------------ finding batches


def find_batches(whole: Steps, constants: Constants) -> Iterator[BatchRun | range]:
    """Yield all steps in their order: those of several images as batches, others by number."""
    found = [images_apart(step, whole.buffers) for step in whole.steps]
    for images, group in groupby(range(len(found)), lambda at: found[at][0]):
        steps = list(group)
        if images < 2:
            yield range(steps[0], steps[-1] + 1)
            continue
        apart = {b: size for at in steps for b, size in found[at][1].items()}
        inner = {
            b
            for b, use in whole.uses.items()
            if b in apart and steps[0] <= use.first and use.last <= steps[-1]
        }
        yield BatchRun(
            tuple(whole.steps[at] for at in steps), images, apart, frozenset(inner), whole.buffers,
            constants,
        )  # fmt: skip


def images_apart(step: KernelCall, buffers: Sequence[Buffer]) -> tuple[int, Mapping[int, int]]:
    """Return how many images a step can be done for one by one, and how far apart they lie.

    That is the elements between two images, by buffer. The number is 1 where the step touches
    anything else than as many equal parts of each buffer, one for each image.
    """
    split = step.split("images")
    if split is None:
        return 1, {}
    one, two = (step.part(split, at, 1).arguments for at in (0, 1))
    apart: dict[int, int] = {}
    for name, view in one.items():
        if not isinstance(view, TensorView) or name in step.row.scratch:
            continue
        if buffers[view.buffer].space == "weights":
            if two[name] != view:  # a constant that has images of its own
                return 1, {}
            continue
        size, rest = divmod(buffers[view.buffer].elements, split.length)
        low, high = _ends(view)
        if rest or low < 0 or high >= size or two[name].offset != view.offset + size:
            return 1, {}
        apart[view.buffer] = size
    return split.length, apart


def _ends(view: TensorView) -> tuple[int, int]:
    steps = [(n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True)]
    low, high = (sum(s for s in steps if sign * s > 0) for sign in (-1, 1))
    return view.offset + low, view.offset + high
