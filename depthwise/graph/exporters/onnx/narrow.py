"""Booleans and integers of 8 and 16 bits computed as int32, which runtimes have kernels for."""

from collections.abc import Iterator
from dataclasses import replace

from depthwise.graph import ops
from depthwise.graph.graph import Graph, Node
from depthwise.graph.names import take_name

NARROW, WIDE = ("bool", "int8", "uint8", "int16"), "int32"
COMPUTING = (
    ops.Activation, ops.Binary, ops.Compare, ops.Reduce, ops.ArgReduce, ops.TopK, ops.Cumulate,
    ops.MatMul, ops.Where, ops.Pad,
)  # fmt: skip


def widen(graph: Graph) -> Graph:
    """Compute in int32 what ONNX, or ONNX Runtime, has for no narrower type.

        y = negative(x) (uint8)  ->  y = cast(negative(cast(x, int32)), uint8)

    The conversion back leaves the last bits, as the arithmetic of a narrow type does.
    """
    names = graph.names()
    nodes = [made for node in graph for made in _widened(graph, node, names)]
    return replace(graph, nodes=tuple(nodes)) if len(nodes) > len(graph.nodes) else graph


def _widened(graph: Graph, node: Node, names: set[str]) -> Iterator[Node]:
    """Yield what computes a node: itself, or between conversions."""
    kept = node.inputs[: isinstance(node.op, ops.Where)]  # the condition
    read = node.inputs[len(kept) :]
    narrow = [name for name in dict.fromkeys(read) if graph.type(name).dtype in NARROW]
    if not narrow or not isinstance(node.op, COMPUTING) or _has_logic(graph, node):
        yield node
        return
    wide = {name: take_name(f"{node.name}.{name}", names) for name in narrow}
    for name, made in wide.items():
        type_ = replace(graph.type(name), dtype=WIDE)
        yield replace(node, name=made, op=ops.Cast(WIDE), inputs=(name,), type=type_)
    computed = replace(node, inputs=(*kept, *(wide.get(name, name) for name in read)))
    if node.type.dtype not in NARROW or isinstance(node.op, ops.Compare):
        yield computed
        return
    inner = take_name(f"{node.name}.{WIDE}", names)
    yield replace(computed, name=inner, type=replace(node.type, dtype=WIDE))
    yield replace(node, op=ops.Cast(node.type.dtype), inputs=(inner,))


def _has_logic(graph: Graph, node: Node) -> bool:
    """Tell whether ONNX has the operator for booleans: Or, And, Equal."""
    booleans = all(graph.type(name).dtype == "bool" for name in node.inputs)
    equal = isinstance(node.op, ops.Compare) and node.op.function in ("equal", "not_equal")
    return booleans and (isinstance(node.op, ops.Binary) or equal)
