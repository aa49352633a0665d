"""The calls of a lowered graph in order: which buffers each touches, which can be chained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from depthwise.compiler.lowering.calls import KernelCall, Split, find_row_span
from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.schedule.slices import SlicedPair
from depthwise.compiler.schedule.streaming import Chain


@dataclass(frozen=True)
class Use:
    """The first and last step that touch a buffer; `by_rows` if all know the rows they touch."""

    first: int
    last: int
    by_rows: bool


@dataclass(frozen=True)
class Steps:
    """All steps of a plan before any is streamed, and the buffers that they work on."""

    steps: Sequence[KernelCall]
    buffers: Sequence[Buffer]

    @cached_property
    def touched(self) -> Sequence[Mapping[int, bool]]:
        """Return the buffers of the arena that each step touches, and if it knows which rows."""
        return [
            {
                buffer: _knows_rows(step, buffer, self.buffers[buffer])
                for buffer in sorted({view.buffer for view in step.views})
                if self.buffers[buffer].space == "arena"
            }
            for step in self.steps
        ]

    @cached_property
    def uses(self) -> Mapping[int, Use]:
        """Return how each buffer of the arena is used."""
        uses: dict[int, Use] = {}
        for position, (step, touched) in enumerate(zip(self.steps, self.touched, strict=True)):
            for buffer, known in touched.items():
                frame = self.buffers[buffer].frame
                by_rows = known and frame is not None and frame.shape[0] == 1
                if len(step.written) > 1 and buffer == step.written[-1].buffer:
                    by_rows = False  # all rows must be done, each once, for their totals
                first, before = position, True
                if buffer in uses:
                    first, before = uses[buffer].first, uses[buffer].by_rows
                uses[buffer] = Use(first, position, by_rows and before)
        return uses

    def chain(self, first: int, last: int) -> Chain | None:
        """Return the steps as a chain to stream, None where they cannot be."""
        steps = tuple(self.steps[first : last + 1])
        if any(row_split(step) is None for step in steps) or not self._follow(first, last):
            return None
        inner = frozenset(
            buffer
            for buffer, use in self.uses.items()
            if use.by_rows and first <= use.first < use.last <= last
        )
        return Chain(steps, inner, self.buffers) if inner else None

    def pair(self, first: int) -> SlicedPair | None:
        """Return a step and the next as a pair to do in slices, None where they are none."""
        before, after = self.steps[first : first + 2]
        if (before.kernel, after.kernel) != ("f32_conv", "f32_depthwise"):
            return None
        (written,) = before.written
        use, frame = self.uses.get(written.buffer), self.buffers[written.buffer].frame
        alone = use and (use.first, use.last) == (first, first + 1)
        if not alone or frame is None or frame.shape[0] > 1 or not before.split("channels"):
            return None
        pair = SlicedPair((before, after), written.buffer, frame)
        return pair if pair.channels < frame.shape[1] else None

    def _follow(self, first: int, last: int) -> bool:
        """Tell whether all steps know the rows of what one of them writes and another touches."""
        written: set[int] = set()
        unknown: set[int] = set()
        several: set[int] = set()
        seen: set[int] = set()
        for position in range(first, last + 1):
            touched = self.touched[position]
            several |= seen & touched.keys()
            seen |= touched.keys()
            unknown |= {buffer for buffer, known in touched.items() if not known}
            written |= {view.buffer for view in self.steps[position].written}
        return not (written & unknown & several)

    def bytes(self, buffer: int) -> int:
        """Return the size of a buffer."""
        return self.buffers[buffer].bytes

    def alive(self, first: int, last: int) -> set[int]:
        """Return the buffers that hold a value during some of the steps."""
        return {b for b, use in self.uses.items() if use.first <= last and use.last >= first}


def _knows_rows(step: KernelCall, number: int, buffer: Buffer) -> bool:
    """Tell whether a step knows which rows of a buffer it touches, at every view of it."""
    split = row_split(step)
    if split is None:
        return False
    reaches = [reach for reach in (*split.reads, split.writes) if reach]
    reaches = [reach for reach in reaches if reach.view.buffer == number]
    views = [view for view in step.views if view.buffer == number]
    return len(views) == len(reaches) and all(find_row_span(reach, buffer) for reach in reaches)


def row_split(step: KernelCall) -> Split | None:
    """Return a step's split in rows, if it knows what rows it touches, of one image, else None."""
    split = step.split("rows")
    if split is None or split.writes is None or split.writes.view.shape[0] != 1:
        return None
    return split
