"""`dw.export_onnx`: whatever names or holds a network, as an ONNX file."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from depthwise.graph import NO_KWARGS, Graph
from depthwise.graph.exporters.onnx import write_onnx
from depthwise.sources.opening import open
from depthwise.sources.source import Source, TorchSource

if TYPE_CHECKING:
    from depthwise.sources.opening import Network


def export_onnx(
    net: "Network", path: str | PathLike[str], *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS
) -> None:
    """Write a network to an ONNX file, whole or not at all, once onnx.checker has found it sound.

    Nodes are named after the network's modules, weights as in the state dict; inputs and outputs
    keep their names (an output without one is "output", one within others has its path:
    "boxes.0"). More than 2 GB of weights go to a second file beside it, `path` with .data added.
    Needs the package onnx: pip install 'depthwise[onnx]'.

    Args:
        net: A module, an ExportedProgram, a graph, or whatever `dw.open` takes or returns.
        path: The file to write; one that is there is replaced.
        shapes: The shape of each input, (N, C, H, W); left out where the network brings its own.
        kwargs: Those of arguments that are given by name, as `dw.open` takes.

    Raises:
        ValueError: A network, shapes or a file that cannot be used, or onnx is not installed.
        Unsupported: The message names the operator that cannot be captured, or that ONNX has not.
    """
    write_onnx(graph_to_write(open(net, *shapes, kwargs=kwargs)), path)


def graph_to_write(source: Source) -> Graph:
    """Return a network as a graph that is not going to be compiled: of any types of elements.

    Raises Unsupported for a module that is no function of its inputs.
    """
    return source.graph if isinstance(source, TorchSource) else source.traced
