"""Places of extremes, sorting, running totals, elements taken by their places, unpooling.

Places are computed as float32, which holds whole numbers up to 2**24.
"""

from collections.abc import Callable
from dataclasses import replace

from depthwise.compiler.fused_ops import FloatPlaces
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.calls import KernelCall, Number, Split, by_channels, pixel_strides
from depthwise.compiler.lowering.loops import loops, loops_of, merged, ordered, portions
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.norm import REDUCE
from depthwise.compiler.lowering.pool import planes, sizes, window
from depthwise.compiler.lowering.views import TensorView
from depthwise.errors import Unsupported
from depthwise.graph import Node, ops
from depthwise.graph.dtypes import WHOLE_FLOATS

TAKE_AXES = 6  # of f32_take_along


def check_places(node: Node, count: int) -> None:
    """Raise Unsupported where there are more places than float32 tells apart."""
    if count > WHOLE_FLOATS:
        raise Unsupported(
            f"operator {type(node.op).__name__} in module {node.path or '(the network itself)'!r} "
            f"gives places among {count} elements: libraries tell {WHOLE_FLOATS} apart, take fewer"
        )


def without(view: TensorView, axis: int) -> TensorView:
    """Return the first element of each line along an axis, without that axis."""
    shape, strides = view.shape, view.strides
    return replace(
        view, shape=(*shape[:axis], *shape[axis + 1 :]),
        strides=(*strides[:axis], *strides[axis + 1 :]),
    )  # fmt: skip


def whole_lines(first: TensorView, axis: int, view: TensorView) -> TensorView:
    """Return the lines of `view` along an axis that start at given elements."""
    shape, strides = first.shape, first.strides
    return replace(
        first, shape=(*shape[:axis], view.shape[axis], *shape[axis:]),
        strides=(*strides[:axis], view.strides[axis], *strides[axis:]),
    )  # fmt: skip


def call_lines(
    b: LoweringBuilder, kernel: str, x: TensorView, y: TensorView, axis: int,
    **arguments: Number | TensorView,
) -> None:  # fmt: skip
    """Append a kernel's calls for every line of x along an axis; y has a line or one place for it.

    Lines of an image can be done by rows.
    """
    single = len(y.shape) < len(x.shape)  # one place for each line
    starts, ends = without(x, axis), y if single else without(y, axis)
    step = {} if single else {"y_step": y.strides[axis]}

    def part(first: TensorView, to: TensorView) -> KernelCall:
        axes = merged(ordered(loops_of(to.shape, first.strides, to.strides), operand=1))
        return b.step(
            kernel, **loops(axes, 3, "x", "y"), count=x.shape[axis], x_step=x.strides[axis], **step,
            **arguments, x=whole_lines(first, axis, x),
            y=to if single else whole_lines(to, axis, y),
        )  # fmt: skip

    parts = list(portions(3, starts, ends))
    for some in parts:
        rows = by_image_rows(part, axis, *some) if len(parts) == 1 else None
        b.append(part(*some), rows)


def by_image_rows(
    part: Callable[..., KernelCall], axis: int, first: TensorView, to: TensorView
) -> Split | None:
    """Return the split of lines along an axis of images by rows; None where there are none."""
    if len(first.shape) != 3 or axis == 2:
        return None
    rows = 2 if axis == 3 else 1  # of what is left without the axis

    def at(start: int, count: int) -> KernelCall:
        return part(first.part(rows, start, count), to.part(rows, start, count))

    return Split("rows", first.shape[rows], at) if first.shape[rows] > 1 else None


@lower.register
def _(op: FloatPlaces, node: Node, b: LoweringBuilder) -> None:
    lower(op.op, node, b)


@lower.register
def _(op: ops.ArgReduce, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    check_places(node, x.shape[op.axis])
    places = without(y, op.axis) if op.keep else y
    call_lines(b, "f32_arg_reduce", x, places, op.axis, function=REDUCE.index(op.function))


@lower.register
def _(op: ops.TopK, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    count = x.shape[op.axis]
    check_places(node, count)
    call_lines(
        b, "f32_top_k", x, y, op.axis, largest=int(op.largest),
        places=int(op.result == "indices"), taken=op.count, scratch=b.temporary((4 * count,)),
    )  # fmt: skip


@lower.register
def _(op: ops.Cumulate, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    call_lines(b, "f32_cumulate", x, y, op.axis, function=REDUCE.index(op.function))


@lower.register
def _(op: ops.TakeAlong, node: Node, b: LoweringBuilder) -> None:
    x, index = (b.read(name) for name in node.inputs)
    size, step = x.shape[op.axis], x.strides[op.axis]
    check_places(node, size)
    still = tuple(0 if axis == op.axis else stride for axis, stride in enumerate(x.strides))
    seen = replace(x, shape=index.shape, strides=still)
    for source, places, y in portions(TAKE_AXES, seen, index, b.write(node)):
        axes = loops_of(y.shape, source.strides, places.strides, y.strides)
        b.call(
            "f32_take_along",
            **loops(merged(ordered(axes, operand=2)), TAKE_AXES, "x", "index", "y"), size=size,
            x_step=step, x=spread(source, op.axis, size, step), index=places, y=y,
        )  # fmt: skip


def spread(view: TensorView, axis: int, size: int, stride: int) -> TensorView:
    """Return a view that steps along an axis, where it stood still."""
    sizes, strides = list(view.shape), list(view.strides)
    sizes[axis], strides[axis] = size, stride
    return replace(view, shape=tuple(sizes), strides=tuple(strides))


@lower.register
def _(op: ops.MaxPoolIndices, node: Node, b: LoweringBuilder) -> None:
    x, y = planes(b.read(node.inputs[0])), planes(b.write(node))
    check_places(node, x.shape[2] * x.shape[3])

    def part(x: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "f32_max_pool_indices", **sizes(x, y), **window(op.kernel, op.stride),
            top=op.padding.top, left=op.padding.left, dilation_y=op.dilation[0],
            dilation_x=op.dilation[1], in_=x, out=y,
        )  # fmt: skip

    b.append(part(x, y), by_channels(part, b.target.lanes, x, y))


@lower.register
def _(op: ops.MaxUnpool2d, node: Node, b: LoweringBuilder) -> None:
    x, index = (planes(b.read(name)) for name in node.inputs)
    y = planes(b.write(node))
    check_places(node, op.size[0] * op.size[1])

    def part(x: TensorView, index: TensorView, y: TensorView) -> KernelCall:
        return b.step(
            "f32_max_unpool", **sizes(x, y), **pixel_strides(index=index), in_=x, index=index, out=y
        )

    b.append(part(x, index, y), by_channels(part, b.target.lanes, x, index, y))
