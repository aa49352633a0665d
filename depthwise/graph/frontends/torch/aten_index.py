"""The rules of PyTorch's operators that read, write or add at places: indices and masks.

The places must be known when the network is captured: constants, or computed from such.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.places import (
    Write,
    gathered_up,
    joined_axes,
    met,
    put,
    put_each,
    shaped,
    taken,
    taken_anywhere,
    taken_each,
)
from depthwise.graph.frontends.torch.aten import RULES, rule
from depthwise.graph.frontends.torch.aten_shape import bound, cut
from depthwise.graph.frontends.torch.refusal import Refusal


def known(b: Builder, value: Value) -> np.ndarray | None:
    """Return the numbers of a constant, None for what is computed or has no data."""
    constant = b.constants.get(value.name)
    return None if constant is None else constant.numbers


COMPUTED = (
    "writes or reads at places that are computed while the network runs: make them constants, a "
    "buffer or what follows from sizes, or do it with what the library returns"
)


def places_of(b: Builder, index: Value, size: int) -> np.ndarray:
    """Return places along an axis of `size`, counted from its start. Raises Refusal if computed."""
    numbers = known(b, index)
    if numbers is None:
        raise Refusal(COMPUTED)
    return np.where(numbers < 0, numbers + size, numbers).astype(np.int64)


# ------------------------------------------------------------------------------- along one axis


@rule("aten.flip")
def _(b: Builder, x, dims):
    for axis in map(x.axis, dims):
        x = taken(b, x, axis, np.arange(x.shape[axis])[::-1])
    return x


@rule("aten.fliplr")
def _(b: Builder, x):
    return RULES["aten.flip"](b, x, [1])


@rule("aten.flipud")
def _(b: Builder, x):
    return RULES["aten.flip"](b, x, [0])


@rule("aten.rot90")
def _(b: Builder, x, k=1, dims=(0, 1)):
    """Turn by k quarters from the first axis to the second."""
    first, second = map(x.axis, dims)
    flip, transpose = RULES["aten.flip"], RULES["aten.transpose"]
    match k % 4:
        case 1:
            return transpose(b, flip(b, x, [second]), first, second)
        case 2:
            return flip(b, x, [first, second])
        case 3:
            return transpose(b, flip(b, x, [first]), first, second)
    return x


@rule("aten.index_select")
def _(b: Builder, x, dim, index):
    if not x.rank:
        return x
    axis = x.axis(dim)
    if known(b, index) is None:
        return b.emit(ops.Gather(axis), x, shaped(b, index, (index.type.size,)))
    return taken(b, x, axis, places_of(b, index, x.shape[axis]).ravel())


@rule("aten.embedding")
def _(b: Builder, weight, indices, *_unused):
    rows = RULES["aten.index_select"](b, weight, 0, shaped(b, indices, (indices.type.size,)))
    return shaped(b, rows, (*indices.shape, *weight.shape[1:]))


@rule("aten.index_copy")
def _(b: Builder, x, dim, index, source):
    axis = x.axis(dim)
    return put(b, x, axis, places_of(b, index, x.shape[axis]), source)


@rule("aten.index_fill")
def _(b: Builder, x, dim, index, value):
    axis = x.axis(dim)
    places = np.unique(places_of(b, index, x.shape[axis]))
    shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
    return put(b, x, axis, places, repeated(b, value, shape, x.type.dtype))


@rule("aten.index_add")
def _(b: Builder, x, dim, index, source, alpha=1):
    axis = x.axis(dim)
    places = places_of(b, index, x.shape[axis])
    more = source if alpha == 1 else RULES["aten.mul"](b, source, alpha)
    return add_to(b, x, axis, places, more)


def add_to(b: Builder, x: Value, axis: int, places: np.ndarray, more: Value) -> Value:
    """Return x with slices of `more` added at places; the sums alone where x is zeros."""
    numbers = known(b, x)
    if numbers is not None and not numbers.any():
        return gathered_up(b, more, axis, places, x.shape[axis])
    return met(b, x, axis, places, more)


def repeated(b: Builder, value: Value | float, shape: Sequence[int], dtype: str) -> Value:
    """Return a number or a tensor repeated to a shape, as NumPy does."""
    x = value if isinstance(value, Value) else b.literal(value, dtype)
    return x if x.shape == tuple(shape) else b.emit(ops.Expand(tuple(shape)), x)


@rule("aten.repeat_interleave")
def _(b: Builder, x, repeats, dim=None, output_size=None):
    x, axis = (x, x.axis(dim)) if dim is not None else (shaped(b, x, (x.type.size,)), 0)
    size = x.shape[axis]
    if isinstance(repeats, Value):
        return taken(b, x, axis, np.repeat(np.arange(size), places_of(b, repeats, size)))
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    apart = shaped(b, x, (*before, size, 1, *after))
    many = repeated(b, apart, (*before, size, repeats, *after), x.type.dtype)
    return shaped(b, many, (*before, size * repeats, *after))


# -------------------------------------------------------------------------- writes into a part


@rule("aten.slice_scatter")
def _(b: Builder, x, new, dim=0, start=None, end=None, step=1):
    axis, size = x.axis(dim), x.shape[x.axis(dim)]
    stop = size if end is None else bound(end, size)
    return put(b, x, axis, np.arange(bound(start or 0, size), stop, step), new)


@rule("aten.select_scatter")
def _(b: Builder, x, new, dim, index):
    axis = x.axis(dim)
    row = shaped(b, new, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return put(b, x, axis, np.array([index % x.shape[axis]]), row)


@rule("aten.diagonal_scatter")
def _(b: Builder, x, new, offset=0, dim1=0, dim2=1):
    numbers = np.arange(x.type.size).reshape(x.shape)
    places = np.diagonal(numbers, offset, x.axis(dim1), x.axis(dim2))
    return put_anywhere(b, x, places, new)


@rule("aten.diagonal")
def _(b: Builder, x, offset=0, dim1=0, dim2=1):
    numbers = np.arange(x.type.size).reshape(x.shape)
    return taken_anywhere(b, x, np.diagonal(numbers, offset, x.axis(dim1), x.axis(dim2)))


def put_anywhere(b: Builder, x: Value, places: np.ndarray, new: Value) -> Value:
    """Return x with elements of `new` at places counted in row-major order."""
    flat = shaped(b, x, (x.type.size,))
    return shaped(b, put(b, flat, 0, places, shaped(b, new, (new.type.size,))), x.shape)


@rule("aten.copy")
def _(b: Builder, x, source, non_blocking=False):
    return repeated(b, b.cast(source, x.type.dtype), x.shape, x.type.dtype)


@rule("aten.zero")
def _(b: Builder, x):
    return b.literal(np.zeros(x.shape), x.type.dtype)


# -------------------------------------------------------------------- indices into several axes


class Places:
    """What `x[indices]` reads: places along axes that become one axis of x.

    `order` brings x's axes to where those that are indexed are neighbours, from `axis` on, and
    `count` of them; the indices' own axes, of `shape`, take their place.
    """

    def __init__(self, b: Builder, x: Value, indices: Sequence[Value | None]):
        arrays: list[tuple[int, np.ndarray]] = []
        axis = 0
        for index in indices:
            numbers = None if index is None else known(b, index)
            if index is not None and numbers is None:
                raise Refusal(COMPUTED)
            if numbers is None:
                axis += 1
            elif numbers.dtype in (bool, np.uint8):  # a mask
                arrays += [(axis + i, part) for i, part in enumerate(np.nonzero(numbers))]
                axis += numbers.ndim
            else:
                arrays.append((axis, np.where(numbers < 0, numbers + x.shape[axis], numbers)))
                axis += 1
        axes = [axis for axis, _ in arrays]
        sizes = tuple(x.shape[axis] for axis in axes)
        given = np.broadcast_arrays(*(part for _, part in arrays))
        self.shape = given[0].shape
        self.flat = np.ravel_multi_index([part.astype(np.int64) for part in given], sizes)
        # as in NumPy: from where they are if they are neighbours, else in front
        beside = axes == list(range(axes[0], axes[0] + len(axes)))
        others = [axis for axis in range(x.rank) if axis not in axes]
        self.axis, self.count = axes[0] if beside else 0, len(axes)
        self.order = (*others[: self.axis], *axes, *others[self.axis :])
        self.result = (
            *(x.shape[axis] for axis in others[: self.axis]), *self.shape,
            *(x.shape[axis] for axis in others[self.axis :]),
        )  # fmt: skip

    def joined(self, b: Builder, x: Value) -> Value:
        """Return x with the axes that are indexed as one."""
        return joined_axes(b, permuted(b, x, self.order), self.axis, self.count)

    def parted(self, b: Builder, y: Value, like: Value) -> Value:
        """Return what `joined` gave in the shape of `like`, from which it came."""
        shape = tuple(like.shape[axis] for axis in self.order)
        return permuted(b, shaped(b, y, shape), tuple(np.argsort(self.order)))


def permuted(b: Builder, x: Value, order: Sequence[int]) -> Value:
    """Return x with its axes in another order, x itself where that is the same."""
    axes = tuple(map(int, order))
    return x if axes == tuple(range(x.rank)) else b.emit(ops.Permute(axes), x)


@rule("aten.index")
def _(b: Builder, x, indices):
    given = [i for i, index in enumerate(indices) if index is not None]
    if len(given) == 1 and known(b, indices[given[0]]) is None:  # or the network has no data
        (axis,) = given
        index = indices[axis]
        y = b.emit(ops.Gather(axis), x, shaped(b, index, (index.type.size,)))
        return shaped(b, y, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    places = Places(b, x, indices)
    y = taken(b, places.joined(b, x), places.axis, places.flat)
    return shaped(b, y, places.result)


@rule("aten.index_put", "aten._unsafe_index_put")
def _(b: Builder, x, indices, values, accumulate=False):
    given = [index for index in indices if index is not None]
    if len(given) == 1 and given[0].type.dtype == "bool" and known(b, given[0]) is None:
        new = RULES["aten.add"](b, x, values) if accumulate else values
        return chosen(b, x, given[0], indices.index(given[0]), new)
    places = Places(b, x, indices)
    if not places.flat.size:
        return x
    whole = places.joined(b, x)
    new = repeated(b, values, places.result, x.type.dtype)
    new = joined_axes(b, new, places.axis, len(places.shape))
    write = add_to if accumulate else put
    return places.parted(b, write(b, whole, places.axis, places.flat, new), x)


def chosen(b: Builder, x: Value, mask: Value, axis: int, new: Value) -> Value:
    """Return x with `new` where a mask over its axes from `axis` on holds.

    Raises Refusal where each place that it holds for is to get an element of its own.
    """
    rest = x.rank - axis - mask.rank
    if new.type.size != 1 and (axis or new.rank > rest) and new.shape != x.shape:
        raise Refusal(COMPUTED)
    where = shaped(b, mask, (*mask.shape, *(1,) * rest))
    number = shaped(b, new, ()) if new.type.size == 1 else new
    return b.emit(ops.Where(), where, number, x)


@rule("aten.masked_select")
def _(b: Builder, x, mask):
    holds = known(b, mask)
    if holds is None:
        raise Refusal(COMPUTED)
    shape = np.broadcast_shapes(x.shape, mask.shape)
    whole = repeated(b, x, shape, x.type.dtype)
    return taken_anywhere(b, whole, np.flatnonzero(np.broadcast_to(holds, shape)))


@rule("aten.take")
def _(b: Builder, x, index):
    return taken_anywhere(b, x, places_of(b, index, x.type.size))


# ------------------------------------------------------------------------ an index an element


@rule("aten.gather")
def _(b: Builder, x, dim, index, sparse_grad=False):
    axis = x.axis(dim)
    if known(b, index) is None:
        return b.emit(ops.TakeAlong(axis), x, index)
    return taken_each(b, x, axis, places_of(b, index, x.shape[axis]))


@rule("aten.take_along_dim")
def _(b: Builder, x, indices, dim=None):
    """Broadcast the two beside the axis; without one both are laid flat."""
    if dim is None:
        flat = [shaped(b, v, (v.type.size,)) for v in (x, indices)]
        return RULES["aten.gather"](b, flat[0], 0, flat[1])
    axis, numbers = x.axis(dim), known(b, indices)
    beside = list(np.broadcast_shapes(*(np.delete(v.shape, axis) for v in (x, indices))))
    full = [(*beside[:axis], v.shape[axis], *beside[axis:]) for v in (x, indices)]
    x = repeated(b, x, full[0], x.type.dtype)
    if numbers is None:
        return b.emit(ops.TakeAlong(axis), x, repeated(b, indices, full[1], indices.type.dtype))
    return RULES["aten.gather"](b, x, axis, b.literal(np.broadcast_to(numbers, full[1]), "int64"))


def scatter(b: Builder, x: Value, dim: int, index: Value, src: Value | float, write: Write):
    """Return x with elements of `src`, or a number, written at places along an axis."""
    axis = x.axis(dim)
    places = places_of(b, index, x.shape[axis])
    if isinstance(src, Value) and src.rank:
        for i, size in enumerate(index.shape):  # what it has beyond the index is not read
            src = cut(b, src, i, 0, size)
    new = repeated(b, src, index.shape, x.type.dtype)
    return put_each(b, x, axis, places, new, write)


MEETINGS: dict[str | None, Write] = {
    None: put, "add": add_to, "sum": add_to, "multiply": partial(met, function="multiply"),
    "prod": partial(met, function="multiply"), "amax": partial(met, function="maximum"),
    "amin": partial(met, function="minimum"),
}  # fmt: skip


@rule("aten.scatter", "aten.scatter_reduce")
def _(b: Builder, x, dim, index, src, reduce=None, include_self=True):
    write = MEETINGS.get(reduce)
    return scatter(b, x, dim, index, src, write) if write and include_self else None


@rule("aten.scatter_add")
def _(b: Builder, x, dim, index, src):
    return scatter(b, x, dim, index, src, add_to)
