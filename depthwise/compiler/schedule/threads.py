"""Dividing the work of a plan among threads: which rows or channels of each step they compute.

Threads meet between regions. A step joins the region before it where no thread needs what another
computes there: a depthwise convolution by channels follows its expansion by channels at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from math import prod

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.calls import KernelCall, RowAccess, Split, find_row_span
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.batches import BatchRun
from depthwise.compiler.schedule.slices import SlicedPair
from depthwise.compiler.schedule.streaming import Chain, moves_apart, stream

Parts = tuple[tuple[KernelCall, ...], ...]  # what each thread does, at the same time

BEAM = 8  # divisions of the steps so far that are kept


@dataclass(frozen=True)
class BufferArea:
    """Rows and channels of a buffer, the ends not included; `width` bytes for one of each."""

    buffer: int
    rows: tuple[int, int]
    channels: tuple[int, int]
    width: int

    def overlap(self, other: "BufferArea") -> int:
        """Return the bytes that are in both."""
        if self.buffer != other.buffer:
            return 0
        rows = min(self.rows[1], other.rows[1]) - max(self.rows[0], other.rows[0])
        channels = min(self.channels[1], other.channels[1]) - max(
            self.channels[0], other.channels[0]
        )
        return max(rows, 0) * max(channels, 0) * self.width


@dataclass(frozen=True)
class Share:
    """What one thread does of a step or a chain: what it reads and writes, and about how long."""

    steps: tuple[KernelCall, ...] = ()
    reads: tuple[BufferArea, ...] = ()
    writes: tuple[BufferArea, ...] = ()
    time: float = 0.0

    def with_more(self, other: "Share", waiting: float) -> "Share":
        """Return this share followed by another, which waits so long for what others wrote."""
        return Share(
            self.steps + other.steps, self.reads + other.reads, self.writes + other.writes,
            self.time + other.time + waiting,
        )  # fmt: skip


Shares = tuple[Share, ...]  # one a thread


@dataclass(frozen=True)
class Division:
    """All steps so far: regions that are done, and the shares of the last, which is still open.

    Times are estimates; they only have to rank the ways to divide a step.
    """

    constants: Constants
    regions: tuple[Parts, ...] = ()
    open: Shares = ()
    cost: float = 0.0
    owners: Mapping[int, tuple[tuple[BufferArea, int], ...]] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The estimated time until all threads have met."""
        longest = max((share.time for share in self.open), default=0.0)
        return self.cost + longest + self.constants.meeting_of(len(self.open))

    def closed(self) -> "Division":
        """Return the division after a meeting."""
        if not self.open:
            return self
        parts = tuple(share.steps for share in self.open)
        return replace(self, regions=(*self.regions, parts), open=(), cost=self.total)

    def then(self, shares: Shares) -> "Division":
        """Return the division with one more step, in the open region where that can be."""
        before = self if self.open and not conflict(self.open, shares) else self.closed()
        count = max(len(before.open), len(shares))
        opened = [
            _at(before.open, thread).with_more(
                _at(shares, thread),
                self.constants.foreign * self._foreign(_at(shares, thread), thread),
            )
            for thread in range(count)
        ]
        return replace(before, open=tuple(opened), owners=self._with_owners(shares))

    def _foreign(self, share: Share, thread: int) -> float:
        """Return the bytes that a share reads and another thread was the last to write."""
        return sum(
            box.overlap(written)
            for box in share.reads
            for written, owner in self.owners.get(box.buffer, ())
            if owner != thread
        )

    def _with_owners(self, shares: Shares) -> Mapping[int, tuple[tuple[BufferArea, int], ...]]:
        written = [(box, thread) for thread, share in enumerate(shares) for box in share.writes]
        owners = dict(self.owners)
        for box, thread in written:
            kept = (
                pair
                for pair in owners.get(box.buffer, ())
                if pair in written or not box.overlap(pair[0])
            )
            owners[box.buffer] = (*kept, (box, thread))
        return owners


def _at(shares: Shares, thread: int) -> Share:
    return shares[thread] if thread < len(shares) else Share()


def conflict(before: Shares, after: Shares) -> bool:
    """Tell whether a thread would need, or overwrite, what another does in the same region."""
    return any(
        _meet(first.writes, second.reads + second.writes) or _meet(first.reads, second.writes)
        for one, first in enumerate(before)
        for two, second in enumerate(after)
        if one != two
    )


def _meet(boxes: Sequence[BufferArea], others: Sequence[BufferArea]) -> bool:
    return any(box.overlap(other) for box in boxes for other in others)


# ----------------------------------------------------------------------------- dividing one step


