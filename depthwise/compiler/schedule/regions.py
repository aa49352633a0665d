"""Regions: the calls of a plan, streamed where that was chosen, and divided among threads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.arena import Live, plan_arena
from depthwise.compiler.schedule.batches import BatchRun, HeldImages, ImagePlace, Turn, find_batches
from depthwise.compiler.schedule.borders import fill_border
from depthwise.compiler.schedule.partition import Group, Partition
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.schedule.streaming import stream
from depthwise.compiler.schedule.threads import (
    BufferArea,
    Divider,
    Division,
    Parts,
    Share,
    Shares,
    divide,
    stream_parts,
)
from depthwise.graph.dtypes import FLOAT32

Item = list[Shares]  # the ways to do a step, or a few steps at once


def make_regions(
    whole: Steps, partition: Partition, at_once: int, divider: Divider, buffers: list[Buffer]
) -> tuple[Division, list[Group]]:
    """Return the calls streamed as `partition` says, divided among threads; and what it said.

    Of a batch at most `at_once` images are taken at once. Windows of what is streamed are appended
    to `buffers`, which start with those of `whole`. Where fewer threads, a power of two, would be
    done sooner by the estimate, the others have nothing to do: 8 images on 16 threads, or chains of
    few rows.
    """
    groups = partition(whole)
    batches = list(find_batches(whole, divider.constants))
    found: list[tuple[Division, list[Buffer]]] = []
    powers = (1 << bit for bit in reversed(range((divider.threads - 1).bit_length())))
    for threads in (divider.threads, *powers):
        some, own = replace(divider, threads=threads), list(buffers)
        items: list[Item] = []
        for each in batches:
            if isinstance(each, BatchRun):
                batch = replace(each, at_most=at_once)
                items += _share_batch(batch, partition(batch.one), some, own)
            else:
                items += _share(whole, [g for g in groups if g.first in each], some, own)
        found.append((divide(items, threads, divider.constants), own))
    best, own = min(found, key=lambda pair: pair[0].cost)
    buffers[:] = own
    return best, groups


def _share(
    whole: Steps, groups: Sequence[Group], divider: Divider, buffers: list[Buffer]
) -> Iterator[Item]:
    """Yield the ways to do each group, streamed or step by step."""

    def add(buffer: Buffer) -> int:
        buffers.append(buffer)
        return len(buffers) - 1

    for group in groups:
        chain = whole.chain(group.first, group.last) if group.height else None
        pair = whole.pair(group.first) if group.channels else None
        parts = chain and stream_parts(chain, group.height, divider.threads, add)
        if chain and parts:
            yield [divider.chain(chain, parts)]
        elif pair and (ways := list(divider.pair(pair, add))):
            yield ways
        else:
            alone = whole.steps[group.first : group.last + 1]
            yield from (list(divider.options(step)) for step in alone)


# --------------------------------------------------------------------------------------- batches


def _share_batch(
    batch: BatchRun, groups: Sequence[Group], divider: Divider, buffers: list[Buffer]
) -> Iterator[Item]:
    """Yield the steps of a batch: each thread has as many images, the rest are shared by all."""
    each = batch.images // divider.threads
    if each:
        images = [range(t * each, (t + 1) * each) for t in range(divider.threads)]
        calls = [OwnImages(batch, groups, buffers).calls(some) for some in images]
        yield [divider.batch(batch, calls)]
    alone = replace(divider, buffers=batch.one.buffers)
    for image in range(each * divider.threads, batch.images):
        places = {}
        for number in sorted(batch.inner):
            buffers.append(batch.room(number, 1))
            places[number] = ImagePlace(len(buffers) - 1, image)
        for item in _share(batch.one, groups, alone, buffers):
            yield [tuple(_moved(share, batch, image, places) for share in way) for way in item]


def _moved(share: Share, batch: BatchRun, image: int, places: Mapping[int, ImagePlace]) -> Share:
    """Return what is done of the first image for another, whose values lie in other places."""

    def moved(area: BufferArea) -> BufferArea:
        if area.buffer in places:
            return replace(area, buffer=places[area.buffer].buffer)
        frame = batch.buffers[area.buffer].frame
        if area.buffer not in batch.apart or frame is None:
            return area
        first, end = (row + image * frame.rows for row in area.rows)
        return replace(area, rows=(first, end))

    calls = tuple(batch.moved(call, image, places) for call in share.steps)
    return replace(
        share, steps=calls, reads=tuple(map(moved, share.reads)),
        writes=tuple(map(moved, share.writes)),
    )  # fmt: skip


@dataclass
class OwnImages:
    """Writes the calls of a thread that does some images of a batch alone, in memory of its own.

    What is streamed is streamed image by image.
    """

    batch: BatchRun
    groups: Sequence[Group]
    buffers: list[Buffer]
    _windows: dict[int, int] = field(default_factory=dict)  # in place of buffers of the batch
    _lives: dict[int, Live] = field(default_factory=dict)  # of all windows, in steps
    _held: dict[int, HeldImages] = field(default_factory=dict)
    _known: dict[tuple[int, int], list[KernelCall]] = field(default_factory=dict)

    def calls(self, images: range) -> tuple[KernelCall, ...]:
        """Return all calls for some images."""
        at_once = list(self.batch.at_once)
        for group in self.groups:
            if group.height:
                at_once[group.first : group.last + 1] = [1] * (group.last + 1 - group.first)
        calls = tuple(
            placed
            for turn in self.batch.turns(images, at_once)
            for call in self._calls(turn.step, len(turn.images))
            for placed in self._placed(call, turn)
        )
        self._settle()
        return calls

    def _calls(self, step: int, count: int) -> list[KernelCall]:
        """Return the calls of a step, or of a chain that starts with it, on the first images."""
        if (step, count) not in self._known:
            self._known[step, count] = self._made(step, count)
        return self._known[step, count]

    def _made(self, step: int, count: int) -> list[KernelCall]:
        group = self._streamed(step)
        chain = group and self.batch.one.chain(group.first, group.last)
        if group is None or chain is None:
            return [self.batch.part(step, count)]
        if step > group.first:
            return []
        bands = chain.bands(0, chain.rows, group.height)
        first, last = group.first, group.last
        return stream(chain, bands, lambda room: self._add_window(room, first, last))

    def _streamed(self, step: int) -> Group | None:
        """Return the group of steps with which a step is streamed, if it is."""
        return next((g for g in self.groups if g.height and g.first <= step <= g.last), None)

    def _placed(self, call: KernelCall, turn: Turn) -> Iterator[KernelCall]:
        """Yield a call in the windows of its images, after those that zero their borders."""
        places = {}
        group = self._streamed(turn.step) or Group(turn.step, turn.step)  # its steps take turns
        for number in sorted({view.buffer for view in call.views} & self.batch.inner):
            held = turn.held[number]
            room = self.batch.room(number, len(held.images))
            first, last = min(held.first, group.first), max(held.last, group.last)
            window = self._window(number, room, first, last)
            places[number] = ImagePlace(window, held.images.start)
            if self._held.get(number) != held:
                yield from fill_border(room, window, call)
            self._held[number] = held
        scratch = {
            name: self._own(view, turn.step)
            for name in call.row.scratch
            if isinstance(view := call.arguments[name], TensorView)
        }
        yield self.batch.moved(call.with_arguments(**scratch), turn.images.start, places)

    def _own(self, view: TensorView, step: int) -> TensorView:
        """Return scratch memory of this thread in place of what all share."""
        if view.buffer in self._lives:  # a chain's
            return view
        room = replace(self.buffers[view.buffer], elements=prod(view.shape))
        return replace(view, buffer=self._window(view.buffer, room, step, step))

    def _window(self, number: int, room: Buffer, first: int, last: int) -> int:
        """Return the window of a buffer, with as much room as asked for from step to step."""
        if number not in self._windows:
            self._windows[number] = self._add_window(room, first, last)
        window = self._windows[number]
        before = self._lives[window]
        bytes = max(before.bytes, room.bytes)
        self._lives[window] = Live(bytes, min(before.first, first), max(before.last, last))
        return window

    def _add_window(self, room: Buffer, first: int, last: int) -> int:
        self.buffers.append(Buffer("arena", room.elements, dtype=room.dtype))
        window = len(self.buffers) - 1
        self._lives[window] = Live(self.buffers[window].bytes, first, last)
        return window

    def _settle(self) -> None:
        """Place all windows in one buffer: those that are never needed together share bytes."""
        arena = plan_arena(self._lives)
        self.buffers.append(Buffer("arena", arena.bytes // FLOAT32.bytes))
        room = len(self.buffers) - 1
        for window, live in self._lives.items():
            before = self.buffers[window]
            self.buffers[window] = replace(
                before, elements=live.bytes // before.element.bytes,
                within=(room, arena.offsets[window]),
            )  # fmt: skip


def separate_scratch(regions: Sequence[Parts], buffers: list[Buffer]) -> list[Parts]:
    """Return the regions with scratch memory of its own for each part of a call.

    Parts of one call share its buffers until here; theirs are appended to `buffers`.
    """

    def own(view: TensorView) -> TensorView:
        buffers.append(replace(buffers[view.buffer], elements=prod(view.shape)))
        return replace(view, buffer=len(buffers) - 1)

    def with_own(step: KernelCall) -> KernelCall:
        shared = step.row.scratch and not any(
            buffers[view.buffer].within
            for name in step.row.scratch
            if (view := step.arguments[name])
        )
        if step.origin is None or not shared:
            return step
        return step.with_arguments(**{n: own(step.arguments[n]) for n in step.row.scratch})

    return [tuple(tuple(map(with_own, part)) for part in region) for region in regions]
