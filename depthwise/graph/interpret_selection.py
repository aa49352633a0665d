"""The meaning of operators that select: extremes' places, sorting, running totals, unpooling."""

from math import prod

import numpy as np

from depthwise.graph import ops
from depthwise.graph.interpret import Array, evaluate, pool_windows


@evaluate.register
def _(op: ops.ArgReduce, x):
    find = np.argmax if op.function == "max" else np.argmin  # both take the first NaN there is
    return find(x, axis=op.axis, keepdims=op.keep)


def order(x: Array, axis: int, largest: bool) -> Array:
    """Return where the elements in order come from: of equal ones the first first, NaN largest."""
    if not largest:
        return np.argsort(x, axis, stable=True)
    turned = np.flip(x, axis)  # reversed twice, so that equal ones keep their order
    return x.shape[axis] - 1 - np.flip(np.argsort(turned, axis, stable=True), axis)


@evaluate.register
def _(op: ops.TopK, x):
    places = order(x, op.axis, op.largest).take(range(op.count), op.axis)
    return places if op.result == "indices" else np.take_along_axis(x, places, op.axis)


CUMULATE = {"sum": np.add, "product": np.multiply, "max": np.maximum, "min": np.minimum}


@evaluate.register
def _(op: ops.Cumulate, x):
    """Floating sums and products are kept in float64, as PyTorch keeps them."""
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    return CUMULATE[op.function].accumulate(x, op.axis, wide)


@evaluate.register
def _(op: ops.MaxPoolIndices, x):
    height, width = x.shape[-2:]
    planes = x.reshape(-1, 1, height, width)
    numbers = np.arange(height * width).reshape(1, 1, height, width)
    at = pool_windows(numbers, op, -1)  # the padding is no place
    at = at.reshape(*at.shape[:4], -1)
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    found = pool_windows(planes, op, lowest)
    found = found.reshape(*found.shape[:4], -1)
    most = found.max(-1, keepdims=True)
    holds = ((found == most) | np.isnan(found)) & (at >= 0)
    from_end = np.argmax(holds[..., ::-1], -1)  # of several NaN the last
    tap = np.where(np.isnan(most[..., 0]), holds.shape[-1] - 1 - from_end, np.argmax(holds, -1))
    places = np.take_along_axis(np.broadcast_to(at, found.shape), tap[..., None], -1)
    return places.reshape(*x.shape[:-2], *places.shape[2:4])


@evaluate.register
def _(op: ops.MaxUnpool2d, x, indices):
    size = prod(op.size)
    y = np.zeros((prod(x.shape[:-2]), size), x.dtype)
    planes = zip(y, x.reshape(len(y), -1), indices.reshape(len(y), -1), strict=True)
    for plane, values, places in planes:
        inside = (places >= 0) & (places < size)
        plane[places[inside]] = values[inside]  # one by one: the last stays
    return y.reshape(*x.shape[:-2], *op.size)


@evaluate.register
def _(op: ops.TakeAlong, x, indices):
    """Read along one axis; the others are cut to the size of the indices."""
    cut = tuple(slice(None if axis == op.axis else n) for axis, n in enumerate(indices.shape))
    return np.take_along_axis(x[cut], indices, op.axis)
