"""Elements at places that are known: taken from, put into, or added to a tensor along an axis.

A few runs of places are slices, joined; others are a Gather with constant indices. What is put into
a tensor is gathered from both, one after the other; what is added at a place several times is
gathered once for each time, and summed.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from math import inf, prod
from typing import Literal

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value

Write = Callable[[Builder, Value, int, np.ndarray, Value], Value]  # put, or met
Meeting = Literal["add", "multiply", "maximum", "minimum"]
NEUTRAL: dict[Meeting, float] = {"add": 0.0, "multiply": 1.0, "maximum": -inf, "minimum": inf}

MOST_PARTS = 4  # that are joined: each is a call of its own
MOST_TERMS = 8  # that are added one after the other; more are gathered side by side, and reduced


def taken(b: Builder, x: Value, axis: int, places: np.ndarray) -> Value:
    """Return x at places along an axis, counted from its start; their axes take its place.

    There is one place or more. Raises ValueError for one that is outside of x.
    """
    flat = _checked(places, x.shape[axis])
    y = _joined(b, axis, [(x, flat)])
    if y is None:
        y = b.emit(ops.Gather(axis), x, b.literal(flat, "int64"))
    return shaped(b, y, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def put(b: Builder, x: Value, axis: int, places: np.ndarray, new: Value) -> Value:
    """Return x with slices of `new` at places along an axis: where several are, the last one."""
    size, flat = x.shape[axis], _checked(places, x.shape[axis])
    origin = np.arange(size)  # of each slice: those of `new` are counted on from those of x
    origin[flat] = size + np.arange(len(flat))
    turns = np.flatnonzero(np.diff(origin >= size)) + 1
    parts = [
        (x, part) if part[0] < size else (new, part - size) for part in np.split(origin, turns)
    ]
    y = _joined(b, axis, parts)
    return y or taken(b, b.emit(ops.Concat(axis), x, new), axis, origin)


def met(
    b: Builder, x: Value, axis: int, places: np.ndarray, more: Value, function: Meeting = "add"
) -> Value:
    """Return x with slices of `more` added at places along an axis, one of which may be several.

    Where `function` is another one, that says what becomes of those that meet at a place.
    """
    new = gathered_up(b, more, axis, places, x.shape[axis], function)
    return b.emit(ops.Binary(function), x, new)


def gathered_up(
    b: Builder, x: Value, axis: int, places: np.ndarray, size: int, function: Meeting = "add"
) -> Value:
    """Return `size` slices: of each place along an axis the sum, or so, of what x has for it."""
    flat = _checked(places, size)
    counts = np.bincount(flat, minlength=size)
    most = int(counts.max())
    terms = np.full((size, most), len(flat))  # of each sum: slices of x, else the one after it
    order = np.argsort(flat, kind="stable")
    ranks = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    terms[flat[order], ranks] = order
    if counts.min() < most:
        pads = tuple((0, int(i == axis)) for i in range(x.rank))
        x = b.emit(ops.Pad(pads, "constant", NEUTRAL[function]), x)
    if most <= MOST_TERMS or function != "add":
        first, *rest = (taken(b, x, axis, column) for column in terms.T)
        return reduce(lambda total, term: b.emit(ops.Binary(function), total, term), rest, first)
    rows, after = prod(x.shape[:axis]) * size, x.shape[axis + 1 :]
    apart = shaped(b, taken(b, x, axis, terms), (rows, most, prod(after)))
    total = b.emit(ops.Reduce("sum", (1,), False), apart)
    return shaped(b, total, (*x.shape[:axis], size, *after))


def taken_anywhere(b: Builder, x: Value, places: np.ndarray) -> Value:
    """Return the elements of x at places counted in row-major order, in the shape of `places`."""
    return taken(b, shaped(b, x, (x.type.size,)), 0, places)


def taken_each(b: Builder, x: Value, axis: int, places: np.ndarray) -> Value:
    """Return x at places along an axis, one for each element of the result."""
    line = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    whole = np.array_equal(np.delete(places.shape, axis), np.delete(x.shape, axis))
    if whole and (line == line[:, :1]).all():  # the same for all that lies beside
        return taken(b, x, axis, line[:, 0])
    return b.emit(ops.TakeAlong(axis), x, b.literal(places, "int64"))


def put_each(
    b: Builder, x: Value, axis: int, places: np.ndarray, new: Value, write: Write = put
) -> Value:
    """Return x with each element of `new` put, or else written, at its place along an axis."""
    flat = _flat(places, axis, x.shape).ravel()
    whole, elements = (shaped(b, v, (v.type.size,)) for v in (x, new))
    return shaped(b, write(b, whole, 0, flat, elements), x.shape)


def _flat(places: np.ndarray, axis: int, shape: Sequence[int]) -> np.ndarray:
    """Return places along an axis, one an element, as places in row-major order."""
    grid = list(np.ogrid[tuple(slice(n) for n in places.shape)])
    grid[axis] = places
    return np.ravel_multi_index(np.broadcast_arrays(*grid), tuple(shape))


def shaped(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    """Return x in another shape, x itself where that is its own."""
    return x if tuple(shape) == x.shape else b.emit(ops.Reshape(tuple(map(int, shape))), x)


def joined_axes(b: Builder, x: Value, first: int, count: int) -> Value:
    """Return x with `count` axes from `first` on as one."""
    merged = prod(x.shape[first : first + count])
    return shaped(b, x, (*x.shape[:first], merged, *x.shape[first + count :]))


def runs(places: Sequence[int] | np.ndarray) -> Iterator[range]:
    """Yield places as ranges with steps upward, each as long as it can be."""
    start, places = 0, [int(place) for place in places]
    while start < len(places):
        first, stop = places[start], start + 1
        step = places[stop] - first if stop < len(places) else 1
        step = step if step > 0 else 1
        while stop < len(places) and places[stop] - places[stop - 1] == step:
            stop += 1
        yield range(first, places[stop - 1] + 1, step)
        start = stop


def _checked(places: np.ndarray, size: int) -> np.ndarray:
    """Return places in a row."""
    flat = np.ravel(places).astype(np.int64)
    if flat.min() < 0 or flat.max() >= size:
        raise ValueError(f"places {flat.min()} to {flat.max()} of an axis of {size}")
    return flat


def _joined(b: Builder, axis: int, parts: list[tuple[Value, np.ndarray]]) -> Value | None:
    """Return slices of values, one after the other; None where they would be too many."""
    found: list[tuple[Value, range]] = []
    for x, places in parts:
        for run in runs(places):
            found.append((x, run))
            if len(found) > MOST_PARTS:
                return None
    slices = [_slice(b, x, axis, run) for x, run in found]
    return slices[0] if len(slices) == 1 else b.emit(ops.Concat(axis), *slices)


def _slice(b: Builder, x: Value, axis: int, run: range) -> Value:
    whole = run == range(x.shape[axis])
    return x if whole else b.emit(ops.Slice(axis, run.start, run[-1] + 1, run.step), x)
