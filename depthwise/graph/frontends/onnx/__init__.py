"""ONNX files as graphs.

load (the file and its external data) - sizes (inputs, fixed to their shapes) - names (modules of
nodes) - rules, operands (what a rule is given) - convolution, pooling, resizing, resampling,
products, norms, elementwise, movement, shaping (the rules) - known (what is computed when a model
is read) - importer (the walk) - recompose (functions that exporters write out) - read.

The package `onnx` is optional; where it is missing `read_onnx` says what to install.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from depthwise.errors import Unsupported
from depthwise.escaping import in_line
from depthwise.graph.graph import Graph, Shape
from depthwise.graph.ops import Opaque


def read_onnx(
    path: str | PathLike[str], shapes: Sequence[Shape] | Mapping[str, Shape] = ()
) -> Graph:
    """Return the network in an ONNX file as a graph.

    Args:
        path: The file, with any external data beside it; opsets 7 to 28.
        shapes: The shape of each input, in the model's order or by name; needed where the file
            leaves sizes open, as for a batch of any size.

    Raises:
        ValueError: The file is missing, damaged or of an unknown opset, its external data are, or
            the shapes do not fit it or leave sizes open.
        Unsupported: A node's results have no type before it runs: it is of a domain of its own, a
            loop, or gives as many elements as values say. Other nodes that the graph has no
            operator for are Opaque, and `supported` refuses them.
    """
    if find_spec("onnx") is None:
        raise ValueError(f"{path}: reading ONNX needs onnx: pip install 'depthwise[onnx]'")
    from depthwise.graph.frontends.onnx.read import read  # noqa: PLC0415  (onnx is optional)

    return read(Path(path), shapes)


def supported(graph: Graph) -> Graph:
    """Return a graph that was read, or raise Unsupported naming a node that it cannot say."""
    for node in graph:
        if isinstance(node.op, Opaque):
            raise Unsupported(node.op.reason)
    for output in graph.outputs:
        name, type_ = in_line(output.name or output.value), graph.type(output.value)
        if not type_.size:
            raise Unsupported(f"output {name} has the shape {type_.shape}, no elements")
    return graph


__all__ = ["read_onnx", "supported"]
