"""Memory in which every element knows whose it is, so that what was never written cannot be read.

The arena lies byte for byte as the plan has it. An element belongs to the buffer that wrote it
last; it belongs to no buffer, and is NaN, before the first use of its buffer and after the last.
Reading an element of another buffer shows an overlap; reading one of no buffer shows that something
was not written. Numbers alone prove nothing: a network may have NaN and infinity of its own.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.schedule.arena import Arena
from depthwise.errors import PlanFault
from depthwise.graph.dtypes import FLOAT32

Array = np.ndarray

NO_BUFFER = -1
SEVERAL = 255  # threads that read an element; 0 is none, else the thread's number and one
KEPT, SMALL = 16, 2**20  # unpacked weights that a step of the next band takes again; floats of each


@dataclass(frozen=True)
class Region:
    """Elements of a buffer: the first, and how many along each axis, `strides` elements apart."""

    buffer: int
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def axes(self) -> list[tuple[int, int]]:
        """(size, stride) of each axis along which there are several elements."""
        pairs = zip(self.shape, self.strides, strict=True)
        return [(n, s) for n, s in pairs if n > 1 and s]

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest element."""
        steps = [(n - 1) * s for n, s in self.axes]
        low, high = (sum(s for s in steps if sign * s > 0) for sign in (-1, 1))
        return self.first + low, self.first + high

    def of(self, cells: Array, base: int = 0) -> Array:
        """Return a view of these elements in an array in which the buffer starts at `base`."""
        if 0 in self.shape:
            return np.empty(self.shape, cells.dtype)
        start = cells[base + self.first :]
        return as_strided(start, self.shape, [s * cells.itemsize for s in self.strides])

    def set(self, cells: Array, base: int, numbers: Any) -> None:
        """Set these elements in an array in which the buffer starts at `base`."""
        self.of(cells, base)[...] = numbers

    def each_once(self) -> "Region":
        """Return the region without the axes along which it repeats."""
        shape = tuple(n if s else min(n, 1) for n, s in zip(self.shape, self.strides, strict=True))
        return Region(self.buffer, self.first, shape, self.strides)


@dataclass(frozen=True)
class Scattered:
    """Elements of a buffer by their numbers, in any order."""

    buffer: int
    numbers: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the numbers."""
        return self.numbers.shape

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest element."""
        return int(self.numbers.min()), int(self.numbers.max())

    def of(self, cells: Array, base: int = 0) -> Array:
        """Return a copy of these elements of an array in which the buffer starts at `base`."""
        return cells[base + self.numbers]

    def set(self, cells: Array, base: int, numbers: Any) -> None:
        """Set these elements in an array in which the buffer starts at `base`."""
        cells[base + self.numbers] = numbers

    def each_once(self) -> "Scattered":
        """Return each element once."""
        return Scattered(self.buffer, np.unique(self.numbers))


def meet(a: Region | Scattered, b: Region) -> bool:
    """Tell whether an element of a buffer is in both."""
    if a.buffer != b.buffer or 0 in a.shape or 0 in b.shape:
        return False
    (low, high), (start, end) = a.ends, b.ends
    if high < start or end < low or (isinstance(a, Region) and _in_other_channels(a, b)):
        return False
    found = np.zeros(max(high, end) - min(low, start) + 1, bool)
    base = -min(low, start)
    a.each_once().set(found, base, True)
    return bool(b.of(found, base).any())


def _in_other_channels(a: Region, b: Region) -> bool:
    """Tell whether two regions are pixels equally far apart, of which they hold other channels."""
    pixel = gcd(*(s for region in (a, b) for _, s in region.axes if abs(s) != 1))
    if not pixel:
        return False
    ranges = []
    for region in (a, b):
        low = region.ends[0] % pixel
        ranges.append((low, low + sum(n - 1 for n, s in region.axes if abs(s) == 1)))
    (low, high), (start, end) = ranges
    return (high < start or end < low) and max(high, end) < pixel


