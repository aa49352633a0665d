"""ONNX files as graphs.

load (the file and its external data) - element_types - sizes (inputs, fixed to their shapes) -
names (modules of nodes) - rules, operands (what a rule is given) - convolution, pooling, recurrent,
sampling, resizing, resampling, products, norms, elementwise, choices, movement, indexing, shaping,
quantized (the rules) - known (what is computed when a model is read) - inference (what ONNX says of
a node) - importer (the walk) - until (where it ends) - recompose (functions that exporters write
out) - read.

The package `onnx` is optional; where it is missing `read_onnx` says what to install.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from os import PathLike

from depthwise.files.given import as_path
from depthwise.graph.graph import Graph, Shape


def read_onnx(
    path: str | PathLike[str], shapes: Sequence[Shape] | Mapping[str, Shape] = (),
    until: str | None = None,
) -> Graph:  # fmt: skip
    """Return the network in an ONNX file as a graph.

    Args:
        path: The file, with any external data beside it; opsets 7 to 28.
        shapes: The shape of each input, in the model's order or by name; needed where the file
            leaves sizes open, as for a batch of any size.
        until: A value, a node or a module that the network is to end with; the rest is not read.

    Raises:
        ValueError: The file is missing, damaged or of an unknown opset, its external data are, or
            the shapes do not fit it or leave sizes open, or nothing is named `until`.
        Unsupported: A node's results have no type before it runs: it is of a domain of its own, a
            loop, or gives as many elements as values say. Other nodes that the graph has no
            operator for are Opaque, and refused when the graph is compiled.
    """
    if find_spec("onnx") is None:
        raise ValueError(f"{path}: reading ONNX needs onnx: pip install 'depthwise[onnx]'")
    from depthwise.graph.frontends.onnx.read import read  # noqa: PLC0415  (onnx is optional)

    return read(as_path(path, "an ONNX file"), shapes, until)


__all__ = ["read_onnx"]
