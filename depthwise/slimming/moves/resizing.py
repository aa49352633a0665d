"""A graph for images of another size: shapes inferred anew, refused where a size is written in."""

from dataclasses import replace
from functools import singledispatch
from math import prod

from depthwise.errors import Unsupported
from depthwise.graph import Graph, Node, Shape, TensorType, check, ops
from depthwise.graph.infer import infer
from depthwise.graph.ops import NO_PADDING, Op


def resize(graph: Graph, height: int, width: int) -> Graph:
    """Return a graph of one input (N, C, H, W) for images of another size.

    Raises:
        Unsupported: Something in it is for images of its own size alone: positions, maps that are
            flattened into a linear layer, fixed windows.
    """
    image = _image(graph)
    n, channels = graph.inputs[image].shape[:2]
    types = {name: known.type for name, known in graph.constants.items()}
    types[image] = replace(graph.inputs[image], shape=(n, channels, height, width))
    nodes = []
    for node in graph:
        try:
            op = _resized(node.op, node, graph, types)
            type_ = infer(op, *(types[name] for name in node.inputs))
            _expect(min(type_.shape, default=1) > 0, "nothing would be left of its map")
        except (ValueError, NotImplementedError) as error:
            raise Unsupported(
                f"{node.path or node.name} is for images of {graph.inputs[image]} alone: {error}"
            ) from error
        nodes.append(replace(node, op=op, type=type_))
        types[node.name] = type_
    for output in graph.outputs:
        if types[output.value].shape != graph.type(output.value).shape:
            raise Unsupported(f"the network's output {output.value} would have another size")
    return check(replace(graph, inputs={image: types[image]}, nodes=tuple(nodes)))


def _image(graph: Graph) -> str:
    """Return the name of the one input, of rank 4."""
    if len(graph.inputs) != 1 or len(next(iter(graph.inputs.values())).shape) != 4:
        raise Unsupported("the network takes something else than images alone")
    return next(iter(graph.inputs))


def _expect(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


@singledispatch
def _resized(op: Op, node: Node, graph: Graph, types: dict[str, TensorType]) -> Op:
    """Return an operator for inputs of other sizes, by default as it is."""
    return op


@_resized.register
def _(op: ops.Opaque, node, graph, types):
    raise ValueError(f"{op.operator} is not known")


@_resized.register
def _(op: ops.AvgPool2d | ops.MaxPool2d, node, graph, types):
    """Let a window of the whole map stay one."""
    before, after = graph.type(node.inputs[0]).shape[-2:], types[node.inputs[0]].shape[-2:]
    if op.kernel == before and op.padding == NO_PADDING:
        divided = getattr(op, "divisor", None)
        _expect(divided is None, f"it divides by {divided}")
        stride = after if op.stride == op.kernel else op.stride
        return replace(op, kernel=(after[0], after[1]), stride=(stride[0], stride[1]))
    return op


@_resized.register
def _(op: ops.Resize, node, graph, types):
    before, after = graph.type(node.inputs[0]).shape[-2:], types[node.inputs[0]].shape[-2:]
    sizes = [(size * new, old) for size, old, new in zip(op.size, before, after, strict=True)]
    whole = not any(size % old for size, old in sizes)
    _expect(whole, f"{after} cannot be resized in the ratio of {before} to {op.size}")
    return replace(op, size=tuple(size // old for size, old in sizes))


@_resized.register
def _(op: ops.Slice, node, graph, types):
    """Let a slice to the end go to the end, and one of an axis of its old size be as it is."""
    before, after = (shape[op.axis] for shape in _shapes(node, graph, types))
    if before == after:
        return op
    _expect(op.stop > before - op.step, f"it takes {op.start} to {op.stop} of {before}")
    return replace(op, stop=after)


@_resized.register
def _(op: ops.Reshape, node, graph, types):
    before, after = _shapes(node, graph, types)
    return replace(op, shape=_reshaped(before, after, op.shape))


@_resized.register
def _(op: ops.Expand, node, graph, types):
    """Let it be of the new size of what it meets, where that had the same shape."""
    met = [
        types[name].shape
        for reader in graph
        if node.name in reader.inputs
        for name in reader.inputs
        if name in types and graph.type(name).shape == node.type.shape
    ]
    return replace(op, shape=met[0]) if met else op


@_resized.register
def _(op: ops.Gather | ops.Resample, node, graph, types):
    before, after = (shape[op.axis] for shape in _shapes(node, graph, types))
    _expect(before == after, f"it reads given places of {before}")
    return op


@_resized.register
def _(op: ops.MaxUnpool2d | ops.DeformRoIPool | ops.GridSample | ops.LayerNorm, node, graph, types):
    before, after = _shapes(node, graph, types)
    alone = isinstance(op, ops.LayerNorm) and op.axes == 1
    _expect(before == after or alone, f"{type(op).__name__} has a size of its own")
    return op


def _shapes(node: Node, graph: Graph, types: dict[str, TensorType]) -> tuple[Shape, Shape]:
    """Return the shape of what a node reads, before and after."""
    return graph.type(node.inputs[0]).shape, types[node.inputs[0]].shape


def _reshaped(before: Shape, after: Shape, target: Shape) -> Shape:
    """Return to what a shape is reshaped that was `before` and is `after` now.

    Axes are split and merged in runs of equal products. Where the sizes of a run have changed, what
    is merged into one axis follows, and of an axis that is split, the first part.
    """
    result: list[int] = []
    start = at = 0
    for stop in range(1, len(target) + 1):
        size, end = prod(target[start:stop]), at
        while end < len(before) and prod(before[at:end]) < size:
            end += 1
        while end < len(before) and before[end] == 1 and stop == len(target):
            end += 1
        if prod(before[at:end]) != size:
            continue
        old, new, run = before[at:end], after[at:end], target[start:stop]
        if old == new:
            result += run
        elif len(run) == 1:
            result.append(prod(new))
        elif len(old) == 1 and new[0] % prod(run[1:]) == 0:
            result += [new[0] // prod(run[1:]), *run[1:]]
        else:
            raise ValueError(f"{old} is reshaped to {run}")
        start, at = stop, end
    return tuple(result)