@dataclass
class Cells:
    """Numbers that steps write, whose each is, and which threads used it since they met."""

    values: Array
    owner: Array
    readers: Array | None
    writers: Array | None

    @classmethod
    def of(cls, floats: int, buffers: int, threads: int) -> "Cells":
        """Return cells that belong to no buffer."""
        owner = np.full(floats, NO_BUFFER, np.int16 if buffers < 2**15 else np.int32)
        readers, writers = (np.zeros(floats, np.uint8) if threads > 1 else None for _ in range(2))
        return cls(np.full(floats, np.nan, np.float32), owner, readers, writers)


@dataclass
class Memory:
    """All buffers of a plan. `thread` is whose step is being done; None where it is alone."""

    buffers: Sequence[Buffer]
    cells: Mapping[int, Cells]  # what is written to: the arena, the same for all in it; outputs
    bases: Mapping[int, int]  # where a buffer starts in its cells
    given: Mapping[int, Array]  # weights and inputs
    thread: int | None = None
    touched: set[int] = field(default_factory=set)  # since threads met
    reads: list[tuple[Region | Scattered, bool]] = field(
        default_factory=list
    )  # of the step being done
    kept: dict[Hashable, Array] = field(
        default_factory=dict
    )  # unpacked weights, the last used last

    @classmethod
    def of(
        cls, buffers: Sequence[Buffer], arena: Arena, weights: Array, inputs: Sequence[Array],
        threads: int,
    ) -> "Memory":  # fmt: skip
        """Return memory in which nothing but weights and inputs is known."""
        inside = Cells.of(arena.bytes // FLOAT32.bytes, len(buffers), threads)
        cells, bases, given = {}, {}, {}
        for number, buffer in enumerate(buffers):
            match buffer.space:
                case "arena" if number in arena.offsets:
                    cells[number], bases[number] = inside, arena.offsets[number] // FLOAT32.bytes
                    end = bases[number] + buffer.elements
                    if not 0 <= bases[number] <= end <= inside.values.size:
                        raise PlanFault(f"buffer {number} does not lie inside the arena")
                case "output":
                    cells[number] = Cells.of(buffer.elements, len(buffers), threads)
                    bases[number] = 0
                case "weights":
                    given[number] = weights
                case "input":
                    given[number] = np.ascontiguousarray(inputs[buffer.index]).reshape(-1)
        return cls(buffers, cells, bases, given)

    def forget(self, buffer: int) -> None:
        """Let a buffer's elements belong to no buffer: its life begins or ends."""
        cells, base = self.cells[buffer], self.bases[buffer]
        part = slice(base, base + self.buffers[buffer].elements)
        cells.values[part], cells.owner[part] = np.nan, NO_BUFFER

    def meet(self) -> None:
        """Let all threads wait for each other."""
        for buffer in self.touched:
            cells, base = self.cells[buffer], self.bases[buffer]
            part = slice(base, base + self.buffers[buffer].elements)
            for seen in (cells.readers, cells.writers):
                if seen is not None:
                    seen[part] = 0
        self.touched.clear()

    def read(self, span: Region | Scattered, in_place: bool, known: bool = True) -> Array:
        """Return elements of a buffer; PlanFault where they are not what was written into it.

        Where they need not be `known`, they are not to be computed with.
        """
        self._check_inside(span, "reads")
        if span.buffer in self.given:
            return span.of(self.given[span.buffer])
        once, cells, base = span.each_once(), self.cells[span.buffer], self.bases[span.buffer]
        owner = once.of(cells.owner, base)
        wrong = owner != span.buffer
        if known and wrong.any():
            raise PlanFault(_not_written(span.buffer, owner[wrong]))
        self.reads.append((span, in_place))
        if self.thread is not None and cells.readers is not None and cells.writers is not None:
            self.touched.add(span.buffer)
            me, writers = self.thread + 1, once.of(cells.writers, base)
            if ((writers != 0) & (writers != me)).any():
                raise PlanFault(f"reads of buffer {span.buffer} what another thread is writing")
            readers = once.of(cells.readers, base)
            alone = (readers == 0) | (readers == me)
            once.set(cells.readers, base, np.where(alone, me, SEVERAL))
        return span.of(cells.values, base)

    def write(self, region: Region) -> Array:
        """Return the elements of a region to be set, which are its buffer's from now on."""
        if region.buffer in self.given:
            raise PlanFault(f"writes into {self.buffers[region.buffer].space}")
        self._check_inside(region, "writes")
        cells, base = self.cells[region.buffer], self.bases[region.buffer]
        for read, in_place in self.reads:
            same = isinstance(read, Region) and (read.first, read.axes) == (
                region.first,
                region.axes,
            )
            if not (in_place and same) and meet(read, region):
                raise PlanFault(f"writes over elements of buffer {region.buffer} that it reads")
        if self.thread is not None and cells.readers is not None and cells.writers is not None:
            self.touched.add(region.buffer)
            me = self.thread + 1
            for seen, does in ((cells.writers, "writing"), (cells.readers, "reading")):
                others = region.of(seen, base)
                if ((others != 0) & (others != me)).any():
                    raise PlanFault(
                        f"writes into buffer {region.buffer} where another thread is {does}"
                    )
            region.set(cells.writers, base, me)
        region.set(cells.owner, base, region.buffer)
        return region.of(cells.values, base)

    def move(self, source: Region, target: Region) -> None:
        """Copy elements inside of a buffer; those that belong to none stay so."""
        cells, base = self.cells[source.buffer], self.bases[source.buffer]
        values = self.read(source, in_place=False, known=False).copy()
        owner = source.of(cells.owner, base).copy()
        self.write(target)[...] = values
        target.set(cells.owner, base, owner)

    def keep(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return what `make` makes, from earlier where it is small and among the last ones."""
        found = self.kept.pop(key) if key in self.kept else make()
        if found.size <= SMALL:
            self.kept[key] = found
        if len(self.kept) > KEPT:
            self.kept.pop(next(iter(self.kept)))
        return found

    def _check_inside(self, span: Region | Scattered, does: str) -> None:
        if 0 in span.shape:
            return
        (low, high), count = span.ends, self.buffers[span.buffer].elements
        if low < 0 or high >= count:
            raise PlanFault(f"{does} elements {low} to {high} of buffer {span.buffer}, of {count}")


def _not_written(buffer: int, owners: Array) -> str:
    others = sorted({int(b) for b in np.unique(owners)} - {NO_BUFFER})
    by = f"that buffers {others} lie over" if others else "that was never written"
    return f"reads {owners.size} elements of buffer {buffer} {by}"


@dataclass(frozen=True)
class Pointer:
    """What a kernel gets for a view: where it starts, and no more than C is told."""

    memory: Memory
    buffer: int
    offset: int

    def _region(self, at: int, shape: Sequence[int], strides: Sequence[int]) -> Region:
        return Region(self.buffer, self.offset + at, tuple(shape), tuple(strides))

    def read(
        self, shape: Sequence[int], strides: Sequence[int], at: int = 0, in_place: bool = False
    ) -> Array:
        """Return elements to be read, from the `at`-th on; `in_place` if they may be written over.

        That is where the kernel writes exactly these, each after it was read.
        """
        return self.memory.read(self._region(at, shape, strides), in_place)

    def gather(self, offsets: Array, count: int) -> Array:
        """Return runs of `count` neighbours that start where `offsets` say."""
        numbers = self.offset + offsets[..., None] + np.arange(count)
        return self.memory.read(Scattered(self.buffer, numbers), in_place=False)

    def move(
        self, target: "Pointer", shape: Sequence[int], strides: Sequence[int], to: Sequence[int]
    ) -> None:
        """Copy elements to another place in the same buffer, where they have the strides `to`."""
        self.memory.move(self._region(0, shape, strides), target._region(0, shape, to))

    def write(self, shape: Sequence[int], strides: Sequence[int], at: int = 0) -> Array:
        """Return elements that the kernel writes, all of them."""
        return self.memory.write(self._region(at, shape, strides))

    def keep(self, make: Callable[[], Array], *key: int) -> Array:
        """Return what `make` makes of the weights here, from earlier where it was the same."""
        return self.memory.keep((self.offset, *key), make)