@dataclass(frozen=True)
class Divider:
    """Divides steps that work on `buffers` among `threads`."""

    buffers: Sequence[Buffer]
    threads: int
    constants: Constants

    def options(self, step: KernelCall) -> Iterator[Shares]:
        """Return the ways to do a step: by one thread, or along its splits by all or by fewer."""
        time = self._work(step) + self._fetch(step)
        yield (Share((step,), self._boxes(step.views), self._boxes(step.written), time),)
        if time < 2 * self.constants.meeting / self.threads:
            return
        found: set[tuple[str, int]] = set()
        threads = self.threads
        while threads > 1:
            for split in step.splits:
                cuts = cut(split, threads)
                way = split.axis, len(cuts)
                if split.axis != "images" and len(cuts) > 1 and way not in found:
                    found.add(way)
                    yield tuple(self._share(step, split, *ends) for ends in cuts)
            yield from self._grids(step, threads)
            threads //= 2

    def _grids(self, step: KernelCall, threads: int) -> Iterator[Shares]:
        """Yield the way to do a step by rows and channels where either alone is too few for all."""
        rows, channels = step.split("rows"), step.split("channels")
        if not rows or not channels:
            return
        most = [len(cut(split, threads)) for split in (rows, channels)]
        if max(most) == threads:
            return
        pairs = product(range(2, most[0] + 1), range(2, most[1] + 1))
        grid = max((pair for pair in pairs if prod(pair) <= threads), key=prod, default=None)
        if grid is None or prod(grid) <= max(most):
            return
        shares: list[Share] = []
        for start, stop in cut(channels, grid[1]):
            part = step.part(channels, start, stop - start)
            across = part.split("rows")
            if across is None:
                return
            shares += [self._share(part, across, *ends) for ends in cut(across, grid[0])]
        yield tuple(shares)

    def _share(self, step: KernelCall, split: Split, start: int, stop: int) -> Share:
        part = step.part(split, start, stop - start)
        boxes = self._part_boxes(step, split, part, (start, stop))
        touched, written = (
            tuple(box for group in groups for box in group)
            for groups in (boxes, boxes[-len(step.written) :])
        )
        return Share((part,), touched, written, self._work(part) + self._fetch(part))

    def chain(self, chain: Chain, parts: Parts) -> Shares:
        """Return the shares of a chain that is streamed in `parts`, each of some rows."""
        rows = chain.splits[-1]
        *before, last = chain.steps
        views = (p for step in chain.steps for p in (*step.read, *step.written[:-1]))
        touched = self._boxes(tuple(views))
        on_the_way = tuple(box for step in before for box in self._boxes(step.written))
        on_the_way += self._boxes(last.written[:-1])
        work, fetch = (sum(map(each, chain.steps)) for each in (self._work, self._fetch))
        shares = []
        for steps, (start, stop) in zip(parts, cut(rows, len(parts)), strict=True):
            written = self._reached(rows.writes, (start, stop)) if rows.writes else ()
            written += on_the_way
            share = (stop - start) / rows.length
            shares.append(Share(steps, touched + written, written, work * share + fetch))
        return tuple(shares)

    def pair(self, pair: SlicedPair, add: Callable[[Buffer], int]) -> Iterator[Shares]:
        """Yield the ways to do a pair in slices: by one thread, or by all, each with a window.

        None where there are fewer slices than threads. `add` gives a buffer its number.
        """
        counts = sorted({1, self.threads})
        if len(cut(pair.splits[0], self.threads)) < self.threads:
            return
        for threads in counts:
            yield tuple(
                self._slices(pair, ends, add(pair.window)) for ends in cut(pair.splits[0], threads)
            )

    def _slices(self, pair: SlicedPair, ends: tuple[int, int], window: int) -> Share:
        """Return the share of a thread in a pair that is done in slices."""
        steps = zip(pair.steps, pair.splits, strict=True)
        before, after = (self._share(step, split, *ends) for step, split in steps)
        both = before.with_more(after, 0.0)

        def outer(boxes: Sequence[BufferArea]) -> tuple[BufferArea, ...]:
            return tuple(box for box in boxes if box.buffer != pair.buffer)

        calls = tuple(pair.slices(*ends, window))
        return Share(calls, outer(both.reads), outer(both.writes), both.time)

    def batch(self, batch: BatchRun, calls: Sequence[tuple[KernelCall, ...]]) -> Shares:
        """Return the shares of a batch, of which each thread does as many images in its calls."""
        touched, written = (
            tuple(box for box in self._boxes(tuple(views)) if box.buffer not in batch.inner)
            for views in (
                (view for step in batch.steps for view in step.views),
                (view for step in batch.steps for view in step.written),
            )
        )
        images = batch.images // self.threads
        time = sum(self._work(step) * images + self._fetch(step) for step in batch.one.steps)
        return tuple(Share(steps, touched, written, time) for steps in calls)

    def _work(self, step: KernelCall) -> float:
        """Return about how many nanoseconds a step computes."""
        if times := step.row.multiply_add:
            outputs = prod(step.written[-1].shape) / step.whole.written[-1].shape[1]
            weights = sum(prod(view.shape) for view in step.whole.weights(self.buffers))
            return weights * outputs * times * self.constants.multiply_add
        return self.constants.element * sum(prod(view.shape) for view in step.views)

    def _fetch(self, step: KernelCall) -> float:
        """Return about how many nanoseconds the weights of a step take to come."""
        if not step.row.multiply_add:
            return 0.0
        share = step.written[-1].shape[1] / step.whole.written[-1].shape[1]
        return step.whole.weight_bytes(self.buffers) * share * self.constants.weight

    def _boxes(self, views: Sequence[TensorView]) -> tuple[BufferArea, ...]:
        """Return what of the arena is in any of the views."""
        return tuple(box for view in views for box in self._box(view))

    def _part_boxes(
        self, step: KernelCall, split: Split, part: KernelCall, ends: tuple[int, int]
    ) -> list[tuple[BufferArea, ...]]:
        """Return what a part touches of each view; more, where that is not known."""
        boxes = []
        for whole, own in zip(step.views, part.views, strict=True):
            reaches = [reach for reach in split.reads if reach.view.buffer == whole.buffer]
            if split.axis == "rows" and reaches:
                boxes.append(tuple(box for r in reaches for box in self._reached(r, ends)))
            elif split.axis == "channels" and own.shape[1:2] == (ends[1] - ends[0],):
                boxes.append(self._box(own))
            else:
                boxes.append(self._box(whole))
        if split.axis == "rows" and split.writes:
            boxes[-1] = self._reached(split.writes, ends)
        return boxes

    def _reached(self, reach: RowAccess, ends: tuple[int, int]) -> tuple[BufferArea, ...]:
        boxes, buffer = self._box(reach.view), self.buffers[reach.view.buffer]
        touch = find_row_span(reach, buffer)
        if touch is None:
            return boxes
        rows = (touch.low(ends[0]), touch.high(ends[1] - 1) + 1)
        return tuple(replace(box, rows=rows) for box in boxes)

    def _box(self, view: TensorView) -> tuple[BufferArea, ...]:
        """Return all rows of a view's buffer, and its own channels; nothing outside the arena."""
        buffer = self.buffers[view.buffer]
        if buffer.space != "arena":
            return ()
        size = buffer.element.bytes
        if buffer.frame is None:
            steps = zip(view.shape, view.strides, strict=True)
            end = view.offset + 1 + sum((n - 1) * stride for n, stride in steps)
            return (BufferArea(view.buffer, (0, 1), (view.offset, end), size),)
        frame, channels = buffer.frame, (0, buffer.frame.pixel)
        if len(view.shape) == 4 and (view.strides[1] == 1 or view.shape[1] == 1):
            channel = view.offset % frame.row % frame.pixel
            of_pixels = all(view.strides[axis] % frame.pixel == 0 for axis in (0, 2, 3))
            if of_pixels and channel + view.shape[1] <= frame.pixel:
                channels = (channel, channel + view.shape[1])
        rows = (0, frame.rows * frame.shape[0])
        return (BufferArea(view.buffer, rows, channels, size * frame.shape[3]),)


