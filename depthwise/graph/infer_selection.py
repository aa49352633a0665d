"""The types of what selects elements: places of extremes, sorting, running totals, unpooling."""

from depthwise.graph import ops
from depthwise.graph.infer import _accept, _expect, _name, accepted_kinds, infer_dtype, infer_shape

PLACES = "int64"  # the element type of places, as in PyTorch and ONNX


@infer_shape.register
def _(op: ops.ArgReduce, x):
    return (*x[: op.axis], *((1,) if op.keep else ()), *x[op.axis + 1 :])


@infer_shape.register
def _(op: ops.TopK, x):
    size = x[op.axis]
    _expect(op.count <= size, f"{_name(op)}: {op.count} of the {size} elements along {op.axis}")
    return (*x[: op.axis], op.count, *x[op.axis + 1 :])


@infer_shape.register
def _(op: ops.MaxUnpool2d, x, indices):
    _expect(x == indices, f"{_name(op)}: input {x} has other places than indices {indices}")
    return (*x[:-2], *op.size)


@infer_shape.register
def _(op: ops.TakeAlong, x, indices):
    fits = len(x) == len(indices) and all(
        taken <= size for axis, (taken, size) in enumerate(zip(indices, x, strict=True))
        if axis != op.axis
    )  # fmt: skip
    _expect(fits, f"{_name(op)} along axis {op.axis}: indices {indices} do not fit input {x}")
    return indices


@infer_dtype.register
def _(op: ops.ArgReduce | ops.MaxPoolIndices, x):
    _accept(op, x, accepted_kinds(op))
    return PLACES


@infer_dtype.register
def _(op: ops.TopK, x):
    _accept(op, x, accepted_kinds(op))
    return x if op.result == "values" else PLACES


@infer_dtype.register
def _(op: ops.MaxUnpool2d | ops.TakeAlong, x, indices):
    _accept(op, indices, "iu", "places in ")
    return _accept(op, x, accepted_kinds(op))
