"""A network in an ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthwise.graph import Shape
from depthwise.graph.frontends.onnx import read_onnx
from depthwise.sources.source import GraphSource


@dataclass(frozen=True, eq=False)
class OnnxSource(GraphSource):
    """An ONNX file, fixed to the shapes of its inputs.

    Attributes:
        path: The file.
        end: What the network ends with where that is earlier than the file; else None.
    """

    path: Path
    end: str | None

    def at(self, shapes: Sequence[Shape]) -> "OnnxSource":
        """Return the same network for inputs of other shapes, where the file leaves them open."""
        return onnx_source(self.path, shapes, self.end)

    def until(self, name: str) -> "OnnxSource":
        """Return the same network, ended with a value, a node or a module."""
        return onnx_source(self.path, self.shapes, name)


def onnx_source(
    path: Path, shapes: Sequence[Shape] = (), until: str | None = None
) -> OnnxSource:  # fmt: skip
    """Return the network in an ONNX file, for inputs of `shapes` where it leaves sizes open."""
    graph = read_onnx(path, shapes, until)
    own = tuple(type_.shape for type_ in graph.inputs.values())
    return OnnxSource(path.stem, own, graph, path, until)
