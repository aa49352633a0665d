"""ONNX: a rule an operator (layers, tensors, deform), nodes and their names (writer), the file."""

from os import PathLike
from pathlib import Path

from depthwise.graph.graph import Graph
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm


def export_onnx(graph: Graph, path: str | PathLike[str]) -> None:
    """Write a graph to an ONNX file; see `dw.export_onnx`, which takes any network.

    Raises ValueError where onnx is not installed, Unsupported for what ONNX cannot say.
    """
    try:
        from depthwise.graph.exporters.onnx.export import export_graph  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ValueError("export to ONNX needs onnx: pip install 'depthwise[onnx]'") from None
    export_graph(recompose_local_response_norm(graph), Path(path))
