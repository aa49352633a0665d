"""Sums and products of bytes whose operands have unlike shapes: the smaller one is repeated."""

from depthwise.graph import Graph, Node, Shape, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.quantization.integer_ops import IntegerAdd, IntegerMultiply


def repeat_operands(graph: Graph) -> Graph:
    """Return the graph with operands that kernels read as they are: of the result's shape.

        add(x (N, C, H, W), y (N, 1, H, W))  ->  add(x, expand(y, (N, C, H, W)))

    Of an operand with one number for each plane, as a gate is, that is (N, C, 1, 1).
    """
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, IntegerAdd | IntegerMultiply):
            one, other = (edit.type(name).shape for name in node.inputs)
            shapes = (_wanted(node.type.shape, one, other), _wanted(node.type.shape, other, one))
            inputs = [
                _repeated(edit, node, name, shape)
                for name, shape in zip(node.inputs, shapes, strict=True)
            ]
            if tuple(inputs) != node.inputs:
                edit.replace(node, node.op, *inputs)
    return edit.result()


def is_of_planes(shape: Shape, whole: Shape) -> bool:
    """Tell whether a shape has one number for each plane of images (N, C, H, W)."""
    return len(whole) == 4 and shape == (*whole[:2], 1, 1)


def _wanted(result: Shape, own: Shape, other: Shape) -> Shape:
    """Return the shape that an operand is to have beside another one."""
    planes = len(result) == 4 and other == result and (1, 1, *own)[-2:] == (1, 1)
    return (*result[:2], 1, 1) if planes else result


def _repeated(edit: GraphRewriter, node: Node, name: str, shape: Shape) -> str:
    """Return the value that has the numbers of another one, repeated to a shape."""
    own = edit.type(name).shape
    if own == shape:
        return name
    if len(own) < len(shape):
        own = ((1,) * len(shape) + own)[-len(shape) :]
        name = edit.insert(node, f"{name}.reshaped", ops.Reshape(own), name, path=node.path)
    if own == shape:
        return name
    return edit.insert(node, f"{name}.repeated", ops.Expand(shape), name, path=node.path)