def cut(split: Split, threads: int) -> list[tuple[int, int]]:
    """Return up to `threads` ranges that make up a split's axis, each of whole grains."""
    grains = -(-split.length // split.grain)
    count = min(threads, grains)
    edges = [split.grain * (grains * i // count) for i in range(count)] + [split.length]
    return list(pairwise(edges))


def stream_parts(
    chain: Chain, height: int, threads: int, add_buffer: Callable[[Buffer], int]
) -> Parts | None:
    """Return a streamed chain, each thread with rows and windows of its own.

    At the edges between threads both compute the rows that both need. None where threads would
    write the same rows of a buffer that others read.
    """
    rows = chain.splits[-1]
    cuts = cut(rows, min(threads, max(1, rows.length // 2)))
    outer = [split.writes for split in chain.splits[:-1]]
    if len(cuts) > 1 and any(r and r.view.buffer not in chain.inner for r in outer):
        return None
    parts = []
    for start, stop in cuts:
        bands = chain.bands(start, stop, height)
        if not moves_apart(bands):
            return None
        parts.append(tuple(stream(chain, bands, add_buffer)))
    return tuple(parts)


def divide(items: Sequence[Sequence[Shares]], threads: int, constants: Constants) -> Division:
    """Return the cheapest division found; `items` are the ways to do each step."""
    if threads == 1:  # a step is a region, so that buffers live no longer than they must
        shares = [share for ((share,), *_) in items]
        return Division(
            constants, tuple((share.steps,) for share in shares),
            cost=sum(share.time for share in shares),
        )  # fmt: skip
    beam = [Division(constants)]
    for options in items:
        tried = [division.then(shares) for division in beam for shares in options]
        beam = sorted(tried, key=lambda division: division.total)[:BEAM]
    return beam[0].closed()
