"""ONNX: a rule an operator (layers, tensors, deform), nodes and their names (writer), the file."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from depthwise.graph.frontends.any import as_graph
from depthwise.graph.graph import Shape
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm

if TYPE_CHECKING:
    from depthwise.graph.frontends.any import Network


def export_onnx(net: "Network", path: str | PathLike[str], *shapes: Shape) -> None:
    """Write a network to an ONNX file, whole or not at all, once onnx.checker found it sound.

    Nodes are named after the network's modules, weights as in the state dict; inputs and outputs
    keep their names (an output without one is "output"). More than 2 GB of weights go to a second
    file beside it, `path` with .data added. Needs the package onnx: pip install 'depthwise[onnx]'.

    Args:
        net: A module, an ExportedProgram, the path of a .pt2 file or of a saved graph, or a graph.
        path: The file to write; one that is there is replaced.
        *shapes: The shape of each input, (N, C, H, W); only a module needs them.

    Raises:
        ValueError: Shapes or a file that do not fit, or onnx is not installed.
        Unsupported: The operator is named that cannot be captured, or that ONNX cannot say.
    """
    try:
        from depthwise.graph.exporters.onnx.export import export_graph  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ValueError("export to ONNX needs onnx: pip install 'depthwise[onnx]'") from None
    export_graph(recompose_local_response_norm(as_graph(net, *shapes)), Path(path))
