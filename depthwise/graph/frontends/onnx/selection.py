"""What selects elements in ONNX: places of extremes, sorting, running totals, unpooling."""

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.planes import as_given, as_images, pair, sides
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.frontends.places import taken


@rule("ArgMax", "ArgMin")
def _(n: Operands, *, axis=0, keepdims=1, select_last_index=0):
    refuse(select_last_index, "it takes the last of equal elements (select_last_index=1)")
    function = "max" if n.node.op_type == "ArgMax" else "min"
    return n.emit(ops.ArgReduce(function, n.axis(n[0], axis), bool(keepdims)), n[0])


@rule("Hardmax")
def _(n: Operands, *, axis=None):
    """One at the first of the largest, zeros elsewhere; before opset 13 as Softmax takes axes."""
    x = n[0]
    first = n.axis(x, axis if axis is not None else -1 if n.opset >= 13 else 1)
    if n.opset < 13:
        before = int(np.prod(x.shape[:first]))
        x, first = n.reshape(x, before, x.type.size // before), 1
    place = n.emit(ops.ArgReduce("max", first, True), x)
    numbers = np.arange(x.shape[first]).reshape(-1, *(1,) * (x.rank - first - 1))
    holds = n.emit(ops.Compare("equal"), place, n.constant(numbers, place))
    return n.reshape(n.emit(ops.Cast(x.type.dtype), holds), *n[0].shape)


@rule("TopK")
def _(n: Operands, *, k=None, axis=-1, largest=1, sorted=1):
    """In order also where none is asked for; the count was an attribute before opset 10."""
    del sorted
    count, along = k or n.ints(1)[0], n.axis(n[0], axis)
    refuse(not 1 <= count <= n[0].shape[along], f"it takes {count} elements of {n[0].shape[along]}")
    return [
        n.emit(ops.TopK(along, count, bool(largest), "values"), n[0]) if n.wants(0) else None,
        n.emit(ops.TopK(along, count, bool(largest), "indices"), n[0]) if n.wants(1) else None,
    ]


@rule("CumSum", "CumProd")
def _(n: Operands, *, exclusive=0, reverse=0):
    """An exclusive total lacks its own element: it is the one before, at first 0 or 1."""
    function = "sum" if n.node.op_type == "CumSum" else "product"
    axis = n.axis(n[0], n.ints(1)[0])
    last_first = np.arange(n[0].shape[axis])[::-1]

    def turned(x: Value) -> Value:
        return taken(n.source.builder, x, axis, last_first) if reverse else x

    y = n.emit(ops.Cumulate(function, axis), turned(n[0]))
    if exclusive:
        pads = tuple((1, -1) if other == axis else (0, 0) for other in range(y.rank))
        y = n.emit(ops.Pad(pads, "constant", float(function == "product")), y)
    return turned(y)


def first_places(n: Operands, places: Value, pixels: int) -> Value:
    """Return (N, C, 1, 1): the place of each plane's first pixel, where planes follow each other.

    ONNX counts places through the whole tensor, the graph in each plane.
    """
    images, channels = places.shape[:2]
    starts = np.arange(images * channels) * pixels
    return n.constant(starts.reshape(images, channels, 1, 1), places)


@rule("MaxUnpool")
def _(n: Operands, *, kernel_shape, strides=None, pads=None):
    """Places are in planes as the pooling read them; a larger output has zeros after them."""
    x, places = as_images(n, n[0]), as_images(n, n[1])
    (kernel_y, kernel_x), (down, right) = pair(kernel_shape), pair(strides)
    top, bottom, left, other = sides(pads) if pads else (0, 0, 0, 0)
    height = (x.shape[2] - 1) * down + kernel_y - top - bottom
    width = (x.shape[3] - 1) * right + kernel_x - left - other
    places = n.binary("subtract", places, first_places(n, places, height * width))
    y = n.emit(ops.MaxUnpool2d((height, width)), x, places)
    if n.has(2):
        wanted_height, wanted_width = pair(n.ints(2)[2:])
        more = wanted_height - height, wanted_width - width
        refuse(min(more) < 0, f"it cuts planes of {height} x {width} to {n.ints(2)[2:]}")
        if any(more):
            pads = ((0, 0), (0, 0), (0, more[0]), (0, more[1]))
            y = n.emit(ops.Pad(pads, "constant"), y)
    return as_given(n, y, n[0])
