"""What moves, chooses and sorts elements, in PyTorch."""

from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import ops
from depthwise.graph.exporters.torch.axes import Axes, OpenSize, is_batch, is_open
from depthwise.graph.exporters.torch.rules import NodeSite, Sized, TensorFunction, function_of


def sized(axes: Axes, function) -> Sized:
    """Return a function of a tensor and of the shape that axes have when it is run."""
    parts = [part for axis in axes for part in axis]
    sizes = tuple(dict.fromkeys(part for part in parts if isinstance(part, OpenSize)))

    def compute(x: Tensor, *found: int) -> Tensor:
        known = dict(zip(sizes, found, strict=True))
        shape = []
        for axis in axes:
            size = 1
            for part in axis:
                size = size * (known[part] if isinstance(part, OpenSize) else part)
            shape.append(size)
        return function(x, shape)

    return Sized(compute, sizes)


@function_of.register
def _(op: ops.Reshape, site):  # noqa: ARG001
    return sized(site.axes, torch.reshape)


@function_of.register
def _(op: ops.Expand, site):  # noqa: ARG001
    return sized(site.axes, lambda x, shape: x.expand(shape))


@function_of.register
def _(op: ops.Permute, site):  # noqa: ARG001
    return lambda x: x.permute(op.axes)


@function_of.register
def _(op: ops.Concat, site):
    """Join; what is the same for all images is repeated for each of them."""
    images = next((i for i, axis in enumerate(site.axes) if is_batch(axis)), None)
    single = [images is not None and not is_batch(axes[images]) for axes in site.read]
    if not any(single):
        return lambda *inputs: torch.cat(inputs, op.axis)
    assert images is not None
    one = next(i for i, alone in enumerate(single) if not alone)

    def join(*inputs):
        count = inputs[one].shape[images]
        repeated = (
            x.repeat([count // x.shape[i] if i == images else 1 for i in range(x.ndim)])
            if alone else x
            for x, alone in zip(inputs, single, strict=True)
        )  # fmt: skip
        return torch.cat(tuple(repeated), op.axis)

    return join


NEAR = 3  # elements before the end: a slice that ends there is meant to leave them out


@function_of.register
def _(op: ops.Slice, site):
    """Slice; to the end, or to a place near it, where the size of the axis is open."""
    size = site.shapes[0][op.axis]
    left = size - op.stop
    near = left <= NEAR and 2 * left < size - op.start and is_open(site.read[0][op.axis])
    stop = op.stop if left and not near else -left or None
    place = (*(slice(None) for _ in range(op.axis)), slice(op.start, stop, op.step))
    if left and not near:
        return of_one_size(site, op.axis, lambda x: x[place])
    return lambda x: x[place]


def of_one_size(site: NodeSite, axis: int, function: TensorFunction) -> TensorFunction:
    """Return a function that refuses other sizes of an axis than the graph's, where it is open."""
    if not is_open(site.read[0][axis]) or is_batch(site.read[0][axis]):
        return function
    size, name = site.shapes[0][axis], site.node.name

    def checked(x, *others):
        if x.shape[axis] != size:
            raise ValueError(
                f"{name} ({type(site.node.op).__name__}) takes places of an axis of {size} that "
                f"were fixed when the network was captured, and there are {x.shape[axis]}: give "
                "images of the size it was captured with, or capture it with these"
            )
        return function(x, *others)

    return checked


@function_of.register
def _(op: ops.Gather, site):
    size, known = site.shapes[0][op.axis], site.constants[1]
    if known is not None and known.numbers is not None:
        whole = known.numbers.dtype.kind in "iu"
        if whole and (known.numbers >= 0).all() and (known.numbers < size).all():
            select = lambda x, indices: torch.index_select(x, op.axis, indices)  # noqa: E731
            return of_one_size(site, op.axis, select)

    def gather(x, indices):
        size = x.shape[op.axis]
        there = (indices > -1 - size) & (indices < size)
        places = torch.where(there, indices, 0).to(torch.int64) % size
        y = torch.index_select(x, op.axis, places)
        if not x.is_floating_point():
            return y
        shape = [-1 if axis == op.axis else 1 for axis in range(x.ndim)]
        return torch.where(there.view(shape), y, torch.nan)

    return of_one_size(site, op.axis, gather)


@function_of.register
def _(op: ops.TakeAlong, site):
    images = [is_batch(axis) for axis in site.axes]

    def take(x, indices):
        counts = (max(a, b) for a, b in zip(x.shape, indices.shape, strict=True))
        shape = [n if batch else -1 for n, batch in zip(counts, images, strict=True)]
        return torch.gather(x.expand(shape), op.axis, indices.expand(shape))

    return take


NP_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@function_of.register
def _(op: ops.Pad, site):
    rank = len(op.pads)
    flat = tuple(chain.from_iterable(reversed(op.pads)))  # PyTorch has the last axis first
    if op.mode == "constant":
        while flat and flat[-2:] == (0, 0):
            flat = flat[:-2]
        if site.node.type.dtype == "bool":
            return lambda x: F.pad(x.to(torch.uint8), flat, value=op.value).to(torch.bool)
        return lambda x: F.pad(x, flat, value=op.value)
    planes = rank in (3, 4) and not any(chain.from_iterable(op.pads[:-2])) and min(flat) >= 0
    if planes and site.inputs[0].element.is_floating:
        return lambda x: F.pad(x, flat[:4], op.mode)

    def pad(x):
        for axis, (before, after) in enumerate(op.pads):
            if before or after:
                places = np.arange(max(0, -before), x.shape[axis] - max(0, -after))
                grown = (max(0, before), max(0, after))
                places = np.pad(places, grown, mode=NP_MODES[op.mode])  # type: ignore[call-overload]
                x = torch.index_select(x, axis, torch.from_numpy(places).to(x.device))
        return x

    return pad


# ------------------------------------------------------------------------------------- selection


@function_of.register
def _(op: ops.ArgReduce, site):  # noqa: ARG001
    find = torch.argmax if op.function == "max" else torch.argmin
    return lambda x: find(x, op.axis, keepdim=op.keep)


@function_of.register
def _(op: ops.TopK, site):
    """Sort, for topk has no order of equal ones; all of an axis whose size is open stay."""
    whole = op.count == site.shapes[0][op.axis]
    which = 0 if op.result == "values" else 1

    def take(x):
        found = torch.sort(x, dim=op.axis, descending=op.largest, stable=True)[which]
        return found if whole else found.narrow(op.axis, 0, op.count)

    return take


CUMULATE = {
    "sum": torch.cumsum, "product": torch.cumprod,
    "max": lambda x, axis: torch.cummax(x, axis)[0],
    "min": lambda x, axis: torch.cummin(x, axis)[0],
}  # fmt: skip


@function_of.register
def _(op: ops.Cumulate, site):
    cumulate, dtype = CUMULATE[op.function], getattr(torch, site.node.type.dtype)
    return lambda x: cumulate(x, op.axis).to(dtype)
