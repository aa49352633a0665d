"""The axes that a kernel's nest of loops runs over: dropped, ordered and merged from views."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from depthwise.compiler.lowering.calls import Number
from depthwise.compiler.lowering.views import TensorView
from depthwise.errors import Unsupported
from depthwise.graph import Shape


class TooManyAxes(Unsupported):
    """A kernel has fewer loops than a call would need; lowering adds the module's name."""


@dataclass(frozen=True)
class Loop:
    """One loop: how often it runs, and how far each operand moves with a step, in floats."""

    size: int
    strides: tuple[int, ...]


Loops = list[Loop]

COPY_AXES = 6  # of f32_copy


def loops_of(shape: Shape, *operands: Shape) -> Loops:
    """Return the axes of other than one element, from each operand's strides along `shape`."""
    return [
        Loop(size, strides)
        for size, *strides in zip(shape, *operands, strict=True)
        if size != 1
        for strides in [tuple(strides)]
    ]


def ordered(axes: Loops, operand: int) -> Loops:
    """Return the axes with those first along which an operand takes the longest steps."""
    return sorted(axes, key=lambda axis: -axis.strides[operand])


def merged(axes: Loops) -> Loops:
    """Return fewer axes: two neighbours become one where every operand steps evenly over both."""
    result: Loops = []
    for axis in axes:
        outer = result[-1] if result else None
        if outer and outer.strides == tuple(axis.size * stride for stride in axis.strides):
            result[-1] = Loop(outer.size * axis.size, axis.strides)
        else:
            result.append(axis)
    return result


def portions(rank: int, *views: TensorView) -> Iterator[tuple[TensorView, ...]]:
    """Yield views of one shape in parts that `rank` loops run over, in most cases as they are.

    They are cut along the shortest axis, one element at a time.
    """
    shape = views[-1].shape
    axes = loops_of(shape, *(view.strides for view in views))
    if len(merged(ordered(axes, operand=len(views) - 1))) <= rank:
        yield views
        return
    _, cut = min((size, axis) for axis, size in enumerate(shape) if size != 1)
    for i in range(shape[cut]):
        yield from portions(rank, *(view.part(cut, i, 1) for view in views))


def loops(axes: Loops, rank: int, *operands: str) -> dict[str, tuple[int, ...]]:
    """Return `rank` sizes, "n", and each operand's strides, with axes of one element before.

    Raises TooManyAxes where there are more.
    """
    if len(axes) > rank:
        raise TooManyAxes(f"{len(axes)} axes that do not merge, where its kernel has {rank}")
    full = [Loop(1, (0,) * len(operands))] * (rank - len(axes)) + axes
    strides = {
        f"{name}_stride": tuple(axis.strides[i] for axis in full) for i, name in enumerate(operands)
    }
    return {"n": tuple(axis.size for axis in full), **strides}


def run_loops(axes: Loops, *operands: str) -> dict[str, Number]:
    """Return three sizes, the `count` of a packed run, and each operand's three strides.

    Where the last axis is not packed in all operands, a run is one element.
    """
    packed = bool(axes) and axes[-1].strides == (1,) * len(operands)
    outer, run = (axes[:-1], axes[-1].size) if packed else (axes, 1)
    return {**loops(outer, 3, *operands), "count": run}


def copy_loops(shape: Shape, source: Shape, target: Shape) -> dict[str, tuple[int, ...]]:
    """Return what f32_copy takes besides its pointers, for strides of a source and a target.

    The axis along which the target is packed comes last, and next to it the one along which the
    source is: the kernel copies, or transposes, planes of these two.
    """
    axes = merged(ordered(loops_of(shape, source, target), operand=1))
    if axes and axes[-1].strides[0] != 1:
        packed = [axis for axis in axes[:-1] if axis.strides[0] == 1]
        rest = [axis for axis in axes[:-1] if axis not in packed]
        axes = [*rest, *packed, axes[-1]]
    return loops(axes, COPY_AXES, "x", "y")


def broadcast(shape: Shape, strides: Shape, target: Shape) -> Shape:
    """Return strides along `target` of a value that NumPy's rules repeat to it: 0 where it is."""
    missing = len(target) - len(shape)
    own = (0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
    return ((0,) * missing) + tuple(own)


def strides_in_order(shape: Shape, order: Sequence[int]) -> Shape:
    """Return the strides of a packed value whose axes lie in `order`, the last innermost."""
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
