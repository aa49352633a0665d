"""ONNX: a rule an operator (layers, tensors, deform, sequences), names (writer), the file.

Before it, `narrow` gives small integers a type that runtimes compute in.
"""

from importlib.util import find_spec
from os import PathLike

from depthwise.files.given import as_path
from depthwise.graph.graph import Graph
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm


def write_onnx(graph: Graph, path: str | PathLike[str]) -> None:
    """Write a graph to an ONNX file, whole or not at all, once onnx.checker has found it sound.

    Raises ValueError where the package onnx is not installed, Unsupported for an operator that ONNX
    has not, or weights without data.
    """
    if find_spec("onnx") is None:
        raise ValueError(f"{path}: writing ONNX needs onnx: pip install 'depthwise[onnx]'")
    from depthwise.graph.exporters.onnx.convert import convert  # noqa: PLC0415
    from depthwise.graph.exporters.onnx.file import write_model  # noqa: PLC0415
    from depthwise.graph.exporters.onnx.narrow import widen  # noqa: PLC0415

    write_model(convert(widen(recompose_local_response_norm(graph))), as_path(path, "an ONNX file"))


__all__ = ["write_onnx"]
