"""Elements at places: taken from a tensor, put into it, or summed where they lie."""

from functools import partial
from math import prod
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.movement import empty
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.patches import overlapped
from depthwise.graph.frontends.places import (
    Write,
    met,
    put,
    put_each,
    taken,
    taken_anywhere,
    taken_each,
)


def places_of(n: Operands, index: int, size: int) -> np.ndarray:
    """Return the places that an operand names along an axis, counted from its start."""
    places = n.array(index).astype(np.int64)
    beside = places[(places < -size) | (places >= size)]
    if beside.size:
        raise ValueError(f"index {beside[0]} is not in an axis of {size}")
    return np.where(places < 0, places + size, places)


# what becomes of elements that a Scatter brings to one place
WRITES: dict[str, Write] = {
    "none": put, "add": met, "mul": partial(met, function="multiply"),
    "max": partial(met, function="maximum"), "min": partial(met, function="minimum"),
}  # fmt: skip


@rule("Gather")
def _(n: Operands, *, axis=0):
    x = n[0]
    axis = n.axis(x, axis)
    if n.is_known(1):
        places = places_of(n, 1, x.shape[axis])
        return taken(n.source.builder, x, axis, places) if places.size else empty(x, axis)
    index = n[1]
    y = n.emit(ops.Gather(axis), x, n.reshape(index, index.type.size))
    return n.reshape(y, *x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@rule("GatherElements")
def _(n: Operands, *, axis=0):
    x = n[0]
    axis = n.axis(x, axis)
    if not n.is_known(1):
        return n.emit(ops.TakeAlong(axis), x, n[1])
    return taken_each(n.source.builder, x, axis, places_of(n, 1, x.shape[axis]))


@rule("GatherND")
def _(n: Operands, *, batch_dims=0):
    """The last axis of the indices names places along the axes after those of the batch."""
    x, indices = n[0], n.array(1).astype(np.int64)
    flat, rest = numbered(x, indices, batch_dims)
    rows = n.reshape(x, x.type.size // prod(rest), *rest)
    return taken(n.source.builder, rows, 0, flat)


def numbered(x: Value, indices: np.ndarray, batch: int = 0) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the places of slices of x in a row of them, and the shape of a slice."""
    split = batch + indices.shape[-1]
    sizes = np.array(x.shape[batch:split])
    places = list(np.moveaxis(np.where(indices < 0, indices + sizes, indices), -1, 0))
    grid = list(np.ogrid[tuple(slice(size) for size in indices.shape[:-1])])[:batch]
    every = np.broadcast_arrays(*grid, *places)
    return np.ravel_multi_index(every, x.shape[:split]), x.shape[split:]


@rule("Scatter", "ScatterElements")
def _(n: Operands, *, axis=0, reduction="none"):
    x = n[0]
    axis = n.axis(x, axis)
    places = places_of(n, 1, x.shape[axis])
    return put_each(n.source.builder, x, axis, places, n[2], WRITES[reduction])


@rule("ScatterND")
def _(n: Operands, *, reduction="none"):
    x, indices = n[0], n.array(1).astype(np.int64)
    flat, rest = numbered(x, indices)
    rows = n.reshape(x, x.type.size // prod(rest), *rest)
    new = n.reshape(n[2], flat.size, *rest)
    return n.reshape(WRITES[reduction](n.source.builder, rows, 0, flat, new), *x.shape)


@rule("Compress")
def _(n: Operands, *, axis=None):
    x, places = n[0], np.flatnonzero(n.array(1))
    refuse(not places.size, "its result has no elements")
    if axis is None:
        return taken_anywhere(n.source.builder, x, places)
    return taken(n.source.builder, x, n.axis(x, axis), places)


@rule("ReverseSequence")
def _(n: Operands, *, batch_axis=1, time_axis=0):
    """Turn round the first elements of each sequence, as many as it is long."""
    x, lengths = n[0], n.array(1).astype(np.int64)
    time = np.arange(x.shape[time_axis])[:, None]
    places = np.where(time < lengths, lengths - 1 - time, time)  # time, batch
    places = places if time_axis < batch_axis else places.T
    beside = [axis for axis in range(x.rank) if axis not in (batch_axis, time_axis)]
    every = np.broadcast_to(np.expand_dims(places, beside), x.shape)
    return taken_each(n.source.builder, x, time_axis, every)


@rule("Col2Im")
def _(n: Operands, *, dilations=(1, 1), pads=(0, 0, 0, 0), strides=(1, 1)):
    size, kernel = n.ints(1), n.ints(2)
    refuse(len(size) != 2, f"it makes volumes of {len(size)} axes, where images have two")
    refuse(pads[:2] != pads[2:], f"its pads {list(pads)} differ on opposite sides")
    pairs: Any = (size, kernel, dilations, pads[:2], strides)
    return overlapped(n.source.builder, n[0], *map(tuple, pairs))
