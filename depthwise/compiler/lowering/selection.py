"""Places of extremes, sorting, running totals, elements taken by their places, unpooling.

Places are computed as float32, which holds whole numbers up to 2**24.
"""

from collections.abc import Iterator
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

MOST_PLACES = 2**24
TAKE_AXES = 6  # of f32_take_along


def check_places(node: Node, count: int) -> None:
    """Raise Unsupported where there are more places than float32 tells apart."""
    if count > MOST_PLACES:
        raise Unsupported(
            f"operator {type(node.op).__name__} in module {node.path or '(the network itself)'!r} "
            f"gives places among {count} elements: libraries tell {MOST_PLACES} apart, take fewer"
        )


def without(view: TensorView, axis: int) -> TensorView:
    """Return the first element of each line along an axis, without that axis."""
    shape, strides = view.shape, view.strides
    return replace(
        view, shape=(*shape[:axis], *shape[axis + 1 :]),
        strides=(*strides[:axis], *strides[axis + 1 :]),
    )  # fmt: skip


def lines(
    *views: TensorView,
) -> Iterator[tuple[dict[str, tuple[int, ...]], TensorView, TensorView]]:
    """Yield the kernels' three loops over lines of x and y, and where these start."""
    for x, y in portions(3, *views):
        axes = merged(ordered(loops_of(x.shape, x.strides, y.strides), operand=1))
        yield loops(axes, 3, "x", "y"), x, y


def rows_of(shape: tuple[int, ...], axis: int) -> int | None:
    """Return the axis of rows among those that are left of an image without `axis`, if any."""
    return {1: 1, 3: 2}.get(axis) if len(shape) == 4 and shape[2] > 1 else None


def call_lines(
    b: LoweringBuilder, kernel: str, x: TensorView, y: TensorView, axis: int,
    **arguments: Number | TensorView,
) -> None:  # fmt: skip
    """Append a kernel's calls for every line of x along an axis; y has one place for each.

    Lines of an image can be done by rows.
    """
    starts, rows = without(x, axis), rows_of(x.shape, axis)
    for n, first, to in lines(starts, y):
        step = b.step(kernel, **n, x_step=x.strides[axis], **arguments, x=first, y=to)

        def part(start: int, count: int) -> KernelCall:
            assert rows is not None
            ((n, first, to),) = lines(starts.part(rows, start, count), y.part(rows, start, count))
            return b.step(kernel, **n, x_step=x.strides[axis], **arguments, x=first, y=to)

        whole = rows is not None and first.shape == starts.shape
        b.append(step, Split("rows", x.shape[2], part) if whole else None)


@lower.register
def _(op: FloatPlaces, node: Node, b: LoweringBuilder) -> None:
    lower(op.op, node, b)


@lower.register
def _(op: ops.ArgReduce, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    check_places(node, x.shape[op.axis])
    call_lines(
        b, "f32_arg_reduce", x, without(y, op.axis) if op.keep else y, op.axis,
        function=REDUCE.index(op.function), count=x.shape[op.axis],
    )  # fmt: skip


@lower.register
def _(op: ops.TopK, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    count = x.shape[op.axis]
    check_places(node, count)
    call_lines(
        b, "f32_top_k", x, without(y, op.axis), op.axis, largest=int(op.largest),
        places=int(op.result == "indices"), count=count, taken=op.count, y_step=y.strides[op.axis],
        scratch=b.temporary((2 * count,)),
    )  # fmt: skip


@lower.register
def _(op: ops.Cumulate, node: Node, b: LoweringBuilder) -> None:
    x, y = b.read(node.inputs[0]), b.write(node)
    call_lines(
        b, "f32_cumulate", x, without(y, op.axis), op.axis, function=REDUCE.index(op.function),
        count=x.shape[op.axis], y_step=y.strides[op.axis],
    )  # fmt: skip


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
            x_step=step, x=source, index=places, y=y,
        )  # fmt: skip


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
