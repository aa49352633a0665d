"""A network in an ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from depthwise.graph import Graph, Shape, interpret
from depthwise.graph.frontends.onnx import read_onnx, supported
from depthwise.sources.source import Arrays, Source


@dataclass(frozen=True, eq=False)
class OnnxSource(Source):
    """An ONNX file, fixed to the shapes of its inputs.

    Attributes:
        path: The file.
        given: What was read from it.
    """

    path: Path
    given: Graph

    @cached_property
    def traced(self) -> Graph:
        """The network to be counted: operators that we do not know are Opaque nodes."""
        return self.given

    @cached_property
    def graph(self) -> Graph:
        """The network as a graph. Raises Unsupported where it cannot be compiled."""
        return supported(self.given)

    def at(self, shapes: Sequence[Shape]) -> "OnnxSource":
        """Return the same network for inputs of other shapes, where the file leaves them open."""
        return onnx_source(self.path, shapes)

    def run(self, inputs: Arrays) -> Arrays:
        """Return what our interpreter computes."""
        values = interpret(self.graph, *inputs)
        return [values[output.value] for output in self.graph.outputs]


def onnx_source(path: Path, shapes: Sequence[Shape] = ()) -> OnnxSource:
    """Return the network in an ONNX file, for inputs of `shapes` where it leaves sizes open."""
    graph = read_onnx(path, shapes)
    own = tuple(type_.shape for type_ in graph.inputs.values())
    return OnnxSource(path.stem, own, path, graph)
