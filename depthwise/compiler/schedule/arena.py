"""Places in one arena: buffers that are never alive at once may share bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.schedule.threads import Parts

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Live:
    """A buffer of `bytes`, alive from region `first` to region `last`, both included."""

    bytes: int
    first: int
    last: int

    def overlaps(self, other: "Live") -> bool:
        """Tell whether both are alive in some region."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """The offset of each buffer in bytes, and the bytes of all."""

    offsets: Mapping[int, int]
    bytes: int


def align(count: int) -> int:
    """Return a number of bytes rounded up to the alignment."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def find_lives(regions: Sequence[Parts], buffers: Sequence[Buffer]) -> dict[int, Live]:
    """Return from which region to which each buffer of the arena is touched, or parts of it."""
    lives: dict[int, Live] = {}
    for position, region in enumerate(regions):
        for touched in {view.buffer for part in region for step in part for view in step.views}:
            within = buffers[touched].within
            number = within[0] if within else touched
            if buffers[number].space == "arena":
                first = lives[number].first if number in lives else position
                lives[number] = Live(buffers[number].bytes, first, position)
    return lives


def place(regions: Sequence[Parts], buffers: Sequence[Buffer]) -> Arena:
    """Return places for all buffers of the arena that some region touches."""
    arena = plan_arena(find_lives(regions, buffers))
    parts = {
        number: arena.offsets[buffer.within[0]] + buffer.within[1]
        for number, buffer in enumerate(buffers)
        if buffer.within and buffer.within[0] in arena.offsets
    }
    return Arena({**arena.offsets, **parts}, arena.bytes)


def plan_arena(lives: Mapping[int, Live]) -> Arena:
    """Return places for buffers, the largest first, each in the lowest gap that is free for it.

    Greedy by size: Pisarchyk & Lee, arXiv:2001.03288, section 4.
    """
    offsets: dict[int, int] = {}
    for key in sorted(lives, key=lambda k: (-lives[k].bytes, lives[k].first, k)):
        live = lives[key]
        taken = sorted(
            (offsets[other], offsets[other] + align(lives[other].bytes))
            for other in offsets
            if lives[other].overlaps(live)
        )
        offset = 0
        for start, end in taken:
            if start - offset >= align(live.bytes):
                break
            offset = max(offset, end)
        offsets[key] = offset
    total = max((offsets[key] + align(lives[key].bytes) for key in lives), default=0)
    return verify_arena(Arena(offsets, total), lives)


def verify_arena(arena: Arena, lives: Mapping[int, Live]) -> Arena:
    """Return the arena; AssertionError where two live buffers share bytes or one is misplaced."""
    keys: Sequence[int] = sorted(lives, key=lambda k: arena.offsets[k])
    for position, key in enumerate(keys):
        start, end = arena.offsets[key], arena.offsets[key] + lives[key].bytes
        assert start % ALIGNMENT == 0, f"buffer {key} starts at byte {start}"
        assert 0 <= start <= end <= arena.bytes, f"buffer {key} ends at {end} of {arena.bytes}"
        for other in keys[position + 1 :]:
            if arena.offsets[other] >= end:
                break
            apart = not lives[key].overlaps(lives[other])
            assert apart, f"buffers {key} and {other} are alive at once and share bytes"
    return arena
