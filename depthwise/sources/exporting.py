"""`dw.export_onnx`: whatever `dw.open` takes, as an ONNX file."""

from os import PathLike
from typing import TYPE_CHECKING

from depthwise.graph import Shape
from depthwise.graph.exporters import onnx
from depthwise.sources.opening import open

if TYPE_CHECKING:
    from depthwise.sources.opening import Network


def export_onnx(net: "Network", path: str | PathLike[str], *shapes: Shape) -> None:
    """Write a network to an ONNX file, whole or not at all, once onnx.checker found it sound.

    Nodes are named after the network's modules, weights as in the state dict; inputs and outputs
    keep their names (an output without one is "output"). More than 2 GB of weights go to a second
    file beside it, `path` with .data added. Needs the package onnx: pip install 'depthwise[onnx]'.

    Args:
        net: A module, an ExportedProgram, a graph, or whatever else `dw.open` takes or returns.
        path: The file to write; one that is there is replaced.
        *shapes: The shape of each input, (N, C, H, W); left out where the network brings its own.

    Raises:
        ValueError: Shapes or a file that do not fit, or onnx is not installed.
        Unsupported: The operator is named that cannot be captured, or that ONNX cannot say.
    """
    onnx.export_onnx(open(net, *shapes).graph, path)
