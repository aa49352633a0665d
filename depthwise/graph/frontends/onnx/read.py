"""The whole road from a file to a graph; the rules are registered by their import."""

from pathlib import Path

from depthwise.graph.check import check
from depthwise.graph.frontends.onnx import (  # noqa: F401  (they register their rules)
    choices,
    convolution,
    elementwise,
    indexing,
    movement,
    norms,
    pooling,
    products,
    quantized,
    recurrent,
    resizing,
    sampling,
    selection,
    shaping,
)
from depthwise.graph.frontends.onnx.importer import Importer
from depthwise.graph.frontends.onnx.load import load, opset_of
from depthwise.graph.frontends.onnx.recompose import recompose
from depthwise.graph.frontends.onnx.sizes import Shapes, input_types
from depthwise.graph.graph import Graph


def read(path: Path, shapes: Shapes) -> Graph:
    """Return the graph of the model in a file; see `read_onnx`."""
    model = load(path)
    types = input_types(model.graph, shapes)
    return check(recompose(Importer(model, opset_of(model, path), types).graph))
