"""Which steps are streamed together, and in how high bands: for speed, or for the least memory."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from depthwise.compiler.constants import Constants
from depthwise.compiler.options import Optimize
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.schedule.streaming import Band, Chain, moves_apart

LONGEST = 16  # steps that are looked at together


@dataclass(frozen=True)
class Group:
    """Steps `first` to `last`, streamed in bands of `height` rows; 0 where they are not.

    Where `channels` is not 0, they are a pair that is done in slices of as many. `remark` says why.
    """

    first: int
    last: int
    height: int = 0
    channels: int = 0
    remark: str = field(default="", compare=False)


@dataclass(frozen=True)
class Bands:
    """How neighbouring steps are streamed: groups of them, the first step being 0.

    `remark` says why.
    """

    groups: tuple[Group, ...]
    remark: str = field(default="", compare=False)

    def __str__(self) -> str:
        heights = ", ".join(str(group.height) for group in self.groups if group.height)
        slices = ", ".join(str(group.channels) for group in self.groups if group.channels)
        bands = f"bands of {heights} rows" if heights else "no bands"
        return f"{bands}, slices of {slices} channels" if slices else bands

    def start(self, at: int) -> list[Group]:
        """Return the groups from step `at` on; the first has the remark."""
        moved = [replace(g, first=g.first + at, last=g.last + at) for g in self.groups]
        return [replace(moved[0], remark=self.remark), *moved[1:]]


Partition = Callable[[Steps], list[Group]]


def partition(whole: Steps, optimize: Optimize, constants: Constants) -> list[Group]:
    """Return all steps in groups, in their order: those that are streamed, and single ones."""
    return fastest(whole, constants) if optimize == "speed" else _smallest(whole)


def single(whole: Steps) -> list[Group]:
    """Return every step as a group of its own: nothing is streamed."""
    return [Group(i, i) for i in range(len(whole.steps))]


def fastest(whole: Steps, constants: Constants) -> list[Group]:
    """Choose the groups that save the most traffic beyond the second cache.

    What is done in slices counts as saved on cores that do so: weights that stream by leave small
    images no room either.
    """
    best: list[tuple[int, list[Group]]] = [(0, [])]
    for end in range(len(whole.steps)):
        score, groups = best[end]
        options = [(score, [*groups, Group(end, end)])]
        pair = whole.pair(end - 1) if end else None
        if pair and whole.bytes(pair.buffer) > constants.sliced:
            score, groups = best[end - 1]
            group = Group(end - 1, end, channels=pair.channels)
            options.append((score + 2 * whole.bytes(pair.buffer), [*groups, group]))
        for first in range(max(0, end - LONGEST + 1), end):
            chain = whole.chain(first, end)
            if chain is None:
                continue
            saved = sum(2 * whole.bytes(b) for b in chain.inner if whole.bytes(b) > constants.cold)
            if not saved or _weight_bytes(chain) > constants.chain:
                continue
            height, bands = _highest(chain, constants.windows)
            if bands:
                gain = saved - _moved_bytes(chain, bands)
                options.append(
                    (best[first][0] + gain, [*best[first][1], Group(first, end, height)])
                )
        best.append(max(options, key=lambda option: option[0]))
    return best[-1][1]


def _smallest(whole: Steps) -> list[Group]:
    """Choose the groups whose largest need of memory is the least; among equals, less moving."""
    best: list[tuple[tuple[int, int], list[Group]]] = [((0, 0), [])]
    for end in range(len(whole.steps)):
        options = []
        for first in range(max(0, end - LONGEST + 1), end + 1):
            need, moved, height = _need(whole, first, end)
            if height is None:
                continue
            (most, all_moved), groups = best[first]
            cost = (max(most, need), all_moved + moved)
            options.append((cost, [*groups, Group(first, end, height)]))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def _need(whole: Steps, first: int, last: int) -> tuple[int, int, int | None]:
    """Return the bytes alive in a group, those that its windows move, and its bands' height."""
    alive = whole.alive(first, last)
    if first == last:
        return sum(map(whole.bytes, alive)), 0, 0
    chain = whole.chain(first, last)
    if chain is None:
        return 0, 0, None
    height, bands = _lowest(chain)
    if not bands:
        return 0, 0, None
    outer = sum(whole.bytes(b) for b in alive - chain.inner)
    return outer + chain.window_bytes(bands), _moved_bytes(chain, bands), height


def _highest(chain: Chain, limit: int) -> tuple[int, list[Band]]:
    """Return the highest bands, all alike, whose windows fit in `limit` bytes; none if none do."""
    counts = range(1, 1 + chain.rows)

    def fits(count: int) -> bool:
        return chain.window_bytes(_alike(chain, count)[1]) <= limit

    at = bisect_left(counts, True, key=fits)
    if at == len(counts):
        return 0, []
    height, bands = _alike(chain, counts[at])
    return (height, bands) if moves_apart(bands) else (0, [])


def _lowest(chain: Chain) -> tuple[int, list[Band]]:
    """Return the lowest bands, of two rows or more, whose windows can move."""
    for count in range(max(1, chain.rows // 2), 0, -1):
        height, bands = _alike(chain, count)
        if moves_apart(bands):
            return height, bands
    return 0, []


def _alike(chain: Chain, count: int) -> tuple[int, list[Band]]:
    """Return the height of `count` bands, and the bands: the last may be lower."""
    height = -(-chain.rows // count)
    return height, chain.bands(0, chain.rows, height)


def _moved_bytes(chain: Chain, bands: Sequence[Band]) -> int:
    """Return the bytes of the rows that windows keep from band to band."""
    return sum(
        chain.row_bytes(b) * max(0, before.windows[b].written - after.windows[b].base + 1)
        for before, after in pairwise(bands)
        for b in after.windows
    )


def _weight_bytes(chain: Chain) -> int:
    return sum(step.weight_bytes(chain.buffers) for step in chain.steps)
