"""From our graph to ONNX's, node by node."""

from depthwise.errors import Unsupported
from depthwise.graph.exporters.onnx import (  # noqa: F401  (they register themselves)
    choices,
    conversions,
    deform,
    layers,
    selection,
    sequences,
    tensors,
)
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.writer import NodeWriter, OnnxGraph
from depthwise.graph.graph import Graph


def convert(graph: Graph) -> OnnxGraph:
    """Return the graph in ONNX's operators.

    Raises Unsupported for an operator that ONNX has not, or weights without data.
    """
    written = OnnxGraph(graph)
    returned = {o.value: name for o, name in zip(graph.outputs, written.outputs, strict=True)}
    read = {name for node in graph for name in node.inputs} | set(returned)
    for name, constant in graph.constants.items():
        if constant.data is None:
            raise Unsupported(
                f"{name} has no data: the network was captured on the meta device; build it on the "
                "CPU and load weights into it first"
            )
        if name in read:
            written.tensors[written.values[name]] = constant
    for node in graph:
        writer = NodeWriter(written, node)
        result = write(node.op, writer, *(written.values[name] for name in node.inputs))
        written.values[node.name] = returned.get(node.name) or writer.name
        writer.finish(result, written.values[node.name])
    for output, name in zip(graph.outputs, written.outputs, strict=True):
        if written.values[output.value] != name:  # an input, a constant, or returned twice
            written.add("Identity", [written.values[output.value]], name)
    return written
