"""Streaming: steps that follow each other are done in bands of rows, band after band.

expand, depthwise 3x3, project, 56 rows each   ->   7 times 8 rows of each

What lies between them needs a window of 10 rows instead of 58, which stays in the second cache, and
no row is computed twice: before a band the last rows of the window move to its start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from depthwise.compiler.lowering.calls import KernelCall, RowAccess, RowSpan, Split, find_row_span
from depthwise.compiler.lowering.loops import copy_loops
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.border_calls import border_call, fill_call


@dataclass(frozen=True)
class Window:
    """Rows `base` to `top` of a buffer, its border's included; those up to `written` have data."""

    base: int
    top: int
    written: int


@dataclass(frozen=True)
class Band:
    """Rows that each step does, start and stop, and what it sees of the buffers between them."""

    parts: tuple[tuple[int, int], ...]
    windows: Mapping[int, Window]


@dataclass(frozen=True)
class Chain:
    """Steps that can be streamed; `inner` are the buffers that none but they touch."""

    steps: tuple[KernelCall, ...]
    inner: frozenset[int]
    buffers: Sequence[Buffer]

    @property
    def rows(self) -> int:
        """Rows of the last step's output."""
        return self.splits[-1].length

    @cached_property
    def splits(self) -> list[Split]:
        """How each step is done by rows."""
        splits = [step.split("rows") for step in self.steps]
        assert all(split and split.writes for split in splits)
        return [split for split in splits if split]

    @cached_property
    def written(self) -> list[int]:
        """The buffer that each step writes."""
        return [_writes(split).view.buffer for split in self.splits]

    @cached_property
    def writes(self) -> list[RowSpan]:
        """Where each step writes; what does not lie in rows is read by none of them."""
        reaches = map(_writes, self.splits)
        return [
            find_row_span(reach, self.buffers[reach.view.buffer]) or RowSpan(0, 0, 1)
            for reach in reaches
        ]

    @cached_property
    def readers(self) -> list[list[tuple[int, RowSpan]]]:
        """The later steps that read what each step writes, and where."""
        return [
            [
                (t, self._touch(reach))
                for t in range(s + 1, len(self.splits))
                for reach in self.splits[t].reads
                if reach.view.buffer == buffer
            ]
            for s, buffer in enumerate(self.written)
        ]

    @cached_property
    def touches(self) -> dict[int, list[tuple[int, RowSpan]]]:
        """The steps that read or write each inner buffer, and where."""
        return {
            buffer: [
                (s, self._touch(reach))
                for s, split in enumerate(self.splits)
                for reach in (*split.reads, _writes(split))
                if reach.view.buffer == buffer
            ]
            for buffer in sorted(self.inner)
        }

    def _touch(self, reach: RowAccess) -> RowSpan:
        touch = find_row_span(reach, self.buffers[reach.view.buffer])
        assert touch, f"{reach.view} is not touched row by row"
        return touch

    def bands(self, start: int, stop: int, height: int) -> list[Band]:
        """Return the bands that give rows start ... stop of the last output, `height` at a time."""
        final = self._targets(stop)
        done = self._firsts(start)
        bands = []
        for end in (*range(start + height, stop, height), stop):
            targets = [max(pair) for pair in zip(self._targets(end), done, strict=True)]
            parts = tuple(zip(done, targets, strict=True))
            windows = {b: self._window(b, parts, final) for b in self.touches}
            bands.append(Band(parts, windows))
            done = targets
        return bands

    def _targets(self, end: int) -> list[int]:
        """Return how many rows of each step's output are needed for `end` rows of the last."""
        lengths = [split.length for split in self.splits]
        targets = [0] * len(lengths)
        targets[-1] = end
        for s in range(len(lengths) - 2, -1, -1):
            rows, writes = lengths[s], self.writes[s]
            if self.readers[s]:
                tops = [read.high(targets[t] - 1) for t, read in self.readers[s] if targets[t]]
                rows = (max(tops) - writes.first) // writes.step + 1 if tops else 0
            elif end < self.rows:
                rows = -(-lengths[s] * end // self.rows)
            if end == self.rows and self.written[s] not in self.inner:
                rows = lengths[s]  # others read them all
            targets[s] = min(max(rows, 0), lengths[s])
        return targets

    def _firsts(self, start: int) -> list[int]:
        """Return the first row of each step's output that the last output's row `start` needs."""
        firsts = [0] * len(self.splits)
        firsts[-1] = start
        for s in range(len(self.splits) - 2, -1, -1):
            lows = [read.low(firsts[t]) for t, read in self.readers[s]]
            if start and lows:
                first = -((self.writes[s].last - min(lows)) // self.writes[s].step)
                firsts[s] = min(max(first, 0), self.splits[s].length)
        return firsts

    def _window(
        self, buffer: int, parts: Sequence[tuple[int, int]], final: Sequence[int]
    ) -> Window:
        bases, tops, written = [], [], [-1]
        for s, touch in self.touches[buffer]:
            start, stop = parts[s]
            if start < final[s]:
                bases.append(touch.low(start))
            if start < stop:
                tops.append(touch.high(stop - 1))
            if self.written[s] == buffer and stop:
                written.append(self.writes[s].high(stop - 1))
        base = max(0, min(bases, default=0))
        return Window(base, max(tops, default=base), max(written))

    def capacities(self, bands: Sequence[Band]) -> dict[int, int]:
        """Return the rows that the window of each inner buffer needs."""
        return {
            buffer: max(band.windows[buffer].top - band.windows[buffer].base + 1 for band in bands)
            for buffer in self.touches
        }

    def window_bytes(self, bands: Sequence[Band]) -> int:
        """Return the bytes of all windows."""
        rows = self.capacities(bands)
        return sum(count * self.row_bytes(buffer) for buffer, count in rows.items())

    def row_bytes(self, buffer: int) -> int:
        """Return the bytes of a row of a buffer's image."""
        return self.row(buffer) * self.buffers[buffer].element.bytes

    def row(self, buffer: int) -> int:
        """Return the elements of a row of a buffer's image."""
        frame = self.buffers[buffer].frame
        assert frame is not None
        return frame.row


def _writes(split: Split) -> RowAccess:
    assert split.writes is not None
    return split.writes


def moves_apart(bands: Sequence[Band]) -> bool:
    """Tell whether the rows that a window keeps never overlap the place that they move to."""
    return all(
        before.windows[b].written - after.windows[b].base < _shift(before, after, b)
        for before, after in pairwise(bands)
        for b in after.windows
        if _shift(before, after, b)
    )


def _shift(before: Band, after: Band, buffer: int) -> int:
    return after.windows[buffer].base - before.windows[buffer].base


def stream(
    chain: Chain, bands: Sequence[Band], add_buffer: Callable[[Buffer], int]
) -> list[KernelCall]:
    """Return the steps of all bands; `add_buffer` adds a window to those of the plan."""
    capacities = chain.capacities(bands)
    windows = {
        b: add_buffer(Buffer("arena", rows * chain.row(b), dtype=chain.buffers[b].dtype))
        for b, rows in capacities.items()
    }
    steps = [
        step
        for b, rows in capacities.items()
        for step in _open_window(chain, b, windows[b], bands[0].windows[b].base, rows)
    ]
    for before, band in pairwise((None, *bands)):
        assert band is not None
        for b in capacities:
            steps += _advance(chain, b, windows[b], before, band)
        for step, split, (start, stop) in zip(chain.steps, chain.splits, band.parts, strict=True):
            if start < stop:
                part = step.part(split, start, stop - start)
                steps.append(_seen(part, chain, windows, band))
    return steps


def _open_window(chain: Chain, buffer: int, window: int, base: int, rows: int) -> list[KernelCall]:
    """Return the step that sets the border's rows above and its columns to zero, if it has any."""
    frame = chain.buffers[buffer].frame
    assert frame is not None
    top, _, left, right = frame.border
    above = min(max(0, top - base), rows)
    if not above and not left and not right:
        return []
    first = chain.steps[0]
    view = TensorView(window, 0, (rows * frame.row,), (1,))
    arguments = {
        "images": 1, "rows": rows - above, "width": frame.shape[3], "channels": frame.pixel,
        "top": above, "bottom": 0, "left": left, "right": right, "y": view,
    }  # fmt: skip
    return [border_call(chain.buffers[buffer], arguments, first, "window")]


def _advance(
    chain: Chain, buffer: int, window: int, before: Band | None, band: Band
) -> list[KernelCall]:
    """Return the steps that move what is kept to a window's start, and set the border below."""
    frame, first, now = chain.buffers[buffer].frame, chain.steps[0], band.windows[buffer]
    typed = chain.buffers[buffer].element.short
    assert frame is not None

    def rows(start: int, count: int) -> TensorView:
        return TensorView(window, start * frame.row, (count * frame.row,), (1,))

    steps = []
    shift = _shift(before, band, buffer) if before else 0
    kept = before.windows[buffer].written - now.base + 1 if before else 0
    if shift and kept > 0:
        old, new = rows(shift, kept), rows(0, kept)
        moved = {**copy_loops(old.shape, old.strides, new.strides), "x": old, "y": new}
        steps.append(KernelCall(f"{typed}_copy", moved, first.name, first.path, "kept rows"))
    below = frame.border.top + frame.shape[2]
    if now.top >= below:
        start = max(below, now.base)
        view = rows(start - now.base, now.top - start + 1)
        steps.append(fill_call(chain.buffers[buffer], view, first, "border"))
    return steps


def _seen(step: KernelCall, chain: Chain, windows: Mapping[int, int], band: Band) -> KernelCall:
    """Return a step that finds the rows of inner buffers in their windows."""

    def moved(view: TensorView) -> TensorView:
        if view.buffer not in windows:
            return view
        skipped = band.windows[view.buffer].base * chain.row(view.buffer)
        return replace(view, buffer=windows[view.buffer], offset=view.offset - skipped)

    views = {n: moved(a) for n, a in step.arguments.items() if isinstance(a, TensorView)}
    return replace(step.with_arguments(**views), splits=())
