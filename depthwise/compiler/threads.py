"""Dividing the work of a plan among threads: which rows or channels each of them computes."""

from collections.abc import Callable
from itertools import pairwise
from math import prod

from depthwise.compiler.places import Split, Step
from depthwise.compiler.stream import Chain, moves_apart, stream

Parts = tuple[tuple[Step, ...], ...]  # what each thread does, at the same time

# What is less than this is done sooner by one thread than two can meet: multiply-adds of a
# convolution, elements of anything else.
SMALL_MACS, SMALL_ELEMENTS = 100_000, 32_768


def divide(step: Step, threads: int) -> Parts:
    """Return the step in up to `threads` parts of about the same size, in one if it is small."""
    if threads == 1 or not step.splits or _is_small(step):
        return ((step,),)
    split = min(step.splits, key=lambda split: (_largest(split, threads), _reread(step, split)))
    cuts = cut(split, threads)
    return tuple((step.part(split, start, stop - start),) for start, stop in cuts)


def cut(split: Split, threads: int) -> list[tuple[int, int]]:
    """Return up to `threads` ranges that make up a split's axis, each of whole grains."""
    grains = -(-split.length // split.grain)
    count = min(threads, grains)
    edges = [split.grain * (grains * i // count) for i in range(count)] + [split.length]
    return list(pairwise(edges))


def _largest(split: Split, threads: int) -> float:
    """Return the largest part's share of the whole, to a percent: less makes no difference."""
    return round(max(stop - start for start, stop in cut(split, threads)) / split.length, 2)


def _reread(step: Step, split: Split) -> int:
    """Return the elements that every thread reads: weights by rows, images by channels."""
    sizes = {True: 0, False: 0}
    for place in step.places[:-1]:
        sizes[place.buffer == 0] += prod(place.shape)
    return sizes[split.axis == "rows"]


def _is_small(step: Step) -> bool:
    written = step.places[-1]
    weights = sum(prod(place.shape) for place in step.places if place.buffer == 0)
    if step.kernel in ("f32_conv", "f32_winograd", "f32_depthwise", "f32_deform_conv"):
        return weights * prod(written.shape) // written.shape[1] < SMALL_MACS
    return sum(prod(place.shape) for place in step.places) < SMALL_ELEMENTS


def stream_parts(
    chain: Chain, height: int, threads: int, add_buffer: Callable[[int], int]
) -> Parts | None:
    """Return a streamed chain, each thread with rows and windows of its own.

    At the edges between threads both compute the rows that both need. None where threads would
    write the same rows of a buffer that others read.
    """
    rows = chain.splits[-1]
    cuts = cut(rows, min(threads, max(1, rows.length // 2)))
    outer = [split.writes for split in chain.splits[:-1]]
    if len(cuts) > 1 and any(r and r.place.buffer not in chain.inner for r in outer):
        return None
    parts = []
    for start, stop in cuts:
        bands = chain.bands(start, stop, height)
        if not moves_apart(bands):
            return None
        parts.append(tuple(stream(chain, bands, add_buffer)))
    return tuple(parts)
