"""How each operator couples channels: a function from what it reads to what it gives."""

from functools import singledispatch

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import Op
from depthwise.slimming.channels.coupling import (
    NO_CHANNEL,
    RETURNED,
    Coupled,
    Coupling,
    spread,
    varies,
)
from depthwise.slimming.channels.identities import Ids

MIXED = "it is read along other axes than channels"


def couple(graph: Graph) -> Coupling:
    """Return the identities of all values of a graph without shuffles."""
    c = Coupling(graph)
    for node in graph:
        c.define(node.name, _pass(node.op, node, c))
    for output in graph.outputs:
        c.pin(output.value, RETURNED)
    return c


@singledispatch
def _pass(op: Op, node: Node, c: Coupling) -> Ids:
    """Return the identities that a node gives; an operator without a rule lets all stay."""
    name = op.operator if isinstance(op, ops.Opaque) else type(op).__name__
    return c.refuse(node, f"{name} reads it")


# -------------------------------------------------------------------------- convolution and linear


@_pass.register
def _(op: ops.Conv2d | ops.ConvTranspose2d | ops.DeformConv2d, node, c):
    refused = c.owned(node)
    if refused:
        return c.refuse(node, refused)
    for name in node.inputs[3:]:
        c.pin(name, "it is the offsets or the mask of a deformable convolution")
    given = c.along(node.inputs[0], 1, MIXED)
    outs = node.type.shape[1]
    sampled = op.offset_groups if isinstance(op, ops.DeformConv2d) else 1
    if sampled > 1:
        c.parts.append(Coupled(node, given.reshape(sampled, -1)))
    if op.groups > 1 and op.groups >= max(len(given), outs) // op.groups:  # depthwise, too
        c.blocks(node, given, op.groups)
        return c.placed(node, np.repeat(given[:: len(given) // op.groups], outs // op.groups))
    c.read.append(Coupled(node, given))
    born = c.bear(node)
    if op.groups > 1:
        c.parts += [Coupled(node, ids.reshape(op.groups, -1)) for ids in (given, born)]
    return born


@_pass.register
def _(op: ops.Linear, node, c):
    refused = c.owned(node)
    if refused:
        return c.refuse(node, refused)
    c.read.append(Coupled(node, c.along(node.inputs[0], -1, MIXED)))
    return c.bear(node, -1)


@_pass.register
def _(op: ops.MatMul, node, c):
    """Let what is summed over be one; rows and columns are passed on."""
    a, b = node.inputs
    if {a, b} & c.graph.constants.keys():
        return c.refuse(node, "it is multiplied with a constant matrix")
    rank, x, y = len(node.type.shape), c[a], c[b]
    if varies(x, *range(x.ndim - 2)) or varies(y, *range(y.ndim - 2)):
        return c.refuse(node, MIXED)
    if varies(x, -2) and varies(y, -1):
        return c.refuse(node, "each of its channels is multiplied with each")
    if varies(x, -1) or varies(y, -2):
        c.sets.merge(x.reshape(-1), y.reshape(-1))
    if varies(x, -2):
        return c.placed(node, c.along(a, -2, MIXED), rank - 2)
    if varies(y, -1):
        return c.placed(node, c.along(b, -1, MIXED), rank - 1)
    return c.fixed(node.name, NO_CHANNEL)


# ------------------------------------------------------------------------------------ normalisation


@_pass.register
def _(op: ops.BatchNorm | ops.PRelu, node, c):
    shared = c.owned(node)
    return c.refuse(node, shared) if shared else c.placed(node, c.along(node.inputs[0], 1, MIXED))


@_pass.register
def _(op: ops.GroupNorm, node, c):
    shared = c.owned(node)
    if shared:
        return c.refuse(node, shared)
    given = c.along(node.inputs[0], 1, MIXED)
    c.blocks(node, given, op.groups)
    if op.groups < len(given) / op.groups:
        c.inexact.append(Coupled(node, given))
    return c.placed(node, given)


@_pass.register
def _(op: ops.LayerNorm, node, c):
    shared = c.owned(node)
    if shared:
        return c.refuse(node, shared)
    x = c[node.inputs[0]]
    normalised = range(x.ndim - op.axes, x.ndim)
    if varies(x, *normalised):
        c.inexact.append(Coupled(node, x.reshape(-1)))
    return x


@_pass.register
def _(op: ops.LocalResponseNorm, node, c):
    c.pin(node.inputs[0], "each channel is divided by what is beside it (LocalResponseNorm)")
    return c[node.inputs[0]]


@_pass.register
def _(op: ops.Softmax | ops.Cumulate | ops.TopK | ops.ArgReduce, node, c):
    x = c[node.inputs[0]]
    if varies(x, op.axis):
        return c.refuse(node, f"{type(op).__name__} runs over its channels")
    dropped = isinstance(op, ops.ArgReduce) and not op.keep
    return x.squeeze(op.axis) if dropped else x


# ------------------------------------------------------------------------------ pixels and elements


@_pass.register
def _(
    op: ops.MaxPool2d | ops.AvgPool2d | ops.AdaptivePool2d | ops.Resize | ops.MaxPoolIndices,
    node, c,
):  # fmt: skip
    x = c[node.inputs[0]]
    return c.refuse(node, MIXED) if varies(x, -1, -2) else x


@_pass.register
def _(op: ops.MaxUnpool2d, node, c):
    x = _elementwise(op, node, c)
    return c.refuse(node, MIXED) if varies(x, -1, -2) else x


@_pass.register
def _(op: ops.Resample, node, c):
    x = c[node.inputs[0]]
    return c.refuse(node, MIXED) if varies(x, op.axis) else x


@_pass.register
def _(op: ops.GridSample | ops.DeformRoIPool, node, c):
    for name in node.inputs[1:]:
        c.pin(name, "it says where to sample")
    return c.placed(node, c.along(node.inputs[0], 1, MIXED))


@_pass.register
def _(op: ops.Reduce, node, c):
    x = c[node.inputs[0]]
    if varies(x, *op.axes):
        if op.function not in ("sum", "mean"):
            return c.refuse(node, f"it is reduced over channels ({op.function})")
        c.inexact.append(Coupled(node, x.reshape(-1)))
        return c.fixed(node.name, NO_CHANNEL)
    return x if op.keep else x.squeeze(op.axes)


@_pass.register
def _(op: ops.Activation | ops.Cast, node, c):
    return c[node.inputs[0]]


@_pass.register(ops.Binary | ops.Compare | ops.Where)
def _elementwise(op: Op, node: Node, c: Coupling) -> Ids:
    """Let operands be one, place by place; what is one for all channels stays as it is."""
    rank = len(node.type.shape)
    values = [name for name in dict.fromkeys(node.inputs) if name not in c.graph.constants]
    if not values:
        return c.fixed(node.name, "it is a constant")
    known = {name: c[name].reshape((1,) * (rank - c[name].ndim) + c[name].shape) for name in values}
    varied = [a for a in range(rank) if any(ids.shape[a] > 1 for ids in known.values())]
    merged = []
    for name, ids in known.items():
        own = c.graph.type(name).shape
        sizes = (1,) * (rank - len(own)) + own
        if any(sizes[axis] == 1 < node.type.shape[axis] for axis in varied):
            c.pin(name, NO_CHANNEL)
        else:
            merged.append(ids)
    if not merged:
        return c.fixed(node.name, MIXED)
    for ids in merged[1:]:
        c.sets.merge(merged[0], ids)
    return np.broadcast_arrays(*merged)[0]


# --------------------------------------------------------------------------------------- moving


@_pass.register
def _(op: ops.Concat, node, c):
    given = [c[name] for name in node.inputs]
    sizes = [c.graph.type(name).shape for name in node.inputs]
    if any(varies(ids, *(i for i in range(ids.ndim) if i != op.axis)) for ids in given):
        for ids in given[1:]:  # the channels lie elsewhere: those of all inputs are one
            c.sets.merge(given[0], ids)
        return given[0] if not varies(given[0], op.axis) else c.refuse(node, MIXED)
    along = [
        c.along(name, op.axis, MIXED) if size[op.axis] > 1 else ids.reshape(-1)
        for name, ids, size in zip(node.inputs, given, sizes, strict=True)
    ]
    return c.placed(node, np.concatenate(along), op.axis)


@_pass.register
def _(op: ops.Slice, node, c):
    x = c[node.inputs[0]]
    return (
        x[(slice(None),) * op.axis + (slice(op.start, op.stop, op.step),)]
        if varies(x, op.axis)
        else x
    )


@_pass.register
def _(op: ops.Gather, node, c):
    x, places = c[node.inputs[0]], c.graph.constants.get(node.inputs[1])
    if places is None or places.numbers is None:
        c.pin(node.inputs[1], "it says which to take")
        return c.refuse(node, "what is taken of it is computed") if varies(x, op.axis) else x
    order, size = places.numbers.astype(int), c.graph.type(node.inputs[0]).shape[op.axis]
    if not varies(x, op.axis):
        return x
    if order.min() < -size or order.max() >= size:
        return c.refuse(node, "places beside it are read")
    return np.take(x, order, op.axis)


@_pass.register
def _(op: ops.Pad, node, c):
    x = c[node.inputs[0]]
    axis = next((a for a in range(x.ndim) if varies(x, a)), None)
    if axis is None or op.pads[axis] == (0, 0):
        return x
    before, after = op.pads[axis]
    if op.mode != "constant" or min(before, after) < 0:
        return c.refuse(node, f"its channels are padded ({op.mode}, {before} and {after})")
    ends = [c.sets.fresh(count) for count in (before, after)]
    return c.placed(node, np.concatenate([ends[0], x.reshape(-1), ends[1]]), axis)


@_pass.register
def _(op: ops.Reshape, node, c):
    x = c[node.inputs[0]]
    if x.size == 1:
        return x.reshape((1,) * len(op.shape))
    return spread(x, c.graph.type(node.inputs[0]).shape).reshape(op.shape)


@_pass.register
def _(op: ops.Permute, node, c):
    return c[node.inputs[0]].transpose(op.axes)


@_pass.register
def _(op: ops.Expand, node, c):
    x = c[node.inputs[0]]
    given = c.graph.type(node.inputs[0]).shape
    lead = len(op.shape) - len(given)
    grown = lead == 0 and len(given) > 1 and given[1] == 1 < op.shape[1]
    if grown and x.size == 1:  # as many as there are channels to meet
        c.pin(node.inputs[0], NO_CHANNEL)
        return c.placed(node, c.sets.fresh(op.shape[1]))
    return x.reshape((1,) * lead + x.shape)
